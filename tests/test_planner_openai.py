"""The OpenAI-compatible backend against a server that is a function."""

import base64
import io
import json

import httpx
import numpy as np
import pytest
from PIL import Image
from planner_models import make_request

from bridge.messages import Intent
from bridge.planning import PlanAnswer, PlanError
from planner.backends.openai_backend import OpenAIBackend
from planner.prompt import render_prompt

TEXT = "I see a road.\nintent follow_lane none\npath 0 0 1 1 2 2 3 3\nspeed 1.2 1.0"


class Server:
    """Answers every chat with `reply(body)`; keeps the bodies."""

    def __init__(self, reply=lambda body: TEXT):
        self.reply, self.bodies, self.keys = reply, [], []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers.get("authorization"))
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "big-vlm"}]})
        body = json.loads(request.content)
        self.bodies.append(body)
        answer = self.reply(body)
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json={"choices": [{"message": {"content": answer}}]})

    def backend(self, **more):
        return OpenAIBackend("http://planner.test/v1/", transport=httpx.MockTransport(self), **more)


def test_frame_prompt_and_grammar_are_sent_and_the_plan_comes_back():
    server = Server()
    backend = server.backend(api_key="k")
    request = make_request(1)
    answer = backend.plan([request])[0]
    assert isinstance(answer, PlanAnswer)
    assert (answer.intent, answer.waypoints[0].v_mps) == (Intent.FOLLOW_LANE, 1.2)
    assert (answer.raw, answer.prompt, backend.name) == (TEXT, render_prompt(request), "big-vlm")
    body = server.bodies[0]
    image, text = body["messages"][1]["content"]
    png = base64.b64decode(image["image_url"]["url"].partition(",")[2])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), request.images[-1])
    assert text["text"] == render_prompt(request)
    assert body["structured_outputs"]["regex"] and body["temperature"] == 0.0
    assert set(server.keys) == {"Bearer k"}


@pytest.mark.parametrize("text", [f"<think>hm\n</think>\n\n{TEXT}", f"```\n{TEXT}\n```", f"\n{TEXT}\n"])
def test_chatter_around_the_answer_is_taken_off(text):
    assert isinstance(Server(lambda body: text).backend().plan([make_request()])[0], PlanAnswer)


def test_a_server_without_constrained_decoding_is_asked_without_it_from_then_on():
    server = Server(lambda body: httpx.Response(400, text="what?") if "structured_outputs" in body else TEXT)
    backend = server.backend()
    for _ in range(2):
        assert isinstance(backend.plan([make_request()])[0], PlanAnswer)
    assert ["structured_outputs" in body for body in server.bodies] == [True, False, False]


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        (httpx.Response(500, text="out of memory"), "HTTP 500: out of memory"),
        (httpx.Response(200, text="<html>"), "not JSON"),
        (httpx.Response(200, json={"choices": []}), "no choices"),
        ("I would rather not.", "no line 'intent"),
    ],
)
def test_what_goes_wrong_is_named_and_costs_one_plan(reply, named):
    answers = Server(lambda body: reply).backend().plan([make_request(), make_request(1, frames=0)])
    assert named in str(answers[0])
    assert all(isinstance(answer, PlanError) for answer in answers)


def test_a_server_that_does_not_answer_is_named():
    def silent(request):
        raise httpx.ReadTimeout("", request=request)

    with pytest.raises(PlanError, match=r"no answer within 3\.0 s"):
        OpenAIBackend("http://planner.test/v1", transport=httpx.MockTransport(silent), timeout_s=3.0)

    def refused(request):
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(PlanError, match="connection refused"):
        OpenAIBackend("http://planner.test/v1", transport=httpx.MockTransport(refused))


def test_a_batch_keeps_its_order():
    def reply(body):
        speed = body["messages"][1]["content"][1]["text"].split()[1].strip(",")
        return TEXT.replace("1.2", speed)

    requests = [make_request(seed) for seed in range(6)]
    answers = Server(reply).backend().plan(requests)
    assert [a.waypoints[0].v_mps for a in answers] == pytest.approx([r.ego.speed_mps for r in requests], abs=0.05)

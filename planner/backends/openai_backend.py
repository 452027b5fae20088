"""Plans from any server that speaks the OpenAI chat API (vLLM, llama.cpp, Ollama, a hosted one).

Frames travel as PNG data URLs. Where the server offers it (vLLM), decoding is constrained to the plan grammar; where it
does not, the answer is parsed all the same and refused when it is no plan.
"""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
from PIL import Image

from bridge.planning import PlanAnswer, PlanError, PlanRequest
from planner.grammar import GrammarError, answer_regex, parse_answer
from planner.prompt import SYSTEM, SYSTEM_STOCK, render_prompt

_MOST_AT_ONCE = 8


class OpenAIBackend:
    """`bridge.planning.PlannerBackend` on a server.

    Args: `url`: up to and with "/v1". `model`: None takes the first that the server lists. `trained`: the model knows
    our grammar; otherwise it is told the format. `constrain`: ask for constrained decoding (`structured_outputs` of
    vLLM); switched off by itself when the server refuses it. `api_key`: by default from OPENAI_API_KEY. Raises
    PlanError when the server cannot be reached at the start.
    """

    wants_truth = False

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        trained: bool = False,
        constrain: bool = True,
        timeout_s: float = 10.0,
        max_tokens: int = 256,
        rate_hz: float = 2.0,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ):
        key = api_key or os.environ.get("OPENAI_API_KEY")
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            timeout=timeout_s,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            transport=transport,
        )
        self._system = SYSTEM if trained else SYSTEM_STOCK
        self._regex = answer_regex(free=not trained) if constrain else None
        self._max_tokens = max_tokens
        self.rate_hz = rate_hz
        self.model = model or self._first_model()
        self.name = self.model[:64]
        self._pool = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="planner-http")

    def plan(self, requests: Sequence[PlanRequest]) -> list[PlanAnswer | PlanError]:
        """One answer per request, in order; requests run side by side. What goes wrong yields a PlanError in place."""
        return list(self._pool.map(self._plan_one, requests))

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=False)
        self._client.close()

    def _plan_one(self, request: PlanRequest) -> PlanAnswer | PlanError:
        begin = time.perf_counter()
        prompt = render_prompt(request)
        try:
            text = self._chat(request, prompt)
            answer = parse_answer(_plain_text(text), request.profile)
        except GrammarError as error:
            return PlanError(f"{self.name}: {error}")
        except PlanError as error:
            return error
        return replace(answer, prompt=prompt, model_s=time.perf_counter() - begin)

    def _chat(self, request: PlanRequest, prompt: str) -> str:
        if not request.images:
            raise PlanError("frames: none given, one is needed")
        body = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": self._system},
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": _data_url(request.images[-1])}},
                        {"type": "text", "text": prompt},
                    ],
                },
            ],
            "temperature": 0.0,
            "max_tokens": self._max_tokens,
        }
        regex = self._regex
        if regex:
            body["structured_outputs"] = {"regex": regex}
        response = self._send("POST", "/chat/completions", json=body)
        if response.status_code in (400, 422) and regex:
            del body["structured_outputs"]
            response = self._send("POST", "/chat/completions", json=body)
            if response.is_success:
                self._regex = None
        try:
            return _checked(response)["choices"][0]["message"]["content"] or ""
        except (KeyError, IndexError, TypeError):
            raise PlanError(f"{self._client.base_url}: the answer has no choices[0].message.content") from None

    def _first_model(self) -> str:
        try:
            return str(_checked(self._send("GET", "/models"))["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise PlanError(f"{self._client.base_url}: the server lists no model; name one") from None

    def _send(self, method: str, path: str, **kwargs) -> httpx.Response:
        try:
            return self._client.request(method, path, **kwargs)
        except httpx.TimeoutException:
            raise PlanError(f"{self._client.base_url}: no answer within {self._client.timeout.read} s") from None
        except httpx.HTTPError as error:
            raise PlanError(f"{self._client.base_url}: {error or type(error).__name__}") from None


def _checked(response: httpx.Response) -> dict:
    if not response.is_success:
        raise PlanError(f"{response.url}: HTTP {response.status_code}: {response.text[:300]}")
    try:
        return response.json()
    except ValueError:
        raise PlanError(f"{response.url}: the answer is not JSON: {response.text[:100]!r}") from None


def _data_url(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _plain_text(text: str) -> str:
    """Without the thinking and the code fence that chat models like to put around an answer."""
    text = text.rpartition("</think>")[2].strip()
    if text.startswith("```"):
        text = text.partition("\n")[2].rpartition("```")[0]
    return text.strip()

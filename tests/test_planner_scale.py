"""A model of the default car plans for a full-size one: prompt in its scale, answer in the car's."""

from __future__ import annotations

import numpy as np
import pytest
from planner_models import save_tiny

from bridge.messages import Doing, EgoState, VehicleProfile
from bridge.planning import CommandInForce, PlanAnswer, PlanRequest
from planner.grammar import parse_answer
from planner.guard import check_plan
from planner.prompt import render_prompt
from planner.scale import parse_at_full_scale, request_at_model_scale

SMALL = VehicleProfile()
BIG = VehicleProfile(
    name="full-size", wheelbase_m=2.5, width_m=1.9, length_m=4.5, rear_overhang_m=0.9, max_speed_mps=40.0,
    reference_speed_mps=15.0,
)  # fmt: skip
TEXT = (
    "2 lanes, I am in lane 0, centre. Road bends gently left. Car in lane 0 at 2.5 m. Left lane is free, overtaking.\n"
    "intent overtake_left accepted\npath 3 5 8 12 15 18 20 22\nspeed 1.6 1.2"
)


def request(profile=BIG, text="drive at 12.0 m/s", factor=10.0) -> PlanRequest:
    command = CommandInForce("1", text, 2.0, 0)
    image = np.zeros((120, 160, 3), np.uint8)
    ego = EgoState(speed_mps=1.2 * factor, yaw_rate_radps=0.1)
    return PlanRequest((image,), ego, Doing(), profile, 1.1 * factor, command)


@pytest.mark.parametrize(
    ("text", "small"),
    [
        ("drive at 12.0 m/s", "drive at 1.2 m/s"),
        ("以15米每秒行驶", "以1.5米每秒行驶"),
        ("速度设为 8.0 米每秒", "速度设为 0.8 米每秒"),
        ("set the speed to 20 m/s now", "set the speed to 2.0 m/s now"),
        ("overtake on the left", "overtake on the left"),
    ],
)
def test_prompt_of_a_full_size_car_reads_like_the_default_cars(text, small):
    prompt = render_prompt(request_at_model_scale(request(text=text)))
    assert prompt == render_prompt(request(SMALL, small, 1.0))


def test_the_default_cars_request_is_left_alone():
    plain = request(SMALL, factor=1.0)
    assert request_at_model_scale(plain) is plain
    assert parse_at_full_scale(TEXT, SMALL) == parse_answer(TEXT, SMALL)


def test_answer_is_scaled_back():
    small, big = parse_answer(TEXT, SMALL), parse_at_full_scale(TEXT, BIG)
    for a, b in zip(small.waypoints, big.waypoints, strict=True):
        assert (b.x_m, b.y_m, b.v_mps) == pytest.approx((10 * a.x_m, 10 * a.y_m, 10 * a.v_mps))
    assert big.extra["facts"]["actors"][0]["distance_m"] == 25.0 and "Car in lane 0 at 25.0 m." in big.reasoning
    assert big.extra["chain"].headings_deg == small.extra["chain"].headings_deg
    assert big.raw == TEXT and check_plan(big, request()) == []


def test_distances_beyond_the_sentences_keep_the_models_words():
    huge = BIG.model_copy(update={"wheelbase_m": 25.0, "reference_speed_mps": 30.0})
    answer = parse_at_full_scale(TEXT, huge)
    assert answer.extra["facts"]["actors"][0]["distance_m"] == 250.0 and "at 2.5 m" in answer.reasoning


def test_backend_thinks_at_model_scale(tmp_path):
    from planner.backends.transformers_backend import TransformersBackend

    backend = TransformersBackend(save_tiny(tmp_path), threads=1)
    small, big = (backend.plan([r])[0] for r in (request(SMALL, "drive at 1.2 m/s", 1.0), request()))
    assert isinstance(small, PlanAnswer) and isinstance(big, PlanAnswer)
    assert big.prompt == small.prompt and big.raw == small.raw
    assert big.waypoints[-1].x_m == pytest.approx(10 * small.waypoints[-1].x_m)
    assert big.waypoints[0].v_mps == pytest.approx(10 * small.waypoints[0].v_mps)

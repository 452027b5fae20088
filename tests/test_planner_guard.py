"""The plan guard: what cannot be driven is named; what the expert plans passes."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from kinematic_world import PROFILE, truth_at

from bridge.messages import Doing, EgoState, Intent, Verdict, Waypoint
from bridge.planning import INSTRUCTIONS, CommandInForce, Instruction, PlanAnswer, PlanRequest
from planner.grammar import Chain, answer_regex, parse_answer, render_answer, waypoints_from_chain
from planner.guard import REACTION_S, check_plan, slowed_for_lead
from sims.expert import expert_answer
from sims.random_road import random_road

STRAIGHT = Chain((0,) * 8, 1.0, 1.0)
DECODABLE = re.compile(answer_regex())
TWO_LANES = {"lane_count": 2, "lane": 0, "position": "centre", "bend": "straight", "actors": []}


def _request(start_lane=None, command=True):
    order = CommandInForce("c", "text", 1.0, start_lane) if command else None
    return PlanRequest((), EgoState(), Doing(), PROFILE, 1.2, order)


def _answer(chain=STRAIGHT, intent=Intent.FOLLOW_LANE, verdict=None, facts=None):
    extra = {"facts": facts} if facts else {}
    return PlanAnswer(intent, waypoints_from_chain(chain, PROFILE), "", verdict, extra=extra)


def test_a_plain_plan_passes():
    assert check_plan(_answer(facts=TWO_LANES), _request()) == []


def test_the_tightest_bend_of_the_car_passes_and_a_much_tighter_one_does_not():
    per_piece = math.degrees(2 * math.asin(0.25 * math.tan(PROFILE.steering_limit_rad) / PROFILE.wheelbase_m))
    circle = lambda turn: Chain(tuple(round((k + 0.5) * turn) % 360 for k in range(8)), 0.5, 0.5)  # noqa: E731
    assert check_plan(_answer(circle(per_piece)), _request()) == []
    assert any("steering" in p for p in check_plan(_answer(circle(1.5 * per_piece)), _request()))


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (_answer(Chain((180,) + (0,) * 7, 1, 1)), "not ahead"),
        (_answer(Chain((100,) * 8, 1, 1)), "not ahead"),
        (_answer(Chain((0,) * 8, 1.0, 9.0)), "more than the car's"),
        (_answer(Chain((0,) * 8, 1.0, 0.0), Intent.STOP), "intent stop with a speed"),
        (replace(_answer(), waypoints=()), "0 waypoints"),
        (replace(_answer(), waypoints=tuple(Waypoint(x_m=50.0 * k, y_m=0, v_mps=1) for k in (1, 2))), "apart"),
        (replace(_answer(), waypoints=tuple(Waypoint(x_m=0.5, y_m=0, v_mps=1) for _ in range(3))), "apart"),
        (
            replace(_answer(), waypoints=(Waypoint.model_construct(x_m=math.nan, y_m=0.0, v_mps=1.0),) * 2),
            "not finite",
        ),
        (
            replace(_answer(), waypoints=tuple(Waypoint.model_construct(x_m=k, y_m=0.0, v_mps=-1.0) for k in (1, 2))),
            "negative",
        ),
        (_answer(facts=TWO_LANES | {"lane": 2}), "says lane 2 of 2"),
        (_answer(intent=Intent.CHANGE_LEFT, facts=TWO_LANES | {"lane": 1}), "no lane on the left"),
        (_answer(intent=Intent.OVERTAKE_RIGHT, verdict=Verdict.ACCEPTED, facts=TWO_LANES), "no lane on the right"),
    ],
)
def test_what_is_wrong_is_named(answer, named):
    assert any(named in problem for problem in check_plan(answer, _request()))


def test_a_change_is_judged_from_the_lane_where_it_began():
    answer = _answer(intent=Intent.CHANGE_LEFT, verdict=Verdict.ACCEPTED, facts=TWO_LANES | {"lane": 1})
    assert check_plan(answer, _request(start_lane=0)) == []
    assert check_plan(answer, _request(start_lane=1))


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_the_expert_passes_also_after_its_plan_was_written_and_read(kind):
    """On winding roads, off centre and askew, with others about, for every instruction."""
    instruction = Instruction(kind, 1.0 if kind == "target_speed" else None)
    rng = np.random.default_rng(0)
    for seed in range(8):
        road = random_road(seed)
        for _ in range(6):
            s, (left, right) = float(rng.uniform(0, road.length_m)), road.edges_at(0.0)
            d, askew, speed = rng.uniform(right + 0.15, left - 0.15), rng.uniform(-0.3, 0.3), rng.uniform(0, 2)
            others = [("car", rng.uniform(1, 4), rng.uniform(right + 0.2, left - 0.2), 0.5)]
            truth = truth_at(road, s, d, askew, speed, others)
            answer = expert_answer(truth, PROFILE, instruction, 1.2, 1.0, truth.lane)
            request = _request(start_lane=truth.lane)
            assert check_plan(answer, request) == []
            text = render_answer(answer, PROFILE)
            assert check_plan(parse_answer(text, PROFILE), request) == []
            assert DECODABLE.fullmatch(text), "the expert says what the small planner may not"


def _lead(distance_m, lane=0, kind="car"):
    return TWO_LANES | {"actors": [{"kind": kind, "lane": lane, "distance_m": distance_m}]}


@pytest.mark.parametrize("distance_m", [0.5, 1.0, 2.5, 6.0])
def test_a_plan_is_slowed_until_the_car_can_stop_before_what_it_names(distance_m):
    quick = _answer(Chain((0,) * 8, 2.6, 2.6), facts=_lead(distance_m))
    slowed, changed = slowed_for_lead(quick, PROFILE)
    fastest = max(w.v_mps for w in slowed.waypoints)
    stops_after = fastest * REACTION_S + fastest**2 / (2 * PROFILE.max_brake_mps2)
    assert fastest == pytest.approx(2.6) or stops_after == pytest.approx(distance_m)
    assert stops_after <= distance_m + 1e-6
    assert bool(changed) == (fastest < 2.6 - 1e-6) and all(f"{distance_m:.1f} m" in text for text in changed)
    assert [(w.x_m, w.y_m) for w in slowed.waypoints] == [(w.x_m, w.y_m) for w in quick.waypoints]


def test_only_what_is_ahead_in_the_own_lane_slows_a_plan_and_touching_it_does_not_hold_for_good():
    beside = _answer(Chain((0,) * 8, 2.6, 2.6), facts=_lead(0.0, lane=1))
    assert slowed_for_lead(beside, PROFILE) == (beside, [])
    unsaid = _answer(Chain((0,) * 8, 2.6, 2.6))
    assert slowed_for_lead(unsaid, PROFILE) == (unsaid, [])
    close, _ = slowed_for_lead(_answer(Chain((0,) * 8, 2.6, 2.6), facts=_lead(0.0, kind="cone")), PROFILE)
    assert 0.2 < max(w.v_mps for w in close.waypoints) < 0.8

"""The expert's behaviour, verdicts and sentences at single moments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinematic_world import PROFILE, oval, truth_at

from bridge.messages import Doing, EgoState, Verdict
from bridge.planning import INSTRUCTIONS, CommandInForce, Instruction, PlanAnswer, PlanError, PlanRequest
from sims.expert import ExpertBackend, expert_answer
from sims.facts import visible_facts

TWO, ONE, THREE = oval(2), oval(1), oval(3)
LANE0, LANE1 = -0.4, 0.4
START = 2.0  # on the first straight, 12 m long


def ask(kind, actors=(), road=TWO, d=LANE0, age=0.0, start_lane=None, speed=1.2, s=START, error=0.0) -> PlanAnswer:
    truth = truth_at(road, s, d, error, speed, actors)
    instruction = None if kind is None else Instruction(kind, 1.5 if kind == "target_speed" else None)
    return expert_answer(truth, PROFILE, instruction, 1.2, age, start_lane)


def ends_at(answer: PlanAnswer) -> float:
    """d of the last waypoint, as the car stands on the straight along x."""
    return answer.waypoints[-1].y_m


@st.composite
def scenes(draw):
    road = draw(st.sampled_from([ONE, TWO, THREE]))
    half = 0.4 * road.lane_count
    actors = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["car", "cone", "box"]), st.floats(-3, 7), st.floats(-half, half), st.floats(0, 2)
            ),
            max_size=5,
        )
    )
    s, d = draw(st.floats(0, road.length_m - 0.01)), draw(st.floats(-half - 0.3, half + 0.3))
    truth = truth_at(road, s, d, draw(st.floats(-1.05, 1.05)), draw(st.floats(-0.05, 3)), actors)
    kind = draw(st.sampled_from([None, *INSTRUCTIONS]))
    instruction = kind and Instruction(kind, draw(st.floats(0, 4)) if kind == "target_speed" else None)
    lane = draw(st.one_of(st.none(), st.integers(0, 2)))
    return truth, instruction, draw(st.floats(0.3, 2.5)), draw(st.floats(0, 20)), lane


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_any_scene_gives_a_drivable_chain(scene):
    truth, instruction, cruise, age, lane = scene
    answer = expert_answer(truth, PROFILE, instruction, cruise, age, lane)
    points = np.array([[0.0, 0.0]] + [[w.x_m, w.y_m] for w in answer.waypoints])
    steps = np.diff(points, axis=0)
    assert len(answer.waypoints) == 8
    assert np.allclose(np.hypot(*steps.T), 2 * PROFILE.wheelbase_m)
    turns = np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])), prepend=0.0)
    tightest = math.tan(PROFILE.steering_limit_rad) / PROFILE.wheelbase_m
    assert np.abs(turns).max() <= 2 * PROFILE.wheelbase_m * tightest
    assert all(0 <= w.v_mps <= PROFILE.max_speed_mps for w in answer.waypoints)
    assert (answer.verdict is None) == (instruction is None)
    assert answer.verdict not in (Verdict.WAITING, Verdict.REFUSED) or answer.verdict_reason
    assert answer.lane == truth.lane
    assert len(answer.reasoning.split()) <= 38


def test_pure_function_of_its_arguments():
    assert (
        ask("overtake_left", [("car", 2.0, LANE0, 0.5)]).waypoints
        == ask("overtake_left", [("car", 2.0, LANE0, 0.5)]).waypoints
    )


@pytest.mark.parametrize("d", [-0.75, -0.4, -0.1])
def test_follow_lane_ends_in_the_lane_centre(d):
    assert ends_at(ask(None, d=d)) == pytest.approx(LANE0 - d, abs=0.03)


def test_slower_in_a_bend_than_on_the_straight():
    bend = oval(1, radius_m=1.0)
    fast = Instruction("target_speed", 2.8)
    speeds = [expert_answer(truth_at(bend, s, 0.0), PROFILE, fast, 1.2).waypoints[0].v_mps for s in (2.0, 10.5, 13.0)]
    assert speeds[0] == pytest.approx(2.8)
    assert speeds[0] > speeds[1] > speeds[2]  # it brakes before the bend
    assert speeds[2] < 1.7


@pytest.mark.parametrize("gap", [0.2, 0.6, 1.0, 1.5, 4.0])
def test_lead_car_sets_the_speed(gap):
    answer = ask(None, [("car", gap + 0.32 + 0.19, LANE0, 0.5)])
    assert answer.waypoints[0].v_mps == pytest.approx(np.clip((gap - 0.35) / 1.3, 0, 1.2), abs=1e-6)


def test_car_in_the_other_lane_is_no_reason_to_brake():
    assert ask(None, [("car", 1.0, LANE1, 0.2)]).waypoints[0].v_mps == pytest.approx(1.2)


@pytest.mark.parametrize(("kind", "factor"), [("faster", 1.4), ("slower", 0.6)])
def test_speed_commands(kind, factor):
    young, old = ask(kind), ask(kind, age=3.1)
    assert young.waypoints[0].v_mps == pytest.approx(1.2 * factor)
    assert (young.verdict, old.verdict) == (Verdict.ACCEPTED, Verdict.DONE)
    assert old.intent == "follow_lane"


def test_stop_is_zero_and_holds():
    answer = ask("stop", age=10.0)
    assert [w.v_mps for w in answer.waypoints] == [0.0] * 8
    assert (answer.intent, answer.verdict) == ("stop", Verdict.ACCEPTED)


def test_change_left_goes_refuses_waits_and_ends():
    assert ends_at(ask("change_left")) == pytest.approx(0.8, abs=0.05)
    refused = ask("change_left", d=LANE1)
    assert (refused.verdict, refused.verdict_reason) == (Verdict.REFUSED, "no lane on the left")
    waiting = ask("change_left", [("car", 0.8, LANE1, 1.2)])
    assert (waiting.verdict, waiting.verdict_reason) == (Verdict.WAITING, "left lane is occupied")
    assert ends_at(waiting) == pytest.approx(0.0, abs=0.03)
    assert ask("change_left", d=LANE1 - 0.05, start_lane=0, age=2.0).verdict == Verdict.DONE


def test_keep_right_holds_the_outermost_lane():
    assert ends_at(ask("keep_right", d=LANE1)) == pytest.approx(-0.8, abs=0.05)
    assert ask("keep_right", age=20.0).verdict == Verdict.ACCEPTED


def test_overtake_goes_out_passes_and_ends():
    out = ask("overtake_left", [("car", 2.5, LANE0, 0.5)])
    assert ends_at(out) == pytest.approx(0.8, abs=0.05)
    assert out.waypoints[-1].v_mps == pytest.approx(1.68)
    assert "overtaking" in out.reasoning
    beside = ask("overtake_left", [("car", 0.1, LANE0, 0.5)], d=LANE1, start_lane=0, age=3)
    assert (beside.verdict, beside.extra["action"]) == (Verdict.ACCEPTED, "passing the car")
    past = ask("overtake_left", [("car", -1.0, LANE0, 0.5)], d=LANE1, start_lane=0, age=5)
    assert (past.verdict, past.intent) == (Verdict.DONE, "overtake_left")
    assert ends_at(past) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize(
    ("kind", "actors", "d", "verdict", "reason"),
    [
        ("overtake_left", [], LANE0, Verdict.REFUSED, "no car ahead"),
        ("overtake_left", [("car", 2.5, LANE1, 0.5)], LANE1, Verdict.REFUSED, "no lane on the left"),
        ("overtake_right", [("car", 2.5, LANE0, 0.5)], LANE0, Verdict.REFUSED, "no lane on the right"),
        (
            "overtake_left",
            [("car", 2.5, LANE0, 0.5), ("car", 2.8, LANE1, 0.5)],
            LANE0,
            Verdict.WAITING,
            "left lane is occupied",
        ),
        ("follow_vehicle", [], LANE0, Verdict.REFUSED, "no car ahead"),
        ("avoid_obstacle", [], LANE0, Verdict.REFUSED, "no obstacle ahead"),
    ],
)
def test_what_cannot_be_done_is_said(kind, actors, d, verdict, reason):
    answer = ask(kind, actors, d=d)
    assert (answer.verdict, answer.verdict_reason) == (verdict, reason)
    assert answer.intent == "follow_lane"
    assert ends_at(answer) == pytest.approx(0.0, abs=0.03)


def test_blocked_lane_is_free_again_once_the_blocker_has_left():
    blocked = ask("overtake_left", [("car", 1.5, LANE0, 0.5), ("car", 3.7, LANE1, 2.0)])
    free = ask("overtake_left", [("car", 1.5, LANE0, 0.5), ("car", 4.0, LANE1, 2.0)])
    assert (blocked.verdict, free.verdict) == (Verdict.WAITING, Verdict.ACCEPTED)


def test_avoid_prefers_left_else_right_else_waits():
    box = ("box", 2.5, 0.0, 0.0)
    assert ends_at(ask("avoid_obstacle", [box], road=THREE, d=0.0)) == pytest.approx(0.8, abs=0.05)
    left = ("car", 2.0, 0.8, 0.5)
    assert ends_at(ask("avoid_obstacle", [box, left], road=THREE, d=0.0)) == pytest.approx(-0.8, abs=0.05)
    stuck = ask("avoid_obstacle", [box, left, ("car", 2.0, -0.8, 0.5)], road=THREE, d=0.0)
    assert stuck.verdict == Verdict.WAITING
    alone = ask("avoid_obstacle", [box], road=ONE, d=0.0)
    assert alone.verdict == Verdict.REFUSED
    near = ask("avoid_obstacle", [("box", 0.8, 0.0, 0.0)], road=ONE, d=0.0)
    assert near.waypoints[0].v_mps < 0.1


def test_pull_over_goes_right_slowly_and_stands_there():
    going = ask("pull_over", d=LANE1)
    assert ends_at(going) == pytest.approx(-0.8, abs=0.05)
    assert going.waypoints[0].v_mps == pytest.approx(0.6)
    assert ask("pull_over").waypoints[0].v_mps == 0.0


def test_sentences_say_what_is_seen_in_the_fixed_form():
    answer = ask("overtake_left", [("car", 3.0, LANE0, 0.5), ("box", -2.0, LANE1, 0.0), ("cone", 8.0, LANE0, 0.0)])
    distance = round(2 * (3.0 - 0.32 - 0.19)) / 2
    assert answer.reasoning == (
        f"2 lanes, I am in lane 0, centre. Road is straight. Car in lane 0 at {distance:.1f} m. "
        "Left lane is free, overtaking."
    )
    assert ask(None).reasoning.endswith("Nothing ahead. Keeping my lane.")
    assert ask(None, road=ONE, d=0.3).reasoning.startswith("1 lane, I am in lane 0, left.")


def test_facts_name_the_nearest_two_and_the_bend():
    actors = [("car", 5.0, LANE0, 0), ("box", 3.0, LANE1, 0), ("cone", 1.5, LANE0, 0)]
    facts = visible_facts(truth_at(TWO, START, LANE0, 0.0, 1.0, actors), PROFILE)
    assert [a["kind"] for a in facts["actors"]] == ["cone", "box"]
    assert visible_facts(truth_at(TWO, 13.0, LANE0), PROFILE)["bend"] == "sharply left"
    assert facts["bend"] == "straight"


def test_actors_outside_the_field_of_view_are_not_mentioned():
    assert visible_facts(truth_at(THREE, START, -0.8, 0.0, 1.0, [("car", 0.4, 0.8, 0.0)]), PROFILE)["actors"] == []


def request(text=None, truth=None) -> PlanRequest:
    command = text and CommandInForce("1", text, 0.5, 0)
    return PlanRequest((), EgoState(), Doing(), PROFILE, 1.2, command or None, truth)


def test_backend_reads_truth_understands_and_refuses():
    truth = truth_at(TWO, START, LANE0).to_dict()
    backend = ExpertBackend({"halt": Instruction("stop")}.get)
    stop, unknown, nothing, blind, broken = backend.plan(
        [
            request("halt", truth),
            request("sing", truth),
            request(None, truth),
            request("halt"),
            request("halt", {"x": 1}),
        ]
    )
    assert stop.intent == "stop"
    assert (unknown.verdict, unknown.verdict_reason) == (Verdict.REFUSED, "I do not understand")
    assert nothing.verdict is None
    assert isinstance(blind, PlanError)
    assert isinstance(broken, PlanError)

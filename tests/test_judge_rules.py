"""The judge on made-up truths: what passes and what fails, each rule of the table."""

from __future__ import annotations

import numpy as np
import pytest
from kinematic_world import PROFILE, oval, truth_at

from sims.judge import EpisodeResult, Judge
from sims.scenarios import Scenario, make_scenario

ROAD = oval(2)
LANE0, LANE1 = -0.4, 0.4
T = 1.0  # of the command


def scenario(name: str, duration=10.0, **params) -> Scenario:
    return Scenario(name, ROAD, 0.0, LANE0, 1.0, 1.0, (), (), duration, {"t_command_s": T, "start_lane": 0, **params})


def judge(case: Scenario, d=lambda t: LANE0, v=lambda t: 1.0, actors=lambda t: (), said=None, **flags) -> EpisodeResult:
    """Run the judge at 10 Hz over functions of time: d [m], speed [m/s], actors, (verdict, reason)."""
    it, progress = Judge(case, PROFILE), 0.0
    for t in np.arange(0.0, case.duration_s + 0.25, 0.1):
        more = {key: value(t) for key, value in flags.items()}
        it.observe(
            truth_at(ROAD, 2.0, d(t), 0.0, v(t), actors(t), t_s=float(t), progress_m=progress, **more), *(said or ())
        )
        if it.finished:
            break
        progress += v(t) * 0.1
    return it.result()


def switch(time_s, before, after):
    return lambda t: before if t < time_s else after


@pytest.mark.parametrize("name", ["stop", "follow_lane", "change_left", "overtake_blocked"])
@pytest.mark.parametrize("flag", ["collision", "off_road"])
def test_collision_and_a_wheel_off_the_road_always_fail(name, flag):
    case = make_scenario(name, ROAD, 0)
    actors = [("car", 3.0, LANE0, 0.5), ("car", 3.0, LANE1, 0.5)]
    result = judge(case, actors=lambda t: actors, **{flag: lambda t: t >= 0.5})
    assert not result.success
    assert getattr(result, flag)
    assert result.duration_s == pytest.approx(0.5)
    assert result.route_completion < 0.5
    assert result.reason in ("collision", "a wheel left the road")


def test_unfinished_is_a_failure():
    it = Judge(scenario("stop"), PROFILE)
    assert not it.finished
    assert it.result().reason == "not finished"


def test_follow_lane_needs_the_whole_distance():
    assert judge(scenario("follow_lane", 12.0, distance_m=10.0)).success
    slow = judge(scenario("follow_lane", 5.0, distance_m=10.0))
    assert not slow.success
    assert slow.route_completion == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("name", "after", "success"),
    [("faster", 1.4, True), ("faster", 1.0, False), ("faster", 0.6, False)]
    + [("slower", 0.6, True), ("slower", 1.0, False), ("slower", 1.4, False)],
)
@pytest.mark.parametrize("delay", [0.1, 0.5, 1.5])
def test_speed_slope(name, after, success, delay):
    assert judge(scenario(name, 4.5), v=switch(T + delay, 1.0, after)).success is success


@pytest.mark.parametrize(("speed", "success"), [(1.5, True), (1.25, True), (1.75, True), (1.1, False), (1.9, False)])
def test_target_speed_within_a_fifth(speed, success):
    assert judge(scenario("target_speed", 6.0, speed_mps=1.5), v=switch(3.0, 1.0, speed)).success is success


@pytest.mark.parametrize(("speed", "success"), [(0.0, True), (0.09, True), (0.2, False)])
def test_stop(speed, success):
    assert judge(scenario("stop", T + 4.0), v=switch(3.0, 1.0, speed)).success is success


def test_change_needs_a_second_near_the_centre():
    case = scenario("change_left", T + 6.0, target_lane=1)
    assert judge(case, d=switch(4.0, LANE0, LANE1)).success
    assert judge(case, d=switch(4.0, LANE0, LANE1 - 0.19)).success
    assert not judge(case, d=switch(4.0, LANE0, LANE1 - 0.21)).success  # a quarter of 0.8 m is 0.2 m
    assert not judge(case, d=switch(6.5, LANE0, LANE1)).success  # too late
    assert not judge(case, d=lambda t: LANE1 if int(2 * t) % 2 else LANE0).success  # never for long


def test_keep_must_be_reached_and_held():
    case = scenario("keep_left", T + 9.0, target_lane=1)
    assert judge(case, d=switch(5.0, LANE0, LANE1)).success
    assert not judge(case).success
    assert not judge(case, d=lambda t: LANE1 if 3 < t < 9 else LANE0).success


def passing(d_ego_ahead):
    return lambda t: [("car", 3.0 - t, d_ego_ahead, 0.5)]


def test_overtake_must_be_on_the_asked_side_and_a_length_ahead():
    case = scenario("overtake_left", 16.0, step=1)
    assert judge(case, d=lambda t: LANE1, actors=passing(LANE0)).success
    wrong = judge(case, d=lambda t: LANE0, actors=passing(LANE1))
    assert (wrong.success, wrong.reason) == (False, "passed on the wrong side")
    barely = judge(case, d=lambda t: LANE1, actors=lambda t: [("car", max(3.0 - t, -0.5), LANE0, 0.5)])
    assert not barely.success


def test_follow_vehicle_needs_the_time_gap_for_five_seconds():
    case = scenario("follow_vehicle", 14.0)
    gap = lambda m: lambda t: [("car", m + 0.32 + 0.19, LANE0, 0.5)]  # noqa: E731
    assert judge(case, actors=gap(1.5)).success
    assert not judge(case, actors=gap(0.4)).success
    assert not judge(case, actors=gap(3.2)).success
    assert not judge(case, d=lambda t: LANE1, actors=gap(1.5)).success


def test_avoid_is_past_it():
    case = scenario("avoid_obstacle", 10.0)
    assert judge(case, d=lambda t: LANE1, actors=lambda t: [("box", 3.0 - t, LANE0, 0.0)]).success
    assert not judge(case, actors=lambda t: [("box", max(3.0 - t, 0.8), LANE0, 0.0)]).success


def test_pull_over_stands_in_the_rightmost_lane():
    case = scenario("pull_over", 10.0)
    assert judge(case, v=switch(4.0, 1.0, 0.0)).success
    assert not judge(case, d=lambda t: LANE1, v=switch(4.0, 1.0, 0.0)).success
    assert not judge(case).success


BLOCKED = [("car", 2.0, LANE0, 0.5), ("car", 2.2, LANE1, 0.5)]


def test_blocked_for_good_needs_waiting_with_a_reason():
    case = scenario("overtake_blocked", 8.0, step=1, becomes_free=False)
    assert judge(case, actors=lambda t: BLOCKED, said=("waiting", "left lane is occupied")).success
    assert judge(case, actors=lambda t: BLOCKED, said=("refused", None)).success
    assert not judge(case, actors=lambda t: BLOCKED, said=("waiting", "")).success
    assert not judge(case, actors=lambda t: BLOCKED, said=("accepted", "on it")).success
    entered = judge(case, d=switch(3.0, LANE0, LANE1), actors=lambda t: BLOCKED, said=("waiting", "x"))
    assert entered.reason == "entered the occupied lane"


def test_blocked_then_free_must_be_overtaken():
    case = scenario("overtake_blocked", 14.0, step=1, becomes_free=True)

    def actors(t):
        return [("car", 2.0 - max(t - 6.0, 0.0), LANE0, 0.5), ("car", 2.2 if t < 4 else 2.2 + 2 * (t - 4), LANE1, 0.5)]

    assert judge(case, d=switch(6.0, LANE0, LANE1), actors=actors, said=("waiting", "occupied")).success
    assert not judge(case, actors=lambda t: BLOCKED, said=("waiting", "occupied")).success
    silent = judge(case, d=switch(6.0, LANE0, LANE1), actors=actors, said=("accepted", "on it"))
    assert silent.reason == "overtook without having waited"

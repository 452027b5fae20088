"""A car of another size thinks as the default car does: same decisions, path and speeds in proportion.

Factors are powers of two here, so that scaling is exact and "the same" means to the bit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinematic_world import PROFILE, drive, oval, truth_at

from bridge.messages import VehicleProfile
from bridge.planning import INSTRUCTIONS, Instruction
from bridge.scale import Scale, model_profile, scale_of
from controller.core import Controller
from controller.policies import PursuitPolicy
from controller.settings import ControllerSettings, TrackerSettings
from controller.tracker import Path, Tracker
from sims.actors import ActorSpec
from sims.expert import expert_answer
from sims.judge import Judge
from sims.random_road import random_road
from sims.scale import scaled_road, scenario_at_full_scale, scenario_at_model_scale, truth_at_model_scale
from sims.scenarios import SCENARIOS, make_scenario
from sims.truth import Truth

FULL_SIZE = VehicleProfile(
    name="full-size", wheelbase_m=2.6, width_m=1.9, length_m=4.5, rear_overhang_m=0.9, steering_limit_rad=0.37,
    max_speed_mps=40.0, reference_speed_mps=15.0, max_accel_mps2=6.0, max_brake_mps2=10.0, max_lateral_mps2=8.0,
)  # fmt: skip
POWERS = st.sampled_from([0.5, 2.0, 4.0, 8.0, 16.0])


def enlarged(scale: Scale) -> VehicleProfile:
    """The default car made as large and fast as `scale` says."""
    p = PROFILE
    return p.model_copy(
        update={
            **{name: getattr(p, name) * scale.length for name in ("wheelbase_m", "width_m", "length_m")},
            "rear_overhang_m": p.rear_overhang_m * scale.length,
            **{name: getattr(p, name) * scale.speed for name in ("max_speed_mps", "reference_speed_mps")},
            **{
                f"max_{name}_mps2": getattr(p, f"max_{name}_mps2") * scale.accel
                for name in ("accel", "brake", "lateral")
            },
            "actuator_delay_s": p.actuator_delay_s * scale.time,
            "camera": p.camera.model_copy(
                update={n: getattr(p.camera, n) * scale.length for n in ("x_m", "y_m", "z_m")}
            ),
        }
    )


def truth_enlarged(truth: Truth, scale: Scale) -> Truth:
    """The inverse of `truth_at_model_scale`."""
    return truth_at_model_scale(truth, enlarged(scale.inverse))


@pytest.mark.parametrize("profile", [PROFILE, FULL_SIZE])
def test_model_profile_has_the_default_cars_scale(profile):
    small = model_profile(profile)
    assert scale_of(small).is_one and model_profile(small) is small
    assert small.steering_limit_rad == profile.steering_limit_rad
    ratio = profile.max_brake_mps2 * profile.wheelbase_m / profile.reference_speed_mps**2
    assert small.max_brake_mps2 * small.wheelbase_m / small.reference_speed_mps**2 == pytest.approx(ratio)


def test_the_default_car_gets_its_own_objects_back():
    road = random_road(1)
    scenario = make_scenario("overtake_left", oval(2), 0)
    truth = truth_at(oval(2), 1.0, -0.4)
    assert scaled_road(road, 1.0) is road
    assert truth_at_model_scale(truth, PROFILE) is truth
    assert scenario_at_full_scale(scenario, PROFILE) is scenario
    assert model_profile(PROFILE) is PROFILE


@settings(max_examples=60, deadline=None)
@given(POWERS, POWERS, st.integers(0, 50))
def test_truths_there_and_back_are_the_same_to_the_bit(length, speed, seed):
    rng = np.random.default_rng(seed)
    scale, road = Scale(length, speed), random_road(seed % 5)
    truth = truth_at(road, rng.uniform(0, 10), rng.uniform(-0.4, 0.4), 0.1, 1.2, [("car", 2.0, 0.3, 0.5)], t_s=3.0)
    again = truth_at_model_scale(truth_enlarged(truth, scale), enlarged(scale))
    assert again == truth and np.array_equal(again.ahead, truth.ahead)


@settings(max_examples=80, deadline=None)
@given(
    POWERS, POWERS, st.sampled_from([None, *INSTRUCTIONS]), st.integers(1, 3), st.integers(0, 10_000),
    st.one_of(st.none(), st.integers(0, 2)),
)  # fmt: skip
def test_expert_decides_alike_at_any_scale(length, speed, kind, lanes, seed, start_lane):
    scale, rng, road = Scale(length, speed), np.random.default_rng(seed), oval(lanes)
    half = 0.4 * lanes
    actors = [
        (str(rng.choice(["car", "cone", "box"])), rng.uniform(-3, 7), rng.uniform(-half, half), rng.uniform(0, 2))
        for _ in range(int(rng.integers(4)))
    ]
    truth = truth_at(road, rng.uniform(0, 40), rng.uniform(-half, half), rng.uniform(-0.5, 0.5), 1.3, actors)
    cruise, age = rng.uniform(0.5, 2.0), rng.uniform(0, 6)
    said = lambda factor: kind and Instruction(kind, 1.5 * factor if kind == "target_speed" else None)  # noqa: E731
    small = expert_answer(truth, PROFILE, said(1.0), cruise, age, start_lane)
    large = expert_answer(
        truth_enlarged(truth, scale), enlarged(scale), said(speed), cruise * speed, age * scale.time, start_lane
    )
    assert (large.intent, large.verdict, large.verdict_reason, large.lane) == (
        small.intent, small.verdict, small.verdict_reason, small.lane,
    )  # fmt: skip
    assert large.extra["action"] == small.extra["action"]
    assert [(w.x_m, w.y_m, w.v_mps) for w in large.waypoints] == [
        (w.x_m * length, w.y_m * length, w.v_mps * speed) for w in small.waypoints
    ]
    told = [a["distance_m"] for a in large.extra["facts"]["actors"]]
    assert told == [pytest.approx(a["distance_m"] * length, abs=0.06) for a in small.extra["facts"]["actors"]]
    assert all(f"at {distance:.1f} m" in large.reasoning for distance in told)


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_of_a_larger_car_are_the_same_ones_enlarged(name):
    scale, road = Scale(8.0, 4.0), random_road(3, lanes=2)
    big, large_road = enlarged(scale), scaled_road(road, 8.0)
    small = make_scenario(name, road, 7)
    large = make_scenario(name, large_road, 7, profile=big)
    assert large.road is large_road
    wanted = scenario_at_full_scale(small, big)
    texts = [c.text for c in large.commands]
    wanted = replace(
        wanted, road=large_road, commands=tuple(replace(c, text=t) for c, t in zip(wanted.commands, texts, strict=True))
    )
    assert large == wanted
    assert large.duration_s == small.duration_s * 2.0 and large.cruise_mps == small.cruise_mps * 4.0
    if name == "target_speed":
        assert f"{large.params['speed_mps']:.1f}" in texts[0]
    back = scenario_at_model_scale(large, big)
    assert replace(back, road=road, commands=small.commands) == small


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_judge_says_the_same_of_a_larger_car(name):
    scale, road = Scale(8.0, 4.0), random_road(5, lanes=2)
    big, small, record = enlarged(scale), make_scenario(name, road, 3), []
    result = drive(small, record)
    judges = Judge(small, PROFILE), Judge(scenario_at_full_scale(small, big), big)
    for truth, answer in record:
        judges[0].observe(truth, answer.verdict, answer.verdict_reason)
        judges[1].observe(truth_enlarged(truth, scale), answer.verdict, answer.verdict_reason)
    one, other = (judge.result() for judge in judges)
    assert replace(other, duration_s=one.duration_s, reason=one.reason) == one
    assert other.duration_s == one.duration_s * scale.time
    assert result.duration_s >= one.duration_s


def test_actors_grow_with_the_car():
    assert ActorSpec("car", 0.0, 0.0, scale=10.0).size_m == pytest.approx((3.8, 2.0, 1.5))
    with pytest.raises(ValueError, match="scale"):
        ActorSpec("car", 0.0, 0.0, scale=0.0)
    lead = make_scenario("overtake_left", scaled_road(oval(2), 10.4), 1, profile=FULL_SIZE).actors[0]
    assert 3.5 < lead.size_m[0] < 4.5


def test_a_weak_brake_keeps_more_distance():
    truth = truth_at(oval(1), 2.0, 0.0, speed_mps=1.2, actors=[("car", 2.0, 0.0, 0.2)])
    weak = PROFILE.model_copy(update={"max_brake_mps2": 0.6})
    usual, careful = (expert_answer(truth, p, None, 1.2).waypoints[0].v_mps for p in (PROFILE, weak))
    assert careful < 0.6 * usual


def test_bends_are_taken_at_the_profiles_lateral_acceleration():
    bend = oval(1, radius_m=2.0, length_m=6.0)
    truth = truth_at(bend, 8.0, 0.0)
    fast = Instruction("target_speed", 2.9)
    gentle = PROFILE.model_copy(update={"max_lateral_mps2": 0.5})
    usual, slow = (expert_answer(truth, p, fast, 1.2).waypoints[0].v_mps for p in (PROFILE, gentle))
    assert slow == pytest.approx(usual / 2, rel=0.05)


def test_the_controller_decides_alike_at_any_scale():
    scale = Scale(8.0, 8.0)
    big = enlarged(scale)
    path = np.array([[0.0, 0.0, 1.0], [0.5, 0.02, 0.8], [1.0, 0.1, 0.6], [2.0, 0.3, 0.0]])
    large_path = path * (scale.length, scale.length, scale.speed)
    for speed in (0.0, 0.04, 0.09, 0.5, 1.4):
        small, large = (Tracker(p, TrackerSettings(), 1 / 30) for p in (PROFILE, big))
        for _ in range(40):  # winds the integral up to its limit
            actions = [
                (t.steering(Path(way), v), t.acceleration(Path(way), v))
                for t, way, v in ((small, path, speed), (large, large_path, speed * scale.speed))
            ]
            assert actions[1] == pytest.approx(actions[0], rel=0.02, abs=1e-3)
    given = ControllerSettings()
    assert given.for_car(PROFILE) is given
    assert given.for_car(big).supervisor.overspeed_mps == 8.0 * given.supervisor.overspeed_mps
    assert Controller(big, PursuitPolicy(big)).settings.tracker.standstill_mps == pytest.approx(0.4)

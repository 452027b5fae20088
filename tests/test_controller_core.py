"""The controller against faults, with a kinematic car in virtual time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.messages import EgoState, Mode, VehicleProfile
from bridge.vehicle import Sensors
from controller.core import Control, Controller
from controller.policies import PursuitPolicy, load_policy
from controller.policy import ActionChunk
from controller.settings import ControllerSettings
from controller.supervisor import EventId
from tests.kinematic_car import IMAGE, PROFILE, TICK_NS, KinematicCar, on_circle, plan, straight


class Scripted:
    """A learned policy that does what the test says."""

    name, learned, needs_image = "scripted", True, True

    def __init__(self, steering: float = 0.0, acceleration: float = 0.0):
        self.action = (steering, acceleration)
        self.seen = None

    def act(self, observation) -> ActionChunk:
        self.seen = observation
        if self.action is None:
            raise RuntimeError("broken")
        return ActionChunk(np.tile(np.array(self.action, np.float32), (50, 1)), 30.0)

    def reset(self) -> None: ...


def pursuit(**fields) -> Controller:
    return Controller(PROFILE, PursuitPolicy(PROFILE), ControllerSettings(**fields))


def tick(controller: Controller, car: KinematicCar) -> Control:
    control = controller.tick(car.now_ns, car.read())
    car.actuate(control.steering, control.throttle, control.brake)
    return control


def drive(controller: Controller, car: KinematicCar, ticks: int) -> list[Control]:
    return [tick(controller, car) for _ in range(ticks)]


def test_without_a_plan_the_car_stands():
    controller, car = pursuit(), KinematicCar()
    controls = drive(controller, car, 60)
    assert car.v == 0.0 and all(c.mode is Mode.IDLE and c.throttle == 0.0 and c.brake > 0.0 for c in controls)


def test_follows_a_bend_at_the_planned_speed_with_half_a_second_of_delay():
    radius_m = 1.0
    controller, car, under_way, seq, errors = pursuit(), KinematicCar(), [], 0, []
    for k in range(300):
        if k % 15 == 0:
            under_way.append((k + 15, on_circle(car, radius_m, seq)))
            seq += 1
        tick(controller, car)
        while under_way and under_way[0][0] <= k:
            assert controller.on_plan(under_way.pop(0)[1], car.now_ns) is None
        if k > 90:
            errors.append(math.hypot(car.x, car.y - radius_m) - radius_m)
    assert max(map(abs, errors)) < 0.06 and car.v == pytest.approx(1.2, abs=0.1)


def test_reprojection_is_what_makes_the_delay_harmless():
    def worst(reprojection: bool) -> float:
        controller, car, under_way, errors = pursuit(reprojection=reprojection), KinematicCar(), [], []
        for k in range(240):
            if k % 15 == 0:
                under_way.append((k + 15, on_circle(car, 1.5, k)))
            tick(controller, car)
            while under_way and under_way[0][0] <= k:
                controller.on_plan(under_way.pop(0)[1], car.now_ns)
            errors.append(abs(math.hypot(car.x, car.y - 1.5) - 1.5))
        return max(errors)

    assert worst(True) < 0.06 < 0.3 < worst(False)


@pytest.mark.parametrize("speed_mps", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("ttl_s", [0.5, 2.0])
def test_planner_dead_at_speed(speed_mps, ttl_s):
    """Standstill within ttl + 1.5 s of the last plan's frame, from any speed, and drives on when plans come back."""
    controller, car = pursuit(), KinematicCar(speed_mps=speed_mps)
    tick(controller, car)
    captured_ns = car.now_ns
    assert controller.on_plan(straight(captured_ns, v_mps=speed_mps, ttl_s=ttl_s), captured_ns) is None
    modes = []
    while car.now_ns - captured_ns < (ttl_s + 1.5) * 1e9:
        modes.append(tick(controller, car).mode)
    assert car.v < 0.02
    assert list(dict.fromkeys(modes)) == [Mode.FRESH, Mode.HOLD, Mode.SLOW, Mode.STOP]
    assert abs(car.y) < 0.02
    drive(controller, car, 90)
    assert car.v == 0.0, "and stays"
    assert controller.on_plan(straight(car.now_ns, seq=1), car.now_ns) is None
    assert drive(controller, car, 30)[-1].mode is Mode.FRESH and car.v > 0.8


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 3.0), st.floats(0.3, 3.0), st.integers(0, 4), st.floats(2.5, 6.0))
def test_standstill_in_time_for_any_speed_and_brake(speed_mps, ttl_s, delay_ticks, brake_mps2):
    profile = VehicleProfile(max_brake_mps2=brake_mps2)
    controller = Controller(profile, PursuitPolicy(profile))
    car = KinematicCar(profile, speed_mps, delay_ticks)
    tick(controller, car)
    captured_ns = car.now_ns
    assert controller.on_plan(straight(captured_ns, v_mps=speed_mps, ttl_s=ttl_s), captured_ns) is None
    while car.now_ns - captured_ns < (ttl_s + 1.5) * 1e9:
        tick(controller, car)
    assert car.v < 0.05


def test_bad_plans_are_rejected_with_a_reason_and_change_nothing():
    controller, car = pursuit(), KinematicCar(speed_mps=1.0)
    controller.start_session("s")
    drive(controller, car, 90)
    now = car.now_ns
    good = straight(now - TICK_NS, seq=5)
    assert controller.on_plan(good, now) is None
    forged = straight(now, seq=6)
    nan = tuple(w.model_copy(update={"y_m": math.nan}) for w in forged.waypoints)
    rejected = {
        "wrong_session": straight(now, seq=6, session_id="other"),
        "old_seq": straight(now, seq=5),
        "from_the_future": straight(now + 10**9, seq=6),
        "out_of_date": straight(now - 2_500_000_000, seq=6),
        "older_frame": straight(now - 5 * TICK_NS, seq=6),
        "absurd": forged.model_copy(update={"waypoints": nan}),
    }
    for reason, bad in rejected.items():
        assert controller.on_plan(bad, now).startswith(reason)
    assert controller.plan is good and set(controller.rejected) == set(rejected)
    control = tick(controller, car)
    assert sum(e.id is EventId.PLAN_REJECTED for e in control.events) == len(rejected)


def test_a_capture_outside_the_ring_is_rejected():
    controller = pursuit()
    assert controller.on_plan(straight(10**9), 10**9 + 1) == "unknown_capture", "nothing is known before the first tick"
    car = KinematicCar()
    controller.sense(car.now_ns, car.read())
    assert controller.on_plan(straight(car.now_ns), car.now_ns) is None, "zero delay in lock-step: sensed, then planned"


def test_a_new_session_starts_counting_anew():
    controller, car = pursuit(), KinematicCar()
    controller.start_session("a")
    tick(controller, car)
    assert controller.on_plan(straight(car.now_ns, seq=9, session_id="a"), car.now_ns) is None
    controller.start_session("b")
    assert controller.on_plan(straight(car.now_ns, seq=0, session_id="b"), car.now_ns) is None


def test_a_plan_to_stand_keeps_the_car_standing_whatever_the_policy_wants():
    policy = Scripted(0.0, 1.0)
    controller, car = Controller(PROFILE, policy), KinematicCar()
    for k in range(90):
        tick(controller, car)
        controller.on_plan(straight(car.now_ns, seq=k, v_mps=0.0), car.now_ns)
    assert car.v == 0.0


@pytest.mark.parametrize("speed_mps", [0.6, 1.2, 2.4])
def test_a_plan_to_stop_stops_within_two_seconds(speed_mps):
    controller, car = pursuit(), KinematicCar(speed_mps=speed_mps)
    for k in range(60):
        tick(controller, car)
        controller.on_plan(straight(car.now_ns, seq=k, v_mps=0.0), car.now_ns)
    assert car.v < 0.05


def test_a_policy_that_runs_away_is_held_to_the_plans_speed():
    controller, car = Controller(PROFILE, Scripted(0.0, 1.0)), KinematicCar()
    for k in range(200):
        tick(controller, car)
        controller.on_plan(straight(car.now_ns, seq=k, v_mps=1.0), car.now_ns)
    assert car.v < 1.7 and controller.event_counts[EventId.OVERSPEED] >= 1


def test_a_policy_that_leaves_the_plan_hands_over_to_pursuit_and_gets_back():
    policy = Scripted(0.9, 0.3)
    controller, car = Controller(PROFILE, policy), KinematicCar(speed_mps=1.2)
    drivers = []
    for k in range(60):
        drivers.append(tick(controller, car).driver)
        controller.on_plan(plan([car.to_ego(car.x + 0.5 * i, 0.0) for i in range(1, 9)], car.now_ns, k), car.now_ns)
    assert drivers[-1] == "pursuit" and abs(car.y) < 0.6
    assert controller.event_counts[EventId.POLICY_PARTED] == 1
    policy.action = (0.0, 0.1)
    for k in range(60, 150):
        drivers.append(tick(controller, car).driver)
        controller.on_plan(plan([car.to_ego(car.x + 0.5 * i, 0.0) for i in range(1, 9)], car.now_ns, k), car.now_ns)
    assert drivers[-1] == "scripted" and controller.event_counts[EventId.POLICY_REJOINED] == 1


@pytest.mark.parametrize(
    ("action", "event"),
    [
        ((math.nan, 0.0), EventId.POLICY_NOT_FINITE),
        ((0.0, math.inf), EventId.POLICY_NOT_FINITE),
        (None, EventId.POLICY_FAILED),
    ],
)
def test_a_broken_policy_is_replaced_by_pursuit(action, event):
    policy = Scripted()
    controller, car = Controller(PROFILE, policy), KinematicCar(speed_mps=1.0)
    tick(controller, car)
    controller.on_plan(straight(car.now_ns), car.now_ns)
    policy.action = action
    for control in drive(controller, car, 20):
        assert control.driver == "pursuit" and math.isfinite(control.steering) and math.isfinite(control.acceleration)
    assert controller.event_counts[event] == 20 and car.v > 0.9


def test_a_learned_policy_steers_on_while_the_ladder_brakes():
    policy = Scripted(0.4, 1.0)
    controller, car = Controller(PROFILE, policy), KinematicCar(speed_mps=1.5)
    tick(controller, car)
    controller.on_plan(on_circle(car, 1.2, 0), car.now_ns)
    controls = drive(controller, car, 110)
    slow = [c for c in controls if c.mode is Mode.SLOW]
    assert slow and all(c.driver == "scripted" and c.steering == pytest.approx(0.4) and c.throttle == 0.0 for c in slow)
    assert policy.seen.path_valid == 0.0 and car.v < 0.05


def test_stop_holds_against_plans_until_something_new_is_said():
    controller, car = pursuit(), KinematicCar(speed_mps=1.5)

    def said(seq, command_id, age_ns=0):
        verdict = {"command_id": command_id, "verdict": "accepted"}
        return controller.on_plan(straight(car.now_ns - age_ns, seq=seq, verdict=verdict), car.now_ns)

    drive(controller, car, 3)
    said(0, "overtake")
    controller.on_stop("operator", car.now_ns)
    said(1, "late", age_ns=TICK_NS)  # was under way when the stop came
    controls = drive(controller, car, 30)
    assert all(c.mode is Mode.ESTOP for c in controls) and car.v < 0.05
    said(2, "overtake")
    assert tick(controller, car).mode is Mode.ESTOP, "the same command goes on: no"
    said(3, "go")
    assert drive(controller, car, 5)[-1].mode is Mode.FRESH
    controller.on_stop("again", car.now_ns)
    assert tick(controller, car).mode is Mode.ESTOP
    controller.release_stop()
    assert tick(controller, car).mode is Mode.FRESH


def test_stale_or_missing_sensors_stop_the_car():
    controller, car = Controller(PROFILE, Scripted(0.0, 0.5)), KinematicCar(speed_mps=1.0)
    tick(controller, car)
    controller.on_plan(straight(car.now_ns), car.now_ns)
    frozen = car.read()
    stale = controller.tick(frozen.t_capture_ns + 400_000_000, frozen)
    assert stale.mode is Mode.STOP and stale.brake == 1.0
    assert [e.id for e in stale.events if e.id is EventId.SENSORS_STALE]
    blind = controller.tick(car.now_ns, Sensors(None, EgoState(speed_mps=1.0), car.now_ns))
    assert blind.mode is Mode.STOP and blind.brake == 1.0
    grey = Sensors(IMAGE[..., 0], EgoState(speed_mps=1.0), car.now_ns)
    assert controller.tick(car.now_ns, grey).mode is Mode.STOP
    broken = EgoState.model_construct(speed_mps=math.nan, yaw_rate_radps=0.0, steering=0.0)
    assert controller.tick(car.now_ns, Sensors(IMAGE, broken, car.now_ns)).brake == 1.0


def test_a_gap_in_dead_reckoning_loses_the_plan():
    controller, car = pursuit(), KinematicCar(speed_mps=1.0)
    tick(controller, car)
    controller.on_plan(straight(car.now_ns - 1), car.now_ns)
    car.now_ns += 800_000_000
    control = tick(controller, car)
    assert control.mode is Mode.STOP and EventId.PLAN_LOST in [e.id for e in control.events]
    assert control.plan_age_s is None


def test_manual_and_back():
    controller, car = pursuit(), KinematicCar()
    controller.set_manual((0.3, 0.5))
    control = drive(controller, car, 10)[-1]
    assert control.mode is Mode.MANUAL and control.driver == "manual" and control.throttle == pytest.approx(0.5)
    controller.set_manual((math.nan, 0.5))
    assert tick(controller, car).brake == 1.0
    controller.set_manual(None)
    assert tick(controller, car).mode is Mode.IDLE


def test_doing_counts_from_the_change_of_intent():
    controller, car = pursuit(), KinematicCar()
    tick(controller, car)
    controller.on_plan(straight(car.now_ns, 0, intent="overtake_left"), car.now_ns)
    drive(controller, car, 30)
    controller.on_plan(straight(car.now_ns, 1, intent="overtake_left"), car.now_ns)
    doing = controller.doing(car.now_ns)
    assert doing.intent == "overtake_left" and doing.since_s == pytest.approx(1.0, abs=0.01)
    controller.on_plan(straight(car.now_ns, 2), car.now_ns)
    assert controller.doing(car.now_ns).since_s == 0.0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), min_size=1, max_size=25), st.integers(0, 10**6))
def test_any_disorder_of_plans_is_survived(deliveries, seed):
    """Late, dropped, reordered and repeated plans: never an exception, never a number that is not finite, never older
    after newer."""
    rng = np.random.default_rng(seed)
    controller, car = pursuit(), KinematicCar()
    under_way = sorted((made + late, made) for made, late in deliveries)
    plans, newest = {}, -1
    for k in range(100):
        if k <= 40:
            heading = rng.uniform(-0.5, 0.5)
            points = [(0.5 * i * math.cos(heading), 0.5 * i * math.sin(heading)) for i in range(1, 9)]
            plans[k] = plan(points, car.now_ns, k)
        control = tick(controller, car)
        assert math.isfinite(control.steering) and math.isfinite(control.acceleration)
        for arrives, made in under_way:
            if arrives == k and controller.on_plan(plans[made], car.now_ns) is None:
                assert made > newest
                newest = made


def test_policies_by_name():
    assert load_policy("pursuit", PROFILE).name == "pursuit"
    with pytest.raises(ValueError, match="pursuit"):
        load_policy("persuit", PROFILE)

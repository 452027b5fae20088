"""The ladder as a table in virtual time, and the limits on what leaves the controller."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.messages import Mode
from controller.settings import SupervisorSettings
from controller.supervisor import EventId, PartingWatch, Situation, Supervisor, ladder, rollout
from tests.kinematic_car import PROFILE

LIMITS = SupervisorSettings()
TTL_S = 2.0


@pytest.mark.parametrize(
    ("situation", "mode"),
    [
        (Situation(None, TTL_S), Mode.IDLE),
        (Situation(0.0, TTL_S), Mode.FRESH),
        (Situation(1.0, TTL_S), Mode.FRESH),
        (Situation(1.01, TTL_S), Mode.HOLD),
        (Situation(2.0, TTL_S), Mode.HOLD),
        (Situation(2.01, TTL_S), Mode.SLOW),
        (Situation(3.0, TTL_S), Mode.SLOW),
        (Situation(3.01, TTL_S), Mode.STOP),
        (Situation(math.inf, TTL_S), Mode.STOP),
        (Situation(0.0, TTL_S, sensors_ok=False), Mode.STOP),
        (Situation(None, TTL_S, sensors_ok=False), Mode.IDLE),
        (Situation(0.0, TTL_S, manual=True), Mode.MANUAL),
        (Situation(9.0, TTL_S, manual=True), Mode.MANUAL),
        (Situation(0.0, TTL_S, manual=True, estop=True), Mode.ESTOP),
        (Situation(None, TTL_S, estop=True), Mode.ESTOP),
    ],
)
def test_ladder_table(situation, mode):
    assert ladder(situation, LIMITS.fresh_fraction, LIMITS.slow_s) is mode


def supervisor(**settings) -> Supervisor:
    return Supervisor(PROFILE, SupervisorSettings(**settings), 0.3, 0.05)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=30))
def test_outputs_stay_in_range_and_rate(wanted):
    watch = supervisor()
    before = (0.0, 0.0)
    for steering, acceleration in wanted:
        out = watch.limit(steering, acceleration, 1 / 30)
        assert all(-1.0 <= v <= 1.0 for v in out)
        assert abs(out[0] - before[0]) <= LIMITS.steering_rate_per_s / 30 + 1e-9
        assert out[1] <= max(before[1], 0.0) + LIMITS.acceleration_rate_per_s / 30 + 1e-9
        before = out


def test_braking_is_never_delayed():
    watch = supervisor()
    watch.limit(0.0, 1.0, 1 / 30)
    assert watch.limit(0.0, -1.0, 1 / 30)[1] == -1.0


@given(st.floats(0.0, 3.0))
def test_slow_mode_only_ever_brakes_and_ends_at_zero(entry_mps):
    watch, speed, age = supervisor(), entry_mps, TTL_S + 1e-3
    while speed > 0.05 and age < 5.0:
        situation = Situation(age, TTL_S)
        watch.enter(situation, speed)
        cap = watch.brake_cap(situation, speed)
        assert cap <= 0.0
        speed = max(0.0, speed + cap * PROFILE.max_brake_mps2 / 30)
        age += 1 / 30
    assert age - TTL_S < 1.2, "well inside the promised 1.5 s"


def test_no_brake_while_following_and_full_brake_in_estop():
    watch = supervisor()
    fresh, estop = Situation(0.1, TTL_S), Situation(0.1, TTL_S, estop=True)
    watch.enter(fresh, 1.0)
    assert watch.brake_cap(fresh, 1.0) == 1.0
    watch.enter(estop, 1.0)
    assert watch.brake_cap(estop, 1.0) == -1.0
    assert watch.brake_cap(estop, 0.0) == -0.3, "a standing car is held gently"


def test_parting_needs_several_ticks_and_rejoining_more():
    watch = PartingWatch(LIMITS, wheelbase_m=0.25)  # corridor: 0.3 m
    assert [watch.update(0.6) for _ in range(3)] == [None, None, EventId.POLICY_PARTED]
    assert watch.parted
    assert all(watch.update(0.25) is None for _ in range(50)), "inside, but not well inside"
    changes = [watch.update(0.1) for _ in range(LIMITS.rejoin_ticks)]
    assert changes[-1] is EventId.POLICY_REJOINED and not watch.parted
    assert [watch.update(d) for d in (0.6, 0.6, 0.1, 0.6, 0.6)] == [None] * 5, (
        "a single good tick starts the count anew"
    )
    assert watch.update(None) is None and watch.update(math.nan) is None


def test_rollout_follows_the_bicycle():
    straight = rollout(PROFILE, np.zeros((50, 2)), 30.0, 1.5, 1.0)
    assert np.allclose(straight[-1], [1.5, 0.0])
    left = rollout(PROFILE, np.tile([0.5, 0.0], (50, 1)), 30.0, 1.5, 1.0)
    radius = PROFILE.wheelbase_m / math.tan(0.5 * PROFILE.steering_limit_rad)
    assert left[-1, 1] > 0.0 and np.allclose(np.hypot(left[:, 0], left[:, 1] - radius), radius, atol=0.03)
    assert rollout(PROFILE, np.full((50, 2), -9.0), 30.0, 0.5, 1.0)[-1, 0] < 0.1, "braking never reverses"

"""The ladder by plan age, and the limits on what leaves the controller. Pure: no clock, no I/O, no policy.

fresh -> hold -> slow -> stop, plus idle (no plan yet), manual and estop. The promise: from any speed that the profile
allows, standstill within ttl + 1.5 s of the last plan's frame, if the profile's brake can do it at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bridge.messages import Mode, VehicleProfile
from controller.settings import SupervisorSettings

FOLLOWING = (Mode.FRESH, Mode.HOLD)
BRAKING = (Mode.SLOW, Mode.STOP, Mode.ESTOP)


class EventId(StrEnum):
    """Everything that the controller may report; counted by id."""

    MODE_CHANGED = "mode_changed"
    PLAN_REJECTED = "plan_rejected"
    PLAN_LOST = "plan_lost"
    SENSORS_STALE = "sensors_stale"
    SENSORS_INVALID = "sensors_invalid"
    POLICY_FAILED = "policy_failed"
    POLICY_NOT_FINITE = "policy_not_finite"
    POLICY_PARTED = "policy_parted"
    POLICY_REJOINED = "policy_rejoined"
    OVERSPEED = "overspeed"
    ESTOP = "estop"
    ESTOP_RELEASED = "estop_released"


@dataclass(frozen=True)
class Event:
    """Something worth telling: `id` for counting, `detail` for reading."""

    id: EventId
    detail: str = ""


@dataclass(frozen=True)
class Situation:
    """What the ladder looks at. `plan_age_s` is None before the first plan; infinite when its frame has been lost."""

    plan_age_s: float | None
    ttl_s: float
    sensors_ok: bool = True
    manual: bool = False
    estop: bool = False


def ladder(situation: Situation, fresh_fraction: float, slow_s: float) -> Mode:
    """The mode for a situation: a pure function, without hysteresis, so a fresh plan always takes the car up again."""
    if situation.estop:
        return Mode.ESTOP
    if situation.manual:
        return Mode.MANUAL
    if situation.plan_age_s is None:
        return Mode.IDLE
    if not situation.sensors_ok:
        return Mode.STOP
    age_s, ttl_s = situation.plan_age_s, situation.ttl_s
    if age_s <= fresh_fraction * ttl_s:
        return Mode.FRESH
    if age_s <= ttl_s:
        return Mode.HOLD
    return Mode.SLOW if age_s <= ttl_s + slow_s else Mode.STOP


class Supervisor:
    """Keeps what the limits need to remember: the last output, and the speed at which slowing down began."""

    def __init__(self, profile: VehicleProfile, settings: SupervisorSettings, hold_brake: float, standstill_mps: float):
        self.profile, self.settings = profile, settings
        self._hold_brake, self._standstill_mps = hold_brake, standstill_mps
        self.reset()

    def reset(self) -> None:
        """As at the start: idle, wheels straight."""
        self.mode = Mode.IDLE
        self.last_steering = 0.0
        self._last_acceleration = 0.0
        self._slow_entry_mps: float | None = None

    def enter(self, situation: Situation, speed_mps: float) -> Mode:
        """Take the ladder's step for this tick and return the mode."""
        mode = ladder(situation, self.settings.fresh_fraction, self.settings.slow_s)
        if mode is not Mode.SLOW:
            self._slow_entry_mps = None
        elif self._slow_entry_mps is None:
            self._slow_entry_mps = max(speed_mps, 0.0)
        self.mode = mode
        return mode

    def brake_cap(self, situation: Situation, speed_mps: float) -> float:
        """The highest acceleration in [-1, 1] that the mode allows now (1 where it does not brake)."""
        if self.mode not in BRAKING:
            return -self._hold_brake if self.mode is Mode.IDLE else 1.0
        if self.mode is Mode.SLOW and self._slow_entry_mps is not None and situation.plan_age_s is not None:
            return self._slow_ramp(situation.plan_age_s - situation.ttl_s, speed_mps)
        return -self._hold_brake if speed_mps < self._standstill_mps else -1.0

    def _slow_ramp(self, over_s: float, speed_mps: float) -> float:
        """Speed falls linearly to zero over `slow_s`; at once fully where the brake is too weak for that."""
        assert self._slow_entry_mps is not None
        if speed_mps < self._standstill_mps:
            return -self._hold_brake
        slow_s = self.settings.slow_s
        wanted_mps = self._slow_entry_mps * max(0.0, 1.0 - over_s / slow_s)
        wanted_mps2 = -self._slow_entry_mps / slow_s + 6.0 * (wanted_mps - speed_mps)
        return min(0.0, max(-1.0, wanted_mps2 / self.profile.max_brake_mps2))

    def limit(self, steering: float, acceleration: float, period_s: float) -> tuple[float, float]:
        """Range and rate limits on finite values; braking harder is never delayed. Remembers what it returns."""
        turn = self.settings.steering_rate_per_s * period_s
        steering = _clip(steering, self.last_steering - turn, self.last_steering + turn)
        rise = self.settings.acceleration_rate_per_s * period_s
        acceleration = min(acceleration, max(self._last_acceleration, 0.0) + rise)
        self.last_steering = _clip(steering, -1.0, 1.0)
        self._last_acceleration = _clip(acceleration, -1.0, 1.0)
        return self.last_steering, self._last_acceleration


class PartingWatch:
    """Whether a learned policy has parted from the plan: out after `part_ticks` outside the corridor, back after
    `rejoin_ticks` well inside it."""

    def __init__(self, settings: SupervisorSettings, wheelbase_m: float):
        self._settings = settings
        self._corridor_m = settings.corridor_wheelbases * wheelbase_m
        self.reset()

    def reset(self) -> None:
        """Trust the policy again."""
        self.parted = False
        self._count = 0

    def update(self, deviation_m: float | None) -> EventId | None:
        """Take in how far the policy is about to leave the plan [m] (None: cannot be told). Returns what changed."""
        if deviation_m is None or not math.isfinite(deviation_m):
            return None
        if self.parted:
            counts = deviation_m < self._settings.rejoin_fraction * self._corridor_m
            needed = self._settings.rejoin_ticks
        else:
            counts = deviation_m > self._corridor_m
            needed = self._settings.part_ticks
        self._count = self._count + 1 if counts else 0
        if self._count < needed:
            return None
        self._count, self.parted = 0, not self.parted
        return EventId.POLICY_PARTED if self.parted else EventId.POLICY_REJOINED


def rollout(
    profile: VehicleProfile, actions: np.ndarray, rate_hz: float, speed_mps: float, horizon_s: float
) -> np.ndarray:
    """Where a chunk (n, 2) would take the car: positions (k, 2) [m] in the ego frame, by a kinematic bicycle."""
    count = max(1, min(len(actions), int(horizon_s * rate_hz)))
    actions = np.clip(actions[:count], -1.0, 1.0).astype(float)
    gain = np.where(actions[:, 1] >= 0.0, profile.max_accel_mps2, profile.max_brake_mps2)
    speeds = np.clip(speed_mps + np.cumsum(actions[:, 1] * gain) / rate_hz, 0.0, profile.max_speed_mps)
    curvatures = np.tan(actions[:, 0] * profile.steering_limit_rad) / profile.wheelbase_m
    headings = np.cumsum(speeds * curvatures) / rate_hz
    return np.column_stack([np.cumsum(speeds * np.cos(headings)), np.cumsum(speeds * np.sin(headings))]) / rate_hz


def _clip(value: float, low: float, high: float) -> float:
    return min(high, max(low, value))

"""Settings of the controller. Lengths are in wheelbases where one value shall serve cars of every size; what is in m/s
or m/s^2 is said for the default car, and `for_car` brings it to the scale of another (`bridge.scale`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bridge.messages import VehicleProfile
from bridge.scale import scale_of

Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrackerSettings(_Settings):
    """Pure pursuit and the speed loop. The look-ahead is `lookahead_wheelbases` + `lookahead_s` times the speed."""

    lookahead_wheelbases: Positive = 1.2
    lookahead_s: NonNegative = 0.25
    lookahead_limit_wheelbases: Positive = 8.0
    speed_preview_s: NonNegative = 0.15
    speed_gain_per_s: Positive = 4.0
    speed_integral_per_s2: NonNegative = 1.5
    integral_limit_mps2: NonNegative = 0.8
    standstill_mps: Positive = 0.05  # a wanted speed below this means: stand
    hold_brake: Fraction = 0.3  # brake that keeps a standing car standing

    def for_car(self, profile: VehicleProfile) -> TrackerSettings:
        """The same at the speeds of another car; the default car gets these very settings."""
        scale = scale_of(profile)
        if scale.is_one:
            return self
        changes = {
            "standstill_mps": self.standstill_mps * scale.speed,
            "integral_limit_mps2": self.integral_limit_mps2 * scale.accel,
        }
        return self.model_copy(update=changes)


class SupervisorSettings(_Settings):
    """The ladder and the limits on what leaves the controller."""

    fresh_fraction: Fraction = 0.5  # of the ttl
    slow_s: Positive = 1.0  # from the ttl's end to standstill; must leave room within the promised 1.5 s
    sensor_timeout_s: Positive = 0.3
    steering_rate_per_s: Positive = 8.0
    acceleration_rate_per_s: Positive = 15.0  # upward only: braking is never delayed
    overspeed_fraction: NonNegative = 0.1
    overspeed_mps: NonNegative = 0.1
    corridor_wheelbases: Positive = 1.2  # half of a narrow lane, and a little
    corridor_horizon_s: Positive = 1.0
    part_ticks: Annotated[int, Field(ge=1)] = 3
    rejoin_ticks: Annotated[int, Field(ge=1)] = 15
    rejoin_fraction: Fraction = 0.6  # of the corridor

    def for_car(self, profile: VehicleProfile) -> SupervisorSettings:
        """The same at the speeds of another car; the default car gets these very settings."""
        scale = scale_of(profile)
        if scale.is_one:
            return self
        return self.model_copy(update={"overspeed_mps": self.overspeed_mps * scale.speed})


class ControllerSettings(_Settings):
    """Everything of `Controller`. `reprojection=False` uses waypoints as if captured now (for comparison only)."""

    rate_hz: Positive = 30.0
    reprojection: bool = True
    ring_s: Positive = 12.0
    ring_gap_s: Positive = 0.5  # dead reckoning over a longer gap is not believed
    requery_ticks: Annotated[int, Field(ge=1)] = 1
    blend: Fraction = 0.0  # weight of the older chunks where chunks overlap
    plan_reach_wheelbases: Positive = 400.0
    tracker: TrackerSettings = TrackerSettings()
    supervisor: SupervisorSettings = SupervisorSettings()

    def for_car(self, profile: VehicleProfile) -> ControllerSettings:
        """The same at the speeds of another car; the default car gets these very settings."""
        parts = {"tracker": self.tracker.for_car(profile), "supervisor": self.supervisor.for_car(profile)}
        return self if scale_of(profile).is_one else self.model_copy(update=parts)

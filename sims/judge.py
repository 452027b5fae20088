"""The judge: did an episode succeed? Reads truth (and the planner's verdicts, for `overtake_blocked`), nothing else.

Rules: the scenario table of the design. In every scenario a collision or a wheel off the road fails at once. The table
is meant for the default car: truths of another one are brought to its scale (`bridge.scale`) before they are judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bridge.messages import VehicleProfile
from bridge.scale import model_profile, scale_of
from sims.scale import scenario_at_model_scale, truth_at_model_scale
from sims.scenarios import Scenario
from sims.truth import ActorTruth, Truth

SPEED_FIT_S = (-0.5, 2.5)  # fitted around the command; the time before it lets a prompt answer count
STANDING_MPS = 0.1
KEEP_REACHED_S = 6.0  # by then the outermost lane must be reached, and held from then on


@dataclass(frozen=True)
class EpisodeResult:
    """`route_completion`: for `follow_lane` the share of the asked distance, otherwise the share of the episode that
    was driven before a fatal event (1 when there was none)."""

    success: bool
    reason: str
    collision: bool
    off_road: bool
    route_completion: float
    duration_s: float


class Judge:
    """Watches one episode. Call `observe` after every step, stop when `finished`, then ask for the `result`."""

    def __init__(self, scenario: Scenario, profile: VehicleProfile):
        self._profile, self._time = profile, scale_of(profile).time
        self._scenario = scenario_at_model_scale(scenario, profile)
        self._check = _CHECKS[scenario.name](self._scenario, profile)
        self._outcome: tuple[bool, str] | None = None
        self._first: Truth | None = None
        self._last: Truth | None = None

    @property
    def finished(self) -> bool:
        """Whether the outcome is decided."""
        return self._outcome is not None

    def observe(self, truth: Truth, verdict: str | None = None, reason: str | None = None) -> None:
        """One step. `verdict`: the latest one on the command in force; `reason`: the one given with it (None: not
        known to the caller, the empty string: none was given)."""
        if self._outcome is not None:
            return
        truth = truth_at_model_scale(truth, self._profile)
        self._first = self._first or truth
        self._last = truth
        if truth.collision:
            self._outcome = (False, "collision")
        elif truth.off_road:
            self._outcome = (False, "a wheel left the road")
        else:
            self._outcome = self._check.observe(truth, self._elapsed_s, str(verdict) if verdict else None, reason)
        if self._outcome is None and self._elapsed_s >= self._scenario.duration_s - 1e-6:
            self._outcome = self._check.at_end()

    @property
    def _elapsed_s(self) -> float:
        return self._last.t_s - self._first.t_s if self._last else 0.0

    def result(self) -> EpisodeResult:
        """The outcome so far; an unfinished episode has failed."""
        last = self._last
        success, reason = self._outcome or (False, "not finished")
        return EpisodeResult(
            success=success,
            reason=reason,
            collision=bool(last and last.collision),
            off_road=bool(last and last.off_road),
            route_completion=self._route_completion(),
            duration_s=self._elapsed_s * self._time,
        )

    def _route_completion(self) -> float:
        if self._last is None:
            return 0.0
        distance = self._scenario.params.get("distance_m")
        if distance is not None:
            return float(np.clip((self._last.progress_m - self._first.progress_m) / distance, 0.0, 1.0))
        fatal = self._last.collision or self._last.off_road
        return (
            float(np.clip(self._elapsed_s / self._scenario.duration_s, 0.0, 1.0)) if fatal or not self.finished else 1.0
        )


Outcome = tuple[bool, str] | None


class _Check:
    """A rule, at model scale. `observe` returns an outcome as soon as it is decided; `at_end` when the time is up.
    `scale` is that of the car, for figures that are told."""

    def __init__(self, scenario: Scenario, profile: VehicleProfile):
        self.params = scenario.params
        self.scenario = scenario
        self.profile, self.scale = model_profile(profile), scale_of(profile)
        self.t_command_s = scenario.params["t_command_s"]

    def observe(self, truth: Truth, t_s: float, verdict: str | None, reason: str | None) -> Outcome:
        raise NotImplementedError

    def at_end(self) -> tuple[bool, str]:
        raise NotImplementedError

    def gap_to(self, actor: ActorTruth) -> float:
        """Front bumper to the actor's rear, along the road [m]."""
        return actor.s_ahead_m - actor.length_m / 2 - (self.profile.length_m - self.profile.rear_overhang_m)

    def lead_over(self, actor: ActorTruth) -> float:
        """The actor's front to the ego's rear bumper, along the road [m]."""
        return -actor.s_ahead_m - actor.length_m / 2 - self.profile.rear_overhang_m


class _FollowLane(_Check):
    start_m: float | None = None
    done_m = 0.0

    def observe(self, truth, t_s, verdict, reason):
        if self.start_m is None:
            self.start_m = truth.progress_m
        self.done_m = truth.progress_m - self.start_m
        return (True, "asked distance driven") if self.done_m >= self.params["distance_m"] else None

    def at_end(self):
        done, asked = (way * self.scale.length for way in (self.done_m, self.params["distance_m"]))
        return False, f"only {done:.1f} of {asked:.1f} m driven"


class _SpeedSlope(_Check):
    """Least-squares slope of the speed over SPEED_FIT_S, relative to the speed at the command."""

    def __init__(self, scenario, profile):
        super().__init__(scenario, profile)
        self.times: list[float] = []
        self.speeds: list[float] = []
        self.at_command: float | None = None

    def observe(self, truth, t_s, verdict, reason):
        since = t_s - self.t_command_s
        if since >= 0.0 and self.at_command is None:
            self.at_command = truth.speed_mps
        if SPEED_FIT_S[0] <= since <= SPEED_FIT_S[1]:
            self.times.append(t_s)
            self.speeds.append(truth.speed_mps)
        return None

    def at_end(self):
        if len(self.times) < 3 or self.at_command is None:
            return False, "too few speeds seen after the command"
        slope = float(np.polyfit(self.times, self.speeds, 1)[0]) / max(self.at_command, 0.1)
        wanted = slope > 0.05 if self.scenario.name == "faster" else slope < -0.05
        return wanted, f"speed changed by {100 * slope:+.0f} % per second"


class _TargetSpeed(_Check):
    def __init__(self, scenario, profile):
        super().__init__(scenario, profile)
        self.speeds: list[float] = []

    def observe(self, truth, t_s, verdict, reason):
        if t_s >= self.scenario.duration_s - 1.0:
            self.speeds.append(truth.speed_mps)
        return None

    def at_end(self):
        mean, target = float(np.mean(self.speeds or [0.0])), self.params["speed_mps"]
        told = f"drove {mean * self.scale.speed:.2f} m/s, asked {target * self.scale.speed:.2f}"
        return abs(mean - target) <= 0.2 * target, told


class _Stop(_Check):
    speed = 0.0

    def observe(self, truth, t_s, verdict, reason):
        self.speed = abs(truth.speed_mps)
        return None

    def at_end(self):
        return self.speed < STANDING_MPS, f"end speed {self.speed * self.scale.speed:.2f} m/s"


class _Change(_Check):
    since_s: float | None = None

    def observe(self, truth, t_s, verdict, reason):
        off = abs(truth.d_m - truth.lane_center_d_m(self.params["target_lane"]))
        if off > 0.25 * truth.lane_width_m or t_s < self.t_command_s:
            self.since_s = None
        elif self.since_s is None:
            self.since_s = t_s
        held = self.since_s is not None and t_s - self.since_s >= 1.0 - 1e-6
        return (True, "in the new lane for 1 s") if held else None

    def at_end(self):
        return False, "not in the new lane in time"


class _Keep(_Check):
    def observe(self, truth, t_s, verdict, reason):
        late = t_s >= self.t_command_s + KEEP_REACHED_S
        return (False, "not in the outermost lane") if late and truth.lane != self.params["target_lane"] else None

    def at_end(self):
        return True, "outermost lane held"


class _Overtake(_Check):
    beside = False

    def observe(self, truth, t_s, verdict, reason):
        other = truth.actors[0]
        if self.gap_to(other) < 0.0 and self.lead_over(other) < 0.0:
            self.beside |= (truth.d_m - other.d_m) * self.params["step"] > (other.width_m + self.profile.width_m) / 2
        if self.lead_over(other) < other.length_m:
            return None
        return (True, "overtaken") if self.beside else (False, "passed on the wrong side")

    def at_end(self):
        return False, "not overtaken in time"


class _FollowVehicle(_Check):
    since_s: float | None = None

    def observe(self, truth, t_s, verdict, reason):
        other = truth.actors[0]
        time_gap = self.gap_to(other) / max(truth.speed_mps, 0.05)
        if t_s < self.t_command_s or truth.lane != other.lane or not 0.5 <= time_gap <= 3.0:
            self.since_s = None
        elif self.since_s is None:
            self.since_s = t_s
        held = self.since_s is not None and t_s - self.since_s >= 5.0 - 1e-6
        return (True, "time gap held for 5 s") if held else None

    def at_end(self):
        return False, "time gap not held for 5 s"


class _Avoid(_Check):
    def observe(self, truth, t_s, verdict, reason):
        return (True, "past the obstacle") if self.lead_over(truth.actors[0]) > 0.0 else None

    def at_end(self):
        return False, "not past the obstacle"


class _PullOver(_Check):
    since_s: float | None = None

    def observe(self, truth, t_s, verdict, reason):
        standing = truth.lane == 0 and abs(truth.speed_mps) < STANDING_MPS and t_s >= self.t_command_s
        if not standing:
            self.since_s = None
        elif self.since_s is None:
            self.since_s = t_s
        held = self.since_s is not None and t_s - self.since_s >= 1.0 - 1e-6
        return (True, "standing in the rightmost lane") if held else None

    def at_end(self):
        return False, "not standing in the rightmost lane"


class _Blocked(_Overtake):
    """Actor 0 is the lead, actor 1 stands in for the traffic in the lane that the overtaking needs."""

    explained = False

    def observe(self, truth, t_s, verdict, reason):
        if t_s >= self.t_command_s and verdict in ("waiting", "refused") and reason != "":
            self.explained = True
        in_target = truth.lane == self.params["start_lane"] + self.params["step"]
        if in_target and not self.beside and self._blocked(truth):
            return False, "entered the occupied lane"
        if not self.params["becomes_free"]:
            return None
        outcome = super().observe(truth, t_s, verdict, reason)
        return (
            (False, "overtook without having waited")
            if outcome == (True, "overtaken") and not self.explained
            else outcome
        )

    def _blocked(self, truth: Truth) -> bool:
        lead, other = truth.actors[0], truth.actors[1]
        return self.lead_over(other) < 0.5 and other.s_ahead_m < lead.s_ahead_m + lead.length_m + other.length_m

    def at_end(self):
        if not self.explained:
            return False, "no verdict 'waiting' or 'refused' with a reason"
        if self.params["becomes_free"]:
            return False, "not overtaken after the lane became free"
        return True, "waited behind"


_CHECKS: dict[str, Callable[[Scenario, VehicleProfile], _Check]] = {
    "follow_lane": _FollowLane,
    "faster": _SpeedSlope,
    "slower": _SpeedSlope,
    "target_speed": _TargetSpeed,
    "stop": _Stop,
    "change_left": _Change,
    "change_right": _Change,
    "keep_left": _Keep,
    "keep_right": _Keep,
    "overtake_left": _Overtake,
    "overtake_right": _Overtake,
    "follow_vehicle": _FollowVehicle,
    "avoid_obstacle": _Avoid,
    "pull_over": _PullOver,
    "overtake_blocked": _Blocked,
}

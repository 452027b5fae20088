"""Driving tasks in Frenet terms: (name, road, seed) -> start, actors, commands on a timeline, and a time limit.

Knows roads and the fixed table of tasks; knows no world. What counts as success is in `sims.judge`. The same (name,
road, seed) always gives the same scenario. Built at the scale of the default car (see `bridge.scale`), handed out at
the real one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from bridge.messages import VehicleProfile
from bridge.planning import Instruction
from bridge.scale import ONE, Scale, model_profile, scale_of
from sims.actors import ActorSpec
from sims.road import Road
from sims.sayings import SAYINGS
from sims.scale import scaled_road, scenario_at_full_scale

CAR_LENGTH_M = 0.38
FOLLOW_DISTANCE_M = 40.0
COMMAND_AT_S = (1.6, 2.6)  # late enough for a car that stood still until its first plan to be at speed again


class ScenarioError(ValueError):
    """The road cannot host the scenario; the message says why."""


@dataclass(frozen=True)
class TimedCommand:
    """`text` said at `t_s` since the reset, meaning `instruction`."""

    t_s: float
    text: str
    instruction: Instruction


@dataclass(frozen=True)
class Scenario:
    """One episode's setting. `params` holds what the judge needs (see there), actor 0 is the one that matters."""

    name: str
    road: Road
    start_s_m: float
    start_d_m: float
    start_speed_mps: float
    cruise_mps: float
    actors: tuple[ActorSpec, ...]
    commands: tuple[TimedCommand, ...]
    duration_s: float
    params: dict = field(default_factory=dict)


@dataclass
class _Draft:
    """A scenario under construction, at model scale; `scale` is that of the real car, for what is said aloud."""

    name: str
    road: Road
    rng: np.random.Generator
    profile: VehicleProfile
    language: str
    cruise_mps: float
    t_command_s: float
    seed: int
    scale: Scale = ONE
    slowness: float = 1.0  # below 1 on a second try, when a road was too tight for the first
    lane: int = 0
    start_s_m: float = 0.0
    actors: list[ActorSpec] = field(default_factory=list)
    params: dict = field(default_factory=dict)

    def need_lanes(self, count: int) -> None:
        if self.road.lane_count < count:
            raise ScenarioError(f"{self.name}: road {self.road.name!r} has {self.road.lane_count} lane, needs {count}")

    def place(self, lane: int, speed_mps: float | None = None, length_m: float = 0.0) -> None:
        """Choose the start; with `speed_mps`, where bends allow that speed from the command on over `length_m`."""
        self.lane = lane
        for _ in range(300 if speed_mps else 1):
            self.start_s_m = float(self.rng.uniform(0.0, self.road.length_m))
            if not speed_mps or self._lowest_limit(length_m) >= 1.03 * speed_mps:
                return
        raise ScenarioError(
            f"{self.name}: road {self.road.name!r} has no stretch of {length_m * self.scale.length:.0f} m "
            f"for {speed_mps * self.scale.speed:.1f} m/s"
        )

    def _lowest_limit(self, length_m: float) -> float:
        """Lowest speed limit by bends on the next `length_m` of the lane itself [m/s]."""
        s = self.start_s_m + np.arange(0.0, 3.0 * length_m, 0.2)
        k, d = self.road.curvature_at(s), self.road.lane_center_d(s, self.lane)
        stretch = np.maximum(1.0 - k * d, 0.2)  # metres of the lane per metre of the reference line
        driven = np.cumsum(0.2 * stretch) - 0.2 * stretch[0]
        tightest = float(np.max(np.abs(k / stretch)[driven <= length_m]))
        return math.sqrt(self.profile.max_lateral_mps2 / max(tightest, 1e-6))

    def add(self, kind: str, lane: int, ahead_m: float, speed_mps: float = 0.0, **more) -> None:
        """An actor in the middle of `lane`, `ahead_m` from the ego's rear axle to its centre."""
        s = (self.start_s_m + ahead_m) % self.road.length_m
        d = float(self.road.lane_center_d(s, lane)) + more.pop("offset_m", 0.0)
        self.actors.append(ActorSpec(kind, s, d, speed_mps, **more))

    def add_lead(self, low: float, high: float) -> float:
        """A slower car ahead in the ego's lane (low..high of the cruise speed); returns its distance ahead."""
        gap = self.rng.uniform(1.5, 3.5) + self.profile.length_m - self.profile.rear_overhang_m + CAR_LENGTH_M / 2
        self.add("car", self.lane, float(gap), float(self.rng.uniform(low, high) * self.cruise_mps))
        return float(gap)

    def add_passers(self) -> None:
        """Sometimes a car in a neighbouring lane, which changes nothing of the task."""
        others = [k for k in range(self.road.lane_count) if k != self.lane]
        if others and self.rng.random() < 0.4:
            speed = self.rng.uniform(0.6, 1.1) * self.cruise_mps
            self.add("car", int(self.rng.choice(others)), float(self.rng.uniform(1.5, 5.0)), float(speed))

    def any_lane(self) -> int:
        return int(self.rng.integers(self.road.lane_count))

    def finish(self, instruction: Instruction | None, seconds_after: float) -> Scenario:
        """The scenario, ending `seconds_after` the command (or the start, where there is none)."""
        commands, duration = (), seconds_after
        if instruction is not None:
            texts = SAYINGS[instruction.kind][self.language]
            said_mps = (instruction.speed_mps or 0.0) * self.scale.speed
            text = texts[int(self.rng.integers(len(texts)))].format(speed=said_mps)
            commands = (TimedCommand(self.t_command_s, text, instruction),)
            duration = self.t_command_s + seconds_after
        lane_width = float(self.road.lane_width_at(self.start_s_m))
        d = float(self.road.lane_center_d(self.start_s_m, self.lane)) + self.rng.uniform(-0.05, 0.05) * lane_width
        speed = min(self.cruise_mps, 0.9 * self._lowest_limit(1.5))
        params = {"t_command_s": self.t_command_s, "start_lane": self.lane, **self.params}
        return Scenario(
            self.name,
            self.road,
            self.start_s_m,
            float(d),
            speed,
            self.cruise_mps,
            tuple(self.actors),
            commands,
            duration,
            params,
        )


def _follow_lane(draft: _Draft) -> Scenario:
    draft.place(draft.any_lane())
    draft.add_passers()
    distance = min(draft.road.length_m, FOLLOW_DISTANCE_M)
    draft.params["distance_m"] = distance
    return draft.finish(None, 5.0 + distance / (0.5 * draft.cruise_mps))


def _change_of_speed(draft: _Draft) -> Scenario:
    top = draft.cruise_mps * (1.4 if draft.name == "faster" else 1.0)
    draft.place(draft.any_lane(), top, draft.t_command_s * draft.cruise_mps + 3.5 * top + 2.0)
    draft.add_passers()
    return draft.finish(Instruction(draft.name), 3.5)


def _target_speed(draft: _Draft) -> Scenario:
    fastest = min(2.0 * draft.slowness**2, draft.profile.max_speed_mps)
    speeds = [v for v in np.arange(5, 21) / 10 if v <= fastest and abs(v - draft.cruise_mps) > 0.25]
    if not speeds:
        raise ScenarioError(f"{draft.name}: road {draft.road.name!r} is too slow to ask for another speed")
    speed = float(draft.rng.choice(speeds))
    top = max(speed, draft.cruise_mps)
    draft.place(draft.any_lane(), top, draft.t_command_s * draft.cruise_mps + 5.0 * speed + 2.0)
    draft.params["speed_mps"] = speed
    draft.add_passers()
    return draft.finish(Instruction("target_speed", speed), 5.0)


def _stop(draft: _Draft) -> Scenario:
    draft.place(draft.any_lane())
    draft.add_passers()
    return draft.finish(Instruction("stop"), 4.0)


def _lane_with_neighbour(draft: _Draft, step: int) -> int:
    """A lane that has another one on the side of `step`."""
    draft.need_lanes(2)
    return int(draft.rng.integers(draft.road.lane_count - 1)) + (step < 0)


def _step(name: str) -> int:
    return 1 if name.endswith("left") else -1


def _change(draft: _Draft) -> Scenario:
    step = _step(draft.name)
    draft.place(_lane_with_neighbour(draft, step))
    draft.params["target_lane"] = draft.lane + step
    return draft.finish(Instruction(draft.name), 6.0)


def _keep(draft: _Draft) -> Scenario:
    draft.need_lanes(2)
    target = draft.road.lane_count - 1 if draft.name == "keep_left" else 0
    others = [k for k in range(draft.road.lane_count) if k != target]
    draft.place(target if draft.rng.random() < 0.2 else int(draft.rng.choice(others)))
    draft.params["target_lane"] = target
    return draft.finish(Instruction(draft.name), 9.0)


def _overtake(draft: _Draft) -> Scenario:
    step = _step(draft.name)
    draft.place(_lane_with_neighbour(draft, step))
    draft.add_lead(0.35, 0.6)
    draft.params["step"] = step
    return draft.finish(Instruction(draft.name), 15.0)


def _follow_vehicle(draft: _Draft) -> Scenario:
    draft.place(draft.any_lane())
    draft.add_lead(0.5, 0.8)
    lead = draft.actors[0]
    if draft.rng.random() < 0.5:
        later = (float(draft.t_command_s + 3.0), lead.speed_mps * float(draft.rng.uniform(0.8, 1.2)))
        draft.actors[0] = ActorSpec("car", lead.s_m, lead.d_m, lead.speed_mps, (later,))
    return draft.finish(Instruction("follow_vehicle"), 14.0)


def _avoid(draft: _Draft) -> Scenario:
    draft.need_lanes(2)
    draft.place(draft.any_lane())
    kind = str(draft.rng.choice(["cone", "box", "car"], p=[0.4, 0.4, 0.2]))
    gap = draft.t_command_s * draft.cruise_mps + draft.rng.uniform(2.5, 4.0)
    draft.add(kind, draft.lane, float(gap), offset_m=float(draft.rng.uniform(-0.05, 0.05)), follow=False)
    return draft.finish(Instruction("avoid_obstacle"), 14.0)


def _pull_over(draft: _Draft) -> Scenario:
    draft.place(draft.any_lane())
    return draft.finish(Instruction("pull_over"), 14.0)


def _overtake_blocked(draft: _Draft) -> Scenario:
    """The lane on the left is occupied beside the lead. Odd seeds: it becomes free some seconds after the command."""
    draft.place(_lane_with_neighbour(draft, 1))
    ahead = draft.add_lead(0.4, 0.5)
    speed = draft.actors[0].speed_mps
    becomes_free = draft.seed % 2 == 1
    t_free = draft.t_command_s + float(draft.rng.uniform(3.0, 5.0))
    beside = _beside(draft, ahead, speed, t_free if becomes_free else draft.t_command_s + 10.0)
    leaves = ((t_free, max(2.0 * draft.cruise_mps, speed + 1.0)),) if becomes_free else ()
    further = float(draft.rng.uniform(0.0, 0.6))
    draft.add("car", draft.lane + 1, ahead + further, beside[0][1], speed_changes=(*beside[1:], *leaves))
    draft.params.update(step=1, becomes_free=becomes_free, t_free_s=t_free if becomes_free else None)
    return draft.finish(Instruction("overtake_left"), t_free - draft.t_command_s + 17.0 if becomes_free else 10.0)


def _beside(draft: _Draft, ahead_m: float, speed_mps: float, until_s: float) -> list[tuple[float, float]]:
    """A timeline (t_s, v_mps) in the lane left of the ego's that keeps a car abreast of one that drives `speed_mps` in
    the ego's lane, through bends, where one of the two lanes is the longer."""
    timeline, s, pieces, steps = [], draft.start_s_m + ahead_m, 5, 20
    dt = until_s / (pieces * steps)
    for piece in range(pieces):
        way = 0.0
        for _ in range(steps):
            k = float(draft.road.curvature_at(s))
            own, left = (max(1.0 - k * float(draft.road.lane_center_d(s, draft.lane + j)), 0.2) for j in (0, 1))
            s += speed_mps / own * dt
            way += speed_mps / own * left * dt
        timeline.append((piece * steps * dt, way / (steps * dt)))
    return timeline


_BUILDERS: dict[str, Callable[[_Draft], Scenario]] = {
    "follow_lane": _follow_lane,
    "faster": _change_of_speed,
    "slower": _change_of_speed,
    "target_speed": _target_speed,
    "stop": _stop,
    "change_left": _change,
    "change_right": _change,
    "keep_left": _keep,
    "keep_right": _keep,
    "overtake_left": _overtake,
    "overtake_right": _overtake,
    "follow_vehicle": _follow_vehicle,
    "avoid_obstacle": _avoid,
    "pull_over": _pull_over,
    "overtake_blocked": _overtake_blocked,
}
SCENARIOS = tuple(_BUILDERS)
_TWO_LANES = ("change_", "keep_", "overtake_", "avoid_")


def make_scenario(
    name: str, road: Road, seed: int, *, profile: VehicleProfile | None = None, language: str = "en"
) -> Scenario:
    """Build one episode for the car `profile` on a road of real size. `language` of the commands: "en" or "zh". Raises
    ScenarioError where the name is unknown or the road cannot host it (too few lanes, no stretch for the asked
    speed)."""
    if name not in _BUILDERS:
        raise ScenarioError(f"unknown scenario {name!r}; one of {', '.join(SCENARIOS)}")
    if language not in ("en", "zh"):
        raise ScenarioError(f"no built-in commands in language {language!r}; en or zh")
    real = profile or VehicleProfile()
    scale, profile = scale_of(real), model_profile(real)
    small, error = scaled_road(road, 1.0 / scale.length), None
    # A tight road may host a speed task only for a car that cruises slower.
    for slowness in (1.0, 0.85, 0.7):
        rng = np.random.default_rng([seed, SCENARIOS.index(name)])
        cruise = 0.8 * profile.reference_speed_mps * float(rng.uniform(0.85, 1.1)) * slowness
        try:
            draft = _Draft(
                name, small, rng, profile, language, cruise, float(rng.uniform(*COMMAND_AT_S)), seed, scale, slowness
            )
            return replace(scenario_at_full_scale(_BUILDERS[name](draft), real), road=road)
        except ScenarioError as reason:
            error = reason
    raise error


def scenarios_for(road: Road) -> tuple[str, ...]:
    """Names that `road` has lanes enough for (a speed task may still find no stretch and say so)."""
    return tuple(n for n in SCENARIOS if road.lane_count >= 2 or not n.startswith(_TWO_LANES))

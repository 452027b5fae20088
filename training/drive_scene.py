"""What `pacenote drive` drives: settings, and the scene (road, start, traffic) that they make. Knows no processes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bridge.scale import scale_of
from sims.actors import ActorSpec
from sims.random_road import UNSEEN_ROADS, random_road
from sims.road import Road
from sims.scenarios import Scenario, make_scenario
from sims.world import WorldSpec
from sims.worlds import find_world

DEFAULT_SEED = 14
ROADS_TRIED = 20
DEFAULT_SAY = ("2: overtake on the left", "13: change to the right lane", "21: pull over on the right")
# For the default car; another's follow from its scale.
LEAD_GAP_M = 3.2
LEAD_SPEED_MPS = 0.5
CALM_M = 14.0


class DriveError(ValueError):
    """Settings that cannot be driven; the message says which and what to do."""


class DriveSettings(BaseModel):
    """One drive. `track`: "random", a track of the world's own, or a racetrack file. `timeline`: (seconds since the car
    drives, text)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    world: str = "track"
    track: str = "random"
    planner: str = "nano"
    controller: str = "flow"
    timeline: tuple[tuple[float, str], ...] = ()
    seconds: float = Field(30.0, gt=0.0, le=3600.0)
    seed: int = DEFAULT_SEED
    lanes: int = Field(2, ge=1, le=3)
    traffic: bool = True
    randomize: float = Field(0.5, ge=0.0, le=1.0)


def parse_say(text: str) -> tuple[float, str]:
    """ "2: overtake on the left" to (2.0, "overtake on the left"). Raises DriveError."""
    at, colon, words = text.partition(":")
    try:
        at_s = float(at)
    except ValueError:
        at_s = -1.0
    if not colon or at_s < 0.0 or not words.strip():
        raise DriveError(f'--say {text!r}: write seconds, a colon and the words, as in "2: overtake on the left"')
    return at_s, words.strip()


def _road(settings: DriveSettings, spec: WorldSpec) -> Road:
    if settings.track != "random":
        return spec.road(settings.track, settings.seed)
    if spec.name == "track":
        return random_road(UNSEEN_ROADS + settings.seed, lanes=settings.lanes, lane_width_m=0.75, length_m=55.0)
    for attempt in range(ROADS_TRIED):
        road = spec.road("random", settings.seed + attempt)
        if road.lane_count >= settings.lanes:
            return road
    raise DriveError(f"world {spec.name!r}: none of {ROADS_TRIED} random roads has {settings.lanes} lanes")


def _calm_start(road: Road, length: float) -> float:
    """s [m] of the start: the stretch of CALM_M with the gentlest bends, so that the car ahead stays in the picture."""
    starts = np.arange(0.0, road.length_m, 0.5 * length)
    stretch = np.arange(0.0, CALM_M, 0.25) * length
    tightest = [np.abs(road.curvature_at(s + stretch)).max() for s in starts]
    return float(starts[int(np.argmin(tightest))])


def drivable_world(name: str) -> WorldSpec:
    """The spec of a world that can be driven with pictures. Raises UnknownName, WorldError or DriveError."""
    spec = find_world(name)
    if not (spec.camera and spec.roads):
        lacks = "forward camera" if spec.roads else "road that can be described"
        raise DriveError(f"world {name!r} has no {lacks}; see: pacenote worlds")
    return spec


def make_scene(settings: DriveSettings) -> Scenario:
    """The road, a standing start in the right-hand lane, and a slower car ahead (where there is traffic)."""
    spec = drivable_world(settings.world)
    scale, road = scale_of(spec.profile), _road(settings, spec)
    scene = make_scenario("follow_lane", road, settings.seed, profile=spec.profile)
    start_s = _calm_start(road, scale.length)
    actors: tuple[ActorSpec, ...] = ()
    if settings.traffic and spec.traffic:
        s = (start_s + LEAD_GAP_M * scale.length) % road.length_m
        d, speed = float(road.lane_center_d(s, 0)), LEAD_SPEED_MPS * scale.speed
        actors = (ActorSpec("car", s, d, speed, scale=scale.length),)
    d = float(road.lane_center_d(start_s, 0))
    return replace(scene, start_s_m=start_s, start_d_m=d, start_speed_mps=0.0, actors=actors, commands=())

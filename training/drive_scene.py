"""What `pacenote drive` drives: settings, and the scene (road, start, traffic) that they make. Knows no processes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sims.actors import ActorSpec
from sims.random_road import random_road
from sims.road import Road, road_from_csv
from sims.scenarios import Scenario, make_scenario

DEFAULT_SEED = 14
UNSEEN_ROADS = 1_000_000  # road seeds from here on are never trained on
DEFAULT_SAY = ("2: overtake on the left", "13: change to the right lane", "21: pull over on the right")
LEAD_GAP_M = 3.2
LEAD_SPEED_MPS = 0.5
CALM_M = 14.0


class DriveError(ValueError):
    """Settings that cannot be driven; the message says which and what to do."""


class DriveSettings(BaseModel):
    """One drive. `track`: "random" or a racetrack file. `timeline`: (seconds since the car drives, text)."""

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


def _road(settings: DriveSettings) -> Road:
    if settings.track != "random":
        return road_from_csv(settings.track)
    return random_road(UNSEEN_ROADS + settings.seed, lanes=settings.lanes, lane_width_m=0.75, length_m=55.0)


def _calm_start(road: Road) -> float:
    """s [m] of the start: the stretch of CALM_M with the gentlest bends, so that the car ahead stays in the picture."""
    starts = np.arange(0.0, road.length_m, 0.5)
    tightest = [np.abs(road.curvature_at(s + np.arange(0.0, CALM_M, 0.25))).max() for s in starts]
    return float(starts[int(np.argmin(tightest))])


def make_scene(settings: DriveSettings) -> Scenario:
    """The road, the start in the right-hand lane, and a slower car ahead (where there is traffic)."""
    road = _road(settings)
    scene = make_scenario("follow_lane", road, settings.seed)
    start_s = _calm_start(road)
    actors: tuple[ActorSpec, ...] = ()
    if settings.traffic:
        s = (start_s + LEAD_GAP_M) % road.length_m
        actors = (ActorSpec("car", s, float(road.lane_center_d(s, 0)), LEAD_SPEED_MPS),)
    return replace(
        scene, start_s_m=start_s, start_d_m=float(road.lane_center_d(start_s, 0)), actors=actors, commands=()
    )

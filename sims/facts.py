"""What the camera can see of a truth, as plain facts, and the fixed sentences that say them.

The sentences are the training target of the small planner and are checked against truth, so their form never varies:
"2 lanes, I am in lane 0, centre. Road bends gently left. Car in lane 0 at 2.5 m. Left lane is free, overtaking."
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bridge.messages import VehicleProfile
from sims.truth import ActorTruth, Truth

VIEW_M = 6.0
LEAST_PX = 4.0  # what is narrower in the picture cannot be told from clutter
VIEW_RAD = math.radians(55.0)
MOST_ACTORS = 2
BEND_FROM_M, BEND_TO_M = 0.3, 3.3
STRAIGHT_RAD, GENTLE_RAD = 0.2, 0.8
_BEND_GRID = np.linspace(BEND_FROM_M, BEND_TO_M, 16)
BENDS = ("straight", "gently left", "gently right", "sharply left", "sharply right")
POSITIONS = ("left", "centre", "right")


def visible_facts(truth: Truth, profile: VehicleProfile, least_px: float = LEAST_PX) -> dict:
    """`lane_count`, `lane`, `position` (one of POSITIONS: thirds of the lane), `bend` (one of BENDS: how far the road
    turns over the next 3 m) and `actors`: the nearest two of `in_sight`, each with `kind`, `lane` and `distance_m`
    (front bumper to its near side, in steps of 0.5 m)."""
    offset = (truth.d_m - truth.lane_center_d_m(truth.lane)) / truth.lane_width_m
    return {
        "lane_count": truth.lane_count,
        "lane": truth.lane,
        "position": "left" if offset > 1 / 6 else "right" if offset < -1 / 6 else "centre",
        "bend": bend_ahead(truth),
        "actors": [
            {"kind": s.actor.kind, "lane": s.actor.lane, "distance_m": round(s.distance_m * 2) / 2}
            for s in in_sight(truth, profile, least_px)[:MOST_ACTORS]
        ],
    }


def bend_ahead(truth: Truth) -> str:
    """One of BENDS."""
    turn = float(np.interp(_BEND_GRID, truth.ahead[:, 0], truth.ahead[:, 4]).mean()) * (BEND_TO_M - BEND_FROM_M)
    if abs(turn) < STRAIGHT_RAD:
        return "straight"
    return f"{'gently' if abs(turn) < GENTLE_RAD else 'sharply'} {'left' if turn > 0 else 'right'}"


@dataclass(frozen=True)
class Sight:
    """An actor in view: `distance_m` from the front bumper to its near side, centre at (x_m, y_m) in the ego frame."""

    distance_m: float
    x_m: float
    y_m: float
    actor: ActorTruth


def in_sight(truth: Truth, profile: VehicleProfile, least_px: float = LEAST_PX) -> list[Sight]:
    """What the camera can make out of the actors, nearest first: ahead within VIEW_M and 55 degrees, and at least
    `least_px` wide in the picture (a car of 0.2 m up to 4 m away, with the default camera)."""
    seen = [s for actor in truth.actors if (s := _sight(truth, profile, actor)) and _resolved(profile, s, least_px)]
    return sorted(seen, key=lambda sight: sight.distance_m)


def _resolved(profile: VehicleProfile, sight: Sight, least_px: float) -> bool:
    """Whether the picture shows it large enough, in the middle of the picture at least."""
    pixels_per_rad = profile.camera.width_px / profile.camera.hfov_rad
    return sight.actor.width_m * pixels_per_rad >= least_px * sight.distance_m


def _sight(truth: Truth, profile: VehicleProfile, actor: ActorTruth) -> Sight | None:
    dx, dy = actor.x_m - truth.x_m, actor.y_m - truth.y_m
    c, s = math.cos(truth.yaw_rad), math.sin(truth.yaw_rad)
    x, y = dx * c + dy * s, dy * c - dx * s
    if abs(math.atan2(y, x - profile.camera.x_m)) > VIEW_RAD:
        return None
    nose = profile.length_m - profile.rear_overhang_m
    distance = max(0.0, math.hypot(x - nose, y) - actor.length_m / 2)
    return Sight(distance, x, y, actor) if distance <= VIEW_M else None


def without_specks(truth: Truth, profile: VehicleProfile) -> Truth:
    """The truth without the actors ahead that are too small in the picture: what a planner with a camera could know, to
    be taught by. Those beside and behind stay: they matter, and pass through the picture."""
    sights = [s for actor in truth.actors if (s := _sight(truth, profile, actor))]
    specks = [s.actor for s in sights if not _resolved(profile, s, LEAST_PX)]
    return replace(truth, actors=tuple(a for a in truth.actors if a not in specks)) if specks else truth


def describe(facts: dict, action: str) -> str:
    """The facts and the action phrase as English sentences, always in the same form."""
    count = facts["lane_count"]
    lanes = f"{count} lane{'s' if count > 1 else ''}, I am in lane {facts['lane']}, {facts['position']}."
    bend = "Road is straight." if facts["bend"] == "straight" else f"Road bends {facts['bend']}."
    actors = ", ".join(f"{a['kind']} in lane {a['lane']} at {a['distance_m']:.1f} m" for a in facts["actors"])
    return f"{lanes} {bend} {_sentence(actors or 'nothing ahead')} {_sentence(action)}"


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."

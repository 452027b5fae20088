"""A lidar over the boxes that a `Truth` knows: other cars, cones and boxes. The floor, lines and walls give no hits.

Method: slab test of each ray against each body (Kay and Kajiya 1986). Units at the edge are those of the protocol:
degrees and Unity units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bridge.messages import VehicleProfile
from sims.actors import SIZES_M
from sims.donkey.protocol import UNITY_PER_METRE, MalformedMessage, number, whole
from sims.truth import ActorTruth, Truth

MAX_RAYS = 50_000


@dataclass(frozen=True)
class LidarSettings:
    """`lidar_config`. Rays start at (x right, y up, z forward) of the middle of the car, in Unity units."""

    step_deg: float
    down_deg: float
    level_deg: float
    levels: int
    range_units: float
    noise_units: float
    offset_units: tuple[float, float, float]
    rot_x_deg: float


def read_lidar_config(message: dict) -> LidarSettings:
    """Raises MalformedMessage for numbers that give no scan, or too large a one."""
    step, levels = number(message, "degPerSweepInc"), whole(message, "numSweepsLevels")
    if not 0.01 <= step <= 360.0 or levels < 1 or levels * 360.0 / step > MAX_RAYS:
        raise MalformedMessage(
            f"lidar_config: degPerSweepInc must be 0.01 to 360 and the scan at most {MAX_RAYS} rays, got {step} "
            f"degrees and {levels} levels"
        )
    offset = tuple(number(message, f"offset_{axis}", 0.0) for axis in "xyz")
    return LidarSettings(
        step, number(message, "degAngDown"), number(message, "degAngDelta"), levels, number(message, "maxRange"),
        number(message, "noise"), offset, number(message, "rot_x", 0.0),
    )  # fmt: skip


def scan(settings: LidarSettings, truth: Truth, profile: VehicleProfile, rng: np.random.Generator) -> list[dict]:
    """Hits as {d, rx, ry}: distance in Unity units, sweep angle clockwise from straight ahead, and level, in degrees.
    `noise` widens distances by a uniform error of that full width. Nearest first in each ray; no hit, no entry."""
    if not truth.actors:
        return []
    yaws = np.arange(0.0, 360.0 - 1e-9, settings.step_deg)
    levels = settings.down_deg + settings.level_deg * np.arange(settings.levels)
    yaw, down = (a.ravel() for a in np.meshgrid(yaws, levels))
    slope = np.radians(down + settings.rot_x_deg * np.cos(np.radians(yaw)))  # a tilted sensor looks down in front
    heading = truth.yaw_rad - np.radians(yaw)
    rays = np.stack([np.cos(slope) * np.cos(heading), np.cos(slope) * np.sin(heading), -np.sin(slope)])
    right, up, forward = (o / UNITY_PER_METRE for o in settings.offset_units)
    ahead = 0.5 * profile.length_m - profile.rear_overhang_m + forward
    c, s = math.cos(truth.yaw_rad), math.sin(truth.yaw_rad)
    eye = np.array([truth.x_m + ahead * c + right * s, truth.y_m + ahead * s - right * c, up])
    reach = np.full(rays.shape[1], np.inf)
    for actor in truth.actors:
        np.minimum(reach, _distances(actor, eye, rays), out=reach)
    distance = UNITY_PER_METRE * reach
    hits = np.flatnonzero(distance <= settings.range_units)
    distance = np.maximum(distance[hits] + settings.noise_units * (rng.random(len(hits)) - 0.5), 0.0)
    each = zip(distance, yaw[hits], down[hits], strict=True)
    return [{"d": round(float(d), 2), "rx": float(rx), "ry": float(ry)} for d, rx, ry in each]


def _distances(actor: ActorTruth, eye: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Metres from `eye` along each ray (3, n) to the actor's box; infinite where it passes it."""
    length, _, height = SIZES_M[actor.kind]
    height *= actor.length_m / length
    c, s = math.cos(actor.yaw_rad), math.sin(actor.yaw_rad)
    to_body = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    origin = to_body @ (eye - [actor.x_m, actor.y_m, 0.5 * height])
    direction = to_body @ rays
    half = np.array([[0.5 * actor.length_m], [0.5 * actor.width_m], [0.5 * height]])
    with np.errstate(divide="ignore", invalid="ignore"):
        near = (-np.sign(direction) * half - origin[:, None]) / direction
        far = (np.sign(direction) * half - origin[:, None]) / direction
    beside = direction == 0.0  # parallel to two faces: inside the slab or never
    inside = (np.abs(origin[:, None]) <= half) & beside
    near = np.where(beside, np.where(inside, -np.inf, np.inf), near).max(0)
    far = np.where(beside, np.where(inside, np.inf, -np.inf), far).min(0)
    return np.where((near <= far) & (far >= 0.0), np.maximum(near, 0.0), np.inf)

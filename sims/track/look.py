"""What a world looks and feels like: the settings of the randomisation and the sampling of looks, cameras and physics.

Strength 0 is the nominal look (a real Donkey track: grey-brown floor, white edges, dashed yellow dividers, dark hall)
and nominal physics; 1 is the full spread. Knows no geometry of roads and draws nothing.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bridge.messages import CameraModel, VehicleProfile

LOOK = np.dtype(
    [
        ("road", "f4", 3), ("off", "f4", 3), ("edge", "f4", 3), ("divider", "f4", 3), ("tape", "f4", 3),
        ("edge_w", "f4"), ("edge_style", "i4"), ("divider_w", "f4"), ("divider_style", "i4"), ("dash_on", "f4"),
        ("dash_off", "f4"), ("dash_phase", "f4"), ("texture", "f4"), ("texture_scale", "f4"), ("reflection", "f4"),
        ("pano", "i4"), ("pano_shift", "i4"), ("pano_gain", "f4", 3), ("wear", "f4"), ("tape_style", "i4"),
        ("tape_w", "f4"), ("tape_yaw", "f4"), ("tape_gap", "f4"), ("cones", "f4"), ("cone_gap", "f4"),
        ("cone_off", "f4"), ("cone", "f4", 3), ("cone_band", "f4"), ("light", "f4"), ("cast", "f4", 3), ("curve", "f4"),
        ("vignette", "f4"), ("blur", "f4"), ("motion", "f4"), ("noise", "f4"), ("seed", "u4"),
    ]
)  # fmt: skip
CAMERA = np.dtype(
    [
        ("x", "f8"), ("y", "f8"), ("z", "f8"), ("pitch", "f8"), ("roll", "f8"), ("yaw", "f8"), ("hfov", "f8"),
        ("fisheye", "?"),
    ]
)  # fmt: skip
EDGE_SOLID, EDGE_DOUBLE, EDGE_NONE = range(3)
DIVIDER_DASHED, DIVIDER_SOLID, DIVIDER_DOUBLE, DIVIDER_NONE = range(4)
PANORAMAS = 32
PANO_COLUMNS, PANO_ROWS, MIRROR_ROWS = 512, 64, 32
LOOK_DRAWS, CAMERA_DRAWS, PHYSICS_DRAWS = 128, 16, 16


class Randomization(BaseModel):
    """Strength of each kind of variation, 0 (nominal) to 1 (full spread)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    colours: float = Field(1.0, ge=0, le=1)  # floor and lines
    lines: float = Field(1.0, ge=0, le=1)  # widths, dashes, styles
    light: float = Field(1.0, ge=0, le=1)  # brightness, contrast, colour cast, reflections
    sensor: float = Field(1.0, ge=0, le=1)  # blur, motion blur, noise, vignetting
    clutter: float = Field(1.0, ge=0, le=1)  # what stands around the road
    camera: float = Field(1.0, ge=0, le=1)  # pose and lens
    physics: float = Field(1.0, ge=0, le=1)  # friction, delays, offsets

    @staticmethod
    def at(strength: float) -> Randomization:
        """Every kind at the same strength in [0, 1]."""
        return Randomization(**dict.fromkeys(Randomization.model_fields, strength))


class _Draws:
    """Turns columns of uniform numbers into parameters, one column after the other."""

    def __init__(self, u: np.ndarray):
        self.u, self.at = u, 0

    def next(self) -> np.ndarray:
        self.at += 1
        return self.u[:, self.at - 1]

    def between(self, low, high, nominal, strength):
        """Uniform in [low, high], drawn towards `nominal` as strength goes to 0."""
        return nominal + strength * (low + (high - low) * self.next() - nominal)

    def often(self, low, high, nominal, strength, chance):
        """As `between`, but only with probability `chance`; nominal else."""
        return np.where(self.next() < chance, self.between(low, high, nominal, strength), nominal)

    def choice(self, weights, strength):
        """Index by weight; 0 (the nominal one) with probability 1 - strength."""
        edges = np.cumsum(np.asarray(weights, float) / np.sum(weights))
        index = np.searchsorted(edges, self.next(), side="right").clip(0, len(weights) - 1)
        return np.where(self.next() < strength, index, 0)


def _colour(draws, nominal, spread, strength, free=0.0):
    """RGB (n, 3): near `nominal`, or any colour at all with probability `free`."""
    near = np.stack([draws.between(c * (1 - spread), c * (1 + spread), c, strength) for c in nominal], 1)
    anything = np.stack([0.03 + 0.92 * draws.next() for _ in range(3)], 1)
    return np.where((draws.next() < free * strength)[:, None], anything, near).clip(0.01, 1.0)


def sample_looks(u: np.ndarray, r: Randomization, out: np.ndarray) -> None:
    """Fill `out` (n, LOOK) from uniform numbers `u` (n, LOOK_DRAWS)."""
    d = _Draws(u)
    grey = d.between(0.12, 0.62, 0.34, r.colours)[:, None]
    out["road"] = grey * np.array([1.0, 0.97, 0.82]) * (1 + 0.25 * (_colour(d, (0.5,) * 3, 0.8, r.colours, 0.25) - 0.5))
    any_floor = np.stack([d.next() for _ in range(3)], 1)
    own_off = (d.next() < 0.45 * r.colours)[:, None]
    out["off"] = np.where(own_off, 0.06 + 0.6 * any_floor, out["road"] * d.between(0.85, 1.15, 1.0, r.colours)[:, None])
    edge = d.between(0.6, 1.0, 0.85, r.colours)[:, None]
    out["edge"] = edge * np.array([1.0, 0.98, 0.90])
    yellow_edge = (d.next() < 0.10 * r.colours)[:, None]
    out["edge"] = np.where(yellow_edge, np.array([0.9, 0.75, 0.1]), out["edge"])
    yellow = np.stack([d.between(0.65, 1.0, 0.85, r.colours), d.between(0.5, 0.95, 0.78, r.colours),
                       d.between(0.0, 0.35, 0.08, r.colours)], 1)  # fmt: skip
    kind = d.next()
    white, orange = (kind < 0.2 * r.colours)[:, None], (kind > 1 - 0.1 * r.colours)[:, None]
    out["divider"] = np.where(white, np.array([0.9, 0.9, 0.85]), np.where(orange, np.array([0.9, 0.4, 0.08]), yellow))
    out["edge_w"] = d.between(0.025, 0.09, 0.06, r.lines)
    out["edge_style"] = d.choice([0.85, 0.13, 0.02], r.lines)
    out["divider_w"] = d.between(0.02, 0.08, 0.055, r.lines)
    out["divider_style"] = d.choice([0.78, 0.09, 0.08, 0.05], r.lines)
    out["dash_on"] = d.between(0.10, 0.40, 0.20, r.lines)
    out["dash_off"] = d.between(0.08, 0.45, 0.20, r.lines)
    out["dash_phase"] = d.next()
    out["wear"] = d.between(0.0, 0.35, 0.05, r.lines)
    out["texture"] = d.between(0.0, 0.25, 0.06, r.light)
    out["texture_scale"] = 1.0 / d.between(0.006, 0.025, 0.015, r.light)
    out["reflection"] = d.between(0.0, 0.55, 0.25, r.light)
    out["light"] = np.exp(d.between(np.log(0.65), np.log(1.7), 0.1, r.light))
    out["cast"] = np.stack([d.between(0.85, 1.15, 1.02, r.light), d.between(0.9, 1.1, 1.0, r.light),
                            d.between(0.7, 1.2, 0.90, r.light)], 1)  # fmt: skip
    out["curve"] = d.between(-0.35, 0.6, 0.2, r.light)
    out["vignette"] = d.between(0.0, 0.5, 0.2, r.sensor)
    out["blur"] = d.between(0.0, 0.33, 0.2, r.sensor)
    out["motion"] = d.between(0.0, 1.0, 0.4, r.sensor)
    out["noise"] = 10.0 * d.between(0.0, 1.0, 0.55, r.sensor) ** 2
    out["pano"] = np.where(d.next() < r.clutter, (d.next() * PANORAMAS).astype(int), 0)
    out["pano_shift"] = (d.next() * PANO_COLUMNS).astype(int)
    out["pano_gain"] = np.stack([d.between(0.6, 1.3, 1.0, r.clutter) for _ in range(3)], 1)
    out["tape_style"] = np.where(d.next() < 0.25 * r.clutter, 1, 0)
    out["tape"] = np.stack([0.3 + 0.65 * d.next() for _ in range(3)], 1)
    out["tape_w"], out["tape_yaw"] = 0.03 + 0.05 * d.next(), 6.2832 * d.next()
    out["tape_gap"] = 2.0 + 4.0 * d.next()
    out["cones"] = d.often(0.1, 0.9, 0.5, r.clutter, 0.5) * (d.next() > 0.45 * r.clutter)
    out["cone_gap"] = d.between(0.4, 2.0, 0.9, r.clutter)
    out["cone_off"] = d.between(0.12, 0.5, 0.2, r.clutter)
    orange_cone = (d.next() < 0.45 * r.clutter)[:, None]
    out["cone"] = np.where(orange_cone, np.array([0.9, 0.30, 0.05]), np.array([0.85, 0.68, 0.08]))
    out["cone_band"] = d.next() < 0.4 * r.clutter
    out["seed"] = (d.next() * 2**32).astype(np.uint32)


def sample_cameras(u: np.ndarray, r: Randomization, model: CameraModel, out: np.ndarray) -> None:
    """Fill `out` (n, CAMERA) around the camera of the profile."""
    d, k = _Draws(u), r.camera
    out["x"] = model.x_m + k * 0.05 * (2 * d.next() - 1)
    out["y"] = model.y_m + k * 0.02 * (2 * d.next() - 1)
    out["z"] = d.between(0.10, 0.30, model.z_m, k)
    out["pitch"] = model.pitch_rad + k * 0.13 * (2 * d.next() - 1)
    out["roll"] = k * 0.04 * (2 * d.next() - 1)
    out["yaw"] = k * 0.04 * (2 * d.next() - 1)
    fisheye = np.where(d.next() < 0.25 * k, model.lens != "fisheye", model.lens == "fisheye")
    out["fisheye"] = fisheye
    hfov = d.between(1.4, 2.62, model.hfov_rad, k)
    out["hfov"] = np.where(fisheye, hfov, np.minimum(hfov, 2.1))


def sample_physics(u: np.ndarray, r: Randomization, profile: VehicleProfile, out: np.ndarray) -> None:
    """Fill `out` (n, PHYSICS) around nominal behaviour. Mass shows as gain of acceleration, stiffness and drag."""
    d, k = _Draws(u), r.physics
    mass = d.between(0.8, 1.25, 1.0, k)
    out["friction"] = d.between(0.55, 1.1, 0.85, k)
    out["stiffness"] = d.between(4.0, 7.0, 5.5, k)
    out["balance"] = d.between(0.85, 1.05, 0.95, k)
    out["accel_gain"] = d.between(0.8, 1.2, 1.0, k) / mass
    out["drag"] = d.between(0.05, 0.30, 0.15, k) / mass
    out["delay_s"] = profile.actuator_delay_s * d.between(0.4, 1.8, 1.0, k)
    out["lag_s"] = d.between(0.02, 0.09, 0.04, k)
    out["motor_lag_s"] = d.between(0.04, 0.15, 0.08, k)
    out["steer_offset_rad"] = d.between(-0.025, 0.025, 0.0, k)
    out["steer_gain"] = d.between(0.92, 1.08, 1.0, k)

"""What a policy sees, the same in training and on the car. Knows no plan messages, no clock, no network.

Lengths are in wheelbases and speeds in reference speeds of the vehicle profile, so that one policy serves cars of
several sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bridge.messages import EgoState, VehicleProfile

IMAGE_SHAPE = (120, 160, 3)
PATH_POINTS = 8
CHUNK_STEPS = 50


@dataclass(frozen=True)
class Observation:
    """One observation. `image` uint8 (120, 160, 3) RGB (None where no camera is needed); `path` float32 (8, 3): x and y
    in wheelbases in the ego frame of now, v in reference speeds; `path_valid` 0 means: no usable plan, `path` is zeros;
    `ego` float32 (3): speed in reference speeds, yaw rate [rad/s], steering [-1, 1]. `path_m` float64 (n, 3) [x m, y m,
    v m/s] is the whole path in plain units for trackers, also where it is out of date; None when there is none."""

    image: np.ndarray | None
    path: np.ndarray
    path_valid: float
    plan_age_s: float
    ego: np.ndarray
    path_m: np.ndarray | None = None


def path_input(path_m: np.ndarray, profile: VehicleProfile) -> np.ndarray:
    """`path_m` (n, 3) with the capture point in front, as the policies' float32 (8, 3). Other lengths than 8 waypoints
    are resampled evenly along the path."""
    rows = path_m[1:]
    if len(rows) != PATH_POINTS:
        steps = np.hypot(np.diff(path_m[:, 0]), np.diff(path_m[:, 1]))
        along = np.concatenate([[0.0], np.cumsum(steps)])
        wanted = np.linspace(0.0, along[-1], PATH_POINTS + 1)[1:]
        rows = np.column_stack([np.interp(wanted, along, path_m[:, k]) for k in range(3)])
    scale = np.array([1.0 / profile.wheelbase_m, 1.0 / profile.wheelbase_m, 1.0 / profile.reference_speed_mps])
    return (rows * scale).astype(np.float32)


def ego_input(ego: EgoState, profile: VehicleProfile) -> np.ndarray:
    """The policies' ego vector, float32 (3)."""
    return np.array([ego.speed_mps / profile.reference_speed_mps, ego.yaw_rate_radps, ego.steering], dtype=np.float32)


def image_objection(image: np.ndarray | None) -> str | None:
    """Why a policy cannot look at `image`, None when it can."""
    if image is None:
        return "the policy needs an image and there is none"
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        return f"image: wanted uint8 (h, w, 3) RGB, got {image.dtype} {image.shape}"
    return None


def image_input(image: np.ndarray) -> np.ndarray:
    """Any RGB uint8 image as (120, 160, 3) uint8. Raises ValueError for other types."""
    objection = image_objection(image)
    if objection:
        raise ValueError(objection)
    if image.shape == IMAGE_SHAPE:
        return image
    return cv2.resize(image, (IMAGE_SHAPE[1], IMAGE_SHAPE[0]), interpolation=cv2.INTER_AREA)


def make_observation(
    image: np.ndarray | None,
    ego: EgoState,
    profile: VehicleProfile,
    path_m: np.ndarray | None,
    *,
    path_valid: bool,
    plan_age_s: float = 0.0,
) -> Observation:
    """Put an observation together. `path_m` (n, 3) as `reprojection.plan_array` makes it, already re-projected."""
    path = path_input(path_m, profile) if path_valid and path_m is not None else None
    return Observation(
        image=None if image is None else image_input(image),
        path=np.zeros((PATH_POINTS, 3), np.float32) if path is None else path,
        path_valid=0.0 if path is None else 1.0,
        plan_age_s=plan_age_s,
        ego=ego_input(ego, profile),
        path_m=path_m,
    )

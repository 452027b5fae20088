"""Pictures for people: the scene from above, and a plan drawn into the camera's picture.

Knows truths, waypoints and lens models; no world, no run folder. RGB uint8 throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from bridge.messages import CameraModel, VehicleProfile, Waypoint
from bridge.scale import MODEL_CAR
from sims.truth import Truth

GROUND, TARMAC, WHITE, YELLOW = (38, 42, 40), (78, 80, 84), (235, 235, 235), (240, 200, 60)
EGO, CAR, CONE, BOX, PLAN = (70, 150, 255), (225, 70, 60), (255, 140, 30), (170, 120, 70), (70, 230, 110)
_COLOURS = {"car": CAR, "cone": CONE, "box": BOX}


def draw_birdseye(
    truth: Truth,
    waypoints_world: np.ndarray | None,
    size_px: int = 240,
    span_m: float = 8.0,
    profile: VehicleProfile = MODEL_CAR,
) -> np.ndarray:
    """The road around the car, from above, the car's heading upwards: (size_px, size_px, 3). `waypoints_world` (n, 2+)
    [m, world frame] is the plan, None without one; `span_m` is the side of the square shown; `profile`: the car's."""
    scale = size_px / span_m
    canvas = np.full((size_px, size_px, 3), GROUND, np.uint8)
    c, s = math.cos(truth.yaw_rad), math.sin(truth.yaw_rad)

    def pixels(x, y) -> np.ndarray:
        dx, dy = np.asarray(x) - truth.x_m, np.asarray(y) - truth.y_m
        ahead, left = dx * c + dy * s, dy * c - dx * s
        return np.stack([size_px / 2 - left * scale, 0.78 * size_px - ahead * scale], axis=-1).round().astype(np.int32)

    _, x, y, yaw, _ = truth.ahead.T
    rails = [pixels(x - d * np.sin(yaw), y + d * np.cos(yaw)) for d in (truth.left_edge_d_m, truth.right_edge_d_m)]
    for k in range(len(x) - 1):  # piece by piece: a bend of more than half a turn is no simple polygon
        quad = np.array([rails[0][k], rails[0][k + 1], rails[1][k + 1], rails[1][k]])
        cv2.fillConvexPoly(canvas, quad, TARMAC, cv2.LINE_AA)
    cv2.polylines(canvas, rails, False, WHITE, 2, cv2.LINE_AA)
    for lane in range(1, truth.lane_count):
        d = truth.right_edge_d_m + lane * truth.lane_width_m
        cv2.polylines(canvas, [pixels(x - d * np.sin(yaw), y + d * np.cos(yaw))], False, YELLOW, 1, cv2.LINE_AA)
    for actor in truth.actors:
        body = _body(actor.x_m, actor.y_m, actor.yaw_rad, actor.length_m, actor.width_m)
        cv2.fillConvexPoly(canvas, pixels(*body), _COLOURS.get(actor.kind, CAR), cv2.LINE_AA)
    reach = profile.length_m / 2 - profile.rear_overhang_m  # from the rear axle to the centre
    ego = truth.x_m + reach * c, truth.y_m + reach * s, truth.yaw_rad, profile.length_m, profile.width_m
    cv2.fillConvexPoly(canvas, pixels(*_body(*ego)), EGO, cv2.LINE_AA)
    if waypoints_world is not None:
        points = pixels(waypoints_world[:, 0], waypoints_world[:, 1])
        cv2.polylines(canvas, [points], False, PLAN, 1, cv2.LINE_AA)
        for point in points:
            cv2.circle(canvas, tuple(int(v) for v in point), 2, PLAN, -1, cv2.LINE_AA)
    return canvas


def _body(x_m, y_m, yaw_rad, length_m, width_m) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a body around its centre, world frame."""
    along = np.array([1, 1, -1, -1]) * length_m / 2
    across = np.array([1, -1, -1, 1]) * width_m / 2
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return x_m + along * c - across * s, y_m + along * s + across * c


def project_ground(camera: CameraModel, x_m: float, y_m: float) -> tuple[float, float] | None:
    """(column, row) in pixels of a point on the ground (ego frame), by the lens model; None behind the camera."""
    dx, dy, dz = x_m - camera.x_m, y_m - camera.y_m, -camera.z_m
    c, s = math.cos(camera.pitch_rad), math.sin(camera.pitch_rad)
    depth, down = dx * c - dz * s, -dx * s - dz * c
    sideways = -dy
    radius = math.hypot(sideways, down)
    angle = math.atan2(radius, depth)
    half = camera.hfov_rad / 2
    if camera.lens == "pinhole":
        if depth < 1e-3:
            return None
        distance = camera.width_px / 2 / math.tan(half) * math.tan(angle)
    else:
        if angle > 0.5 * math.pi:
            return None
        distance = camera.width_px / 2 / half * angle
    gain = distance / max(radius, 1e-9)
    return (camera.width_px - 1) / 2 + sideways * gain, (camera.height_px - 1) / 2 + down * gain


def draw_plan_on_camera(
    image: np.ndarray, waypoints: Sequence[Waypoint], camera: CameraModel, scale: int = 1
) -> np.ndarray:
    """`image` (h, w, 3), enlarged `scale` times, with the waypoints (ego frame at the time of the picture) drawn in."""
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    points = [project_ground(camera, w.x_m, w.y_m) for w in waypoints]
    shown = [tuple(round(min(max(v * scale, -9999), 9999)) for v in p) for p in points if p is not None]
    for a, b in zip(shown, shown[1:], strict=False):
        cv2.line(canvas, a, b, PLAN, max(1, scale // 2), cv2.LINE_AA)
    for p in shown:
        cv2.circle(canvas, p, scale, PLAN, -1, cv2.LINE_AA)
    return canvas

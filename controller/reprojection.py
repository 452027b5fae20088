"""Moves a plan's waypoints from the ego frame at capture to the ego frame of now; knows no policy and no clock."""

from __future__ import annotations

import math

import numpy as np

from bridge.messages import Plan, VehicleProfile
from controller.pose_ring import Pose


def plan_array(plan: Plan) -> np.ndarray:
    """A plan's path as float64 (n + 1, 3) [x m, y m, v m/s] in the ego frame at capture.

    The car's own place at capture is put in front, so that a car that has not reached the first waypoint has a path
    under its wheels; waypoints that repeat the point before them are left out.
    """
    rows = [(0.0, 0.0, plan.waypoints[0].v_mps)]
    for w in plan.waypoints:
        if math.hypot(w.x_m - rows[-1][0], w.y_m - rows[-1][1]) > 1e-4:
            rows.append((w.x_m, w.y_m, w.v_mps))
    if len(rows) == 1:  # all waypoints at the origin: a path straight ahead, at the last speed
        rows.append((1e-2, 0.0, plan.waypoints[-1].v_mps))
    return np.array(rows)


def reproject(path: np.ndarray, now_from_capture: Pose) -> np.ndarray:
    """`path` (n, 3) [x, y, v] moved into the ego frame of now; speeds stay."""
    return np.column_stack([now_from_capture.apply(path[:, :2]), path[:, 2]])


def absurdity(plan: Plan, profile: VehicleProfile, reach_m: float) -> str | None:
    """Why no car of this profile should follow this plan, None when nothing speaks against it.

    The planner's guard is stricter; this is what the car itself insists on, whoever sent the plan.
    """
    rows = np.array([(w.x_m, w.y_m, w.v_mps) for w in plan.waypoints], dtype=float)
    if not np.isfinite(rows).all():
        return "a waypoint is not finite"
    if np.abs(rows[:, :2]).max() > reach_m:
        return f"a waypoint lies further away than {reach_m:.1f} m"
    if rows[:, 2].min() < 0.0 or rows[:, 2].max() > 1.05 * profile.max_speed_mps:
        return f"a speed lies outside 0..{profile.max_speed_mps:.2f} m/s"
    steps = np.diff(np.vstack([[0.0, 0.0], rows[:, :2]]), axis=0)
    steps = steps[np.hypot(steps[:, 0], steps[:, 1]) > 1e-4]
    if len(steps) == 0:
        return None
    if steps[0, 0] < 0.0:
        return "the path starts behind the car"
    headings = np.arctan2(steps[:, 1], steps[:, 0])
    turns = np.angle(np.exp(1j * np.diff(headings)))
    if len(turns) and np.abs(turns).max() > math.radians(120.0):
        return "the path doubles back"
    return None

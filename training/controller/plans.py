"""Plans as a planner would give them, and what the car makes of them: chain, noise, ageing, re-projection.

The chain starts at the rear axle at capture and has 8 segments of two wheelbases each. Corruption stands for what real
planners and odometry do: a plan turned by a few degrees, bent, shifted, stale, and moved by dead reckoning that drifts.
It never changes the label: the policy must learn where its eyes know better. Knows no images.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from training.controller.teacher import (
    PATH_POINTS,
    SEGMENT_WHEELBASES,
    profile_point,
    road_at,
    speed_for_bends,
)


@njit(cache=True)
def make_chain(table, car, r, s, d, psi, lateral, rotation, bend, offset, quantum, points):
    """Fill `points` (8, 2), ego frame at capture. rotation [rad], bend [rad per segment], offset [m at the last
    point]; headings rounded to `quantum` rad, as the text grammar does."""
    x, y, yaw, _, _, _ = road_at(table, r, s)
    x -= d * np.sin(yaw)
    y += d * np.cos(yaw)
    heading = yaw + psi
    length = SEGMENT_WHEELBASES * car.wheelbase
    at = 0.0
    px, py = 0.0, 0.0  # the true chain
    cx, cy = 0.0, 0.0  # the corrupted one
    for k in range(PATH_POINTS):
        tx, ty, _, _, _ = profile_point(table, r, s + at + length, at + length, lateral)
        ex = (tx - x) * np.cos(heading) + (ty - y) * np.sin(heading) - px
        ey = -(tx - x) * np.sin(heading) + (ty - y) * np.cos(heading) - py
        angle = np.arctan2(ey, ex)
        reach = np.hypot(ex, ey)
        px += length * np.cos(angle)
        py += length * np.sin(angle)
        at += length * length / max(reach, 0.5 * length)
        seen = angle + rotation + bend * k + offset / (length * PATH_POINTS)
        if quantum > 0:
            seen = np.round(seen / quantum) * quantum
        cx += length * np.cos(seen)
        cy += length * np.sin(seen)
        points[k, 0] = cx
        points[k, 1] = cy


@njit(cache=True)
def plan_speed(table, r, s, d, v_set, allowed):
    """The speed that the expert asks for at road position s, `allowed` being what actors permit."""
    return max(0.0, min(v_set, speed_for_bends(table, r, s, d), allowed))


@njit(cache=True)
def reproject(points, speeds, x, y, yaw, cap_x, cap_y, cap_yaw, drift_turn, drift_scale, age_s, wheelbase, v_ref, out):
    """Observation path (8, 3): points of the capture frame seen from the present pose, in wheelbases and v/v_ref.

    drift_turn [rad/s] and drift_scale falsify the dead reckoning, growing with age and distance.
    """
    c, sn = np.cos(cap_yaw), np.sin(cap_yaw)
    dx = ((x - cap_x) * c + (y - cap_y) * sn) * (1.0 + drift_scale)
    dy = (-(x - cap_x) * sn + (y - cap_y) * c) * (1.0 + drift_scale)
    turn = yaw - cap_yaw + drift_turn * age_s
    half = 0.5 * drift_turn * age_s
    dx, dy = dx * np.cos(half) - dy * np.sin(half), dx * np.sin(half) + dy * np.cos(half)
    ct, st = np.cos(turn), np.sin(turn)
    for k in range(PATH_POINTS):
        px, py = points[k, 0] - dx, points[k, 1] - dy
        out[k, 0] = (px * ct + py * st) / wheelbase
        out[k, 1] = (-px * st + py * ct) / wheelbase
        out[k, 2] = (speeds[0] + (speeds[1] - speeds[0]) * k / (PATH_POINTS - 1)) / v_ref

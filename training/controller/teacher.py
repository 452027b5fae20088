"""The batched teacher: knows the true road, the task of each car and every actor; knows no camera and no plan noise.

A task is a lateral profile (continuous lane index u: 0 is the centre of the rightmost lane) that blends from u0 to u1
over some metres of road, and a speed profile. The teacher rolls a nominal kinematic car along the true profile and
writes down what it steers and how it accelerates: the label chunk. Pure pursuit after Coulter (1992); the gap rule
is the expert's. All functions are numba kernels over structure-of-arrays batches; lengths m, angles rad, speeds m/s.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from bridge.messages import VehicleProfile
from sims.track.roadbank import at_s

CHUNK_STEPS = 50
STEP_S = 1.0 / 30.0
PATH_POINTS = 8
SEGMENT_WHEELBASES = 2.0
LATERAL_LIMIT_MPS2 = 2.0  # comfort limit in bends, as in the expert
# v <= (gap - standing) / time. The expert's rule shapes the plan; the eyes only brake where a plan would be too late.
PLAN_GAP = (0.35, 1.3)
EYES_GAP = (0.3, 1.05)
VIEW_M = 6.0
COMFORT_BRAKE_MPS2 = 1.2
ACTUATOR_LAG_S = 0.06
DRAG_PER_S = 0.15  # nominal; the simulator randomises it
FROM_U, TO_U, BLEND_M, SLOPE_U = range(4)  # columns of a lateral profile; the slope is lanes per blend length


class RoadTable(NamedTuple):
    """The arrays of a `sims.track.roadbank.RoadBank`, for the kernels."""

    meta: np.ndarray
    samples: np.ndarray


class Car(NamedTuple):
    """Nominal vehicle, plain floats for the kernels."""

    wheelbase: float
    steering_limit: float
    max_accel: float
    max_brake: float
    max_speed: float
    width: float
    front: float  # rear axle to front bumper
    delay: float


def nominal_car(profile: VehicleProfile) -> Car:
    """The teacher's idea of a car."""
    p = profile
    return Car(
        p.wheelbase_m, p.steering_limit_rad, p.max_accel_mps2, p.max_brake_mps2, p.max_speed_mps, p.width_m,
        p.length_m - p.rear_overhang_m, p.actuator_delay_s,
    )  # fmt: skip


@njit(cache=True, inline="always")
def road_at(table, r, s):
    """(x, y, yaw, curvature, left, right) of road r at s."""
    road = table.meta[r]
    return at_s(s, table.samples, road.first, road.n, road.step)


@njit(cache=True)
def profile_u(at_m, lateral):
    """Continuous lane index `at_m` metres of road after the plan was made: the expert's quintic."""
    if at_m >= lateral[BLEND_M] or at_m < 0.0:
        return lateral[TO_U] if at_m > 0.0 else lateral[FROM_U]
    f = at_m / lateral[BLEND_M]
    f3 = f * f * f
    rise = f3 * (10.0 - 15.0 * f + 6.0 * f * f)
    drift = f - f3 * (6.0 - 8.0 * f + 3.0 * f * f)
    return lateral[FROM_U] + (lateral[TO_U] - lateral[FROM_U]) * rise + lateral[SLOPE_U] * drift


@njit(cache=True)
def profile_point(table, r, s, at_m, lateral):
    """World point and d of the profile at road position s, and the road's yaw and curvature there."""
    x, y, yaw, kappa, left, right = road_at(table, r, s)
    width = (left + right) / table.meta[r].lanes
    d = -right + (profile_u(at_m, lateral) + 0.5) * width
    return x - d * np.sin(yaw), y + d * np.cos(yaw), d, yaw, kappa


@njit(cache=True)
def speed_for_bends(table, r, s, d):
    """Fastest speed now that needs no more than comfortable braking for the bends of the next 1.6 m."""
    best = 99.0
    for k in range(9):
        ahead = 0.2 * k
        kappa = road_at(table, r, s + ahead)[3]
        bend = abs(kappa) / max(0.2, 1.0 - d * kappa)
        limit = LATERAL_LIMIT_MPS2 / max(bend, 1e-3) + 2 * COMFORT_BRAKE_MPS2 * max(0.0, ahead - 0.2)
        best = min(best, limit)
    return np.sqrt(best)


@njit(cache=True)
def gap_ahead(table, r, s, d, back, lateral, actor_s, actor_d, actor_v, actor_length, actor_width, count, car, rule):
    """(bumper gap to the nearest actor in the way or 99, greatest speed that it allows); actor_s is ahead of the ego's
    rear axle, `back` the metres driven since the plan was made, `rule` one of PLAN_GAP, EYES_GAP."""
    best, limit = 99.0, 99.0
    merging = abs(lateral[TO_U] - lateral[FROM_U]) > 0.5 and back < lateral[BLEND_M]
    for i in range(count):
        gap = actor_s[i] - 0.5 * actor_length[i] - car.front
        if actor_s[i] < 0.0 or gap > VIEW_M or gap < -1.0:
            continue
        reach = 0.5 * (car.width + actor_width[i])
        near = actor_s[i] - 0.5 * actor_length[i]
        first = profile_point(table, r, s + near, near + back, lateral)[2]
        far = actor_s[i] + 0.5 * actor_length[i]
        last = profile_point(table, r, s + far, far + back, lateral)[2]
        in_path = min(abs(actor_d[i] - first), abs(actor_d[i] - last)) < reach + 0.06
        touching = gap < 0.4 and abs(actor_d[i] - d) < reach + 0.02
        if not (in_path or touching):
            continue
        best = min(best, gap)
        allowed = (gap - rule[0]) / rule[1]
        if merging or not in_path:  # close to it on purpose, about to leave its lane
            allowed = actor_v[i] + (gap - 0.15) / 0.7
            allowed = max(allowed, 0.25) if gap > 0.12 else min(allowed, 0.8 * actor_v[i])
        limit = min(limit, max(0.0, allowed))
    return best, limit


@njit(cache=True)
def pursue(table, r, s, d, psi, v, back, lateral, car):
    """Steering command in [-1, 1] of a pure pursuit of the true profile."""
    x, y, yaw, _, _, _ = road_at(table, r, s)
    x -= d * np.sin(yaw)
    y += d * np.cos(yaw)
    heading = yaw + psi
    reach = 0.40 + 0.30 * v
    kappa = road_at(table, r, s + 0.5 * reach)[3]
    along = reach / max(0.4, 1.0 - d * kappa)
    tx, ty, _, _, _ = profile_point(table, r, s + along, along + back, lateral)
    fx = (tx - x) * np.cos(heading) + (ty - y) * np.sin(heading)
    fy = -(tx - x) * np.sin(heading) + (ty - y) * np.cos(heading)
    curvature = 2.0 * fy / max(fx * fx + fy * fy, 0.01)
    return max(-1.0, min(1.0, np.arctan(car.wheelbase * curvature) / car.steering_limit))


@njit(cache=True)
def accelerate(v, wanted, car):
    """Acceleration command in [-1, 1] that brings v to the wanted speed."""
    if wanted < 0.05 and v < 0.15:
        return -0.3
    a = max(-3.0, min(1.8, 3.0 * (wanted - v)))
    if wanted >= 0.05:
        a += DRAG_PER_S * v
    return min(1.0, a / car.max_accel) if a >= 0 else max(-1.0, a / car.max_brake)


@njit(cache=True)
def label_chunks(
    table, car, road_id, s, d, psi, v, steering, accel, back, lateral, v_near, v_far,
    actor_s, actor_d, actor_v, actor_length, actor_width, actor_count, chunk, gap_out,
):  # fmt: skip
    """Fill `chunk` (n, 50, 2) and `gap_out` (n,).

    steering, accel: the last command (it acts until the nominal delay has passed). back: metres of road driven since
    the plan in force was made; lateral (n, 4): its profile; v_near, v_far: its speeds at its first and last waypoint.
    Negative v_near means "keep the present speed". Actors: (n, m), s relative to the ego.
    """
    first = SEGMENT_WHEELBASES * car.wheelbase
    span = (PATH_POINTS - 1) * first
    for e in range(len(s)):
        r, lat, m = road_id[e], lateral[e], actor_count[e]
        q, dd, h, w = 0.0, d[e], psi[e], max(v[e], 0.0)
        delta = steering[e] * car.steering_limit
        ahead = np.empty(actor_s.shape[1])
        hold = w
        t = -car.delay
        for k in range(-1, CHUNK_STEPS):
            dt = car.delay if k < 0 else STEP_S
            for i in range(m):
                ahead[i] = actor_s[e, i] + actor_v[e, i] * max(0.0, t) - q
            gap, allowed = gap_ahead(table, r, s[e] + q, dd, back[e] + q, lat, ahead, actor_d[e], actor_v[e],
                                     actor_length[e], actor_width[e], m, car, EYES_GAP)  # fmt: skip
            if k < 0:
                gap_out[e] = gap
                command, a = steering[e], accel[e]
            else:
                f = max(0.0, min(1.0, (back[e] + q - first) / span))
                wanted = hold if v_near[e] < 0 else v_near[e] + f * (v_far[e] - v_near[e])
                wanted = min(wanted, speed_for_bends(table, r, s[e] + q, dd), car.max_speed)
                wanted = min(wanted, allowed)
                command = pursue(table, r, s[e] + q, dd, h, w, back[e] + q, lat, car)
                a = accelerate(w, wanted, car)
                chunk[e, k, 0] = command
                chunk[e, k, 1] = a
            delta += (command * car.steering_limit - delta) * min(1.0, dt / ACTUATOR_LAG_S)
            acceleration = (a * car.max_accel if a >= 0 else a * car.max_brake) - DRAG_PER_S * w
            w = max(0.0, w + acceleration * dt)
            kappa = road_at(table, r, s[e] + q)[3]
            ds = w * np.cos(h) / max(0.2, 1.0 - dd * kappa) * dt
            dd += w * np.sin(h) * dt
            h += w * np.tan(delta) / car.wheelbase * dt - kappa * ds
            q += ds
            t += dt


@njit(cache=True)
def lane_ahead(table, road_id, s, d, psi, u, out):
    """Dense targets for the eyes: (n, 8) lateral positions, in the ego frame [m], of the lane centre u every 0.4 m."""
    still = np.zeros(4)
    for e in range(len(s)):
        x, y, yaw, _, _, _ = road_at(table, road_id[e], s[e])
        x -= d[e] * np.sin(yaw)
        y += d[e] * np.cos(yaw)
        heading = yaw + psi[e]
        still[FROM_U] = still[TO_U] = u[e]
        for k in range(out.shape[1]):
            tx, ty, _, _, _ = profile_point(table, road_id[e], s[e] + 0.25 + 0.4 * k, 1.0, still)
            out[e, k] = -(tx - x) * np.sin(heading) + (ty - y) * np.cos(heading)


@njit(cache=True)
def lateral_profile(u0, u1, psi, width, speed, out):
    """The expert's blend (sims.expert_path): quintic from (u0, direction psi) to u1; fills `out` (4,)."""
    move = abs(u1 - u0) * width
    curvature = min(1.2, 1.5 / max(speed, 0.3) ** 2)
    length = min(max(max(1.5, 1.2 * speed), np.sqrt(5.77 * move / curvature)), 7.0)
    out[FROM_U] = u0
    out[TO_U] = u1
    out[BLEND_M] = length
    out[SLOPE_U] = np.tan(max(-0.9, min(0.9, psi))) * length / width

"""Geometry of the expert's plans: a smooth lateral blend onto a lane, cut into the plan's chain, and speeds along it.

The lateral profile is the quintic d(u) of Werling et al. (ICRA 2010, "Optimal trajectory generation for dynamic street
scenarios in a Frenet frame"), with the present offset and direction at the start and the lane centre at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bridge.messages import VehicleProfile, Waypoint
from sims.truth import ActorTruth, Truth

SEGMENTS = 8
BLEND_SHARE = 0.75  # of the lateral acceleration planned in bends: for the change of lane itself
BRAKE_SHARE = 0.3  # of the car's full brake: planned when a bend comes
GRID_M = np.arange(0.0, 8.01, 0.1)


@dataclass(frozen=True)
class LanePath:
    """`xy` (8, 2) waypoints [m, ego frame], `headings_rad` (8,) of the segments, `step_m` of the chain; `d_m` of the
    blend on GRID_M (s ahead)."""

    xy: tuple[tuple[float, float], ...]
    headings_rad: tuple[float, ...]
    step_m: float
    d_m: np.ndarray
    target_d_m: float

    def lateral_distance(self, s_ahead_m: float, length_m: float, d_m: float) -> float:
        """Smallest distance across the road between the path and a body at (s ahead, d), metres."""
        first = int(min(max(s_ahead_m - length_m / 2, 0.0) / 0.1, len(GRID_M) - 1))
        last = int(min(max(s_ahead_m + length_m / 2, 0.0) / 0.1, len(GRID_M) - 1))
        return min(abs(float(self.d_m[first]) - d_m), abs(float(self.d_m[last]) - d_m))


def blend_length_m(delta_d_m: float, speed_mps: float, max_lateral_mps2: float = 2.0) -> float:
    """Travel over which a lateral move of `delta_d_m` is spread: 1.2 s, at least 1.5 m, and gentle enough to steer."""
    curvature = min(1.2, BLEND_SHARE * max_lateral_mps2 / max(speed_mps, 0.3) ** 2)
    # The quintic's greatest second derivative is 5.77 delta / length^2.
    return min(max(1.5, 1.2 * speed_mps, math.sqrt(5.77 * abs(delta_d_m) / curvature)), 7.0)


def lane_path(truth: Truth, profile: VehicleProfile, target_d_m: float, speed_mps: float) -> LanePath:
    """Path from the rear axle onto the line d = `target_d_m` (metres left of the reference line), within the steering
    limit, as a chain of SEGMENTS segments of two wheelbases."""
    length = blend_length_m(target_d_m - truth.d_m, speed_mps, profile.max_lateral_mps2)
    d = _blend(truth, target_d_m, length)
    s_ref = truth.ahead[:, 0]
    c, s = math.cos(truth.yaw_rad), math.sin(truth.yaw_rad)
    yaw = truth.ahead[:, 3] - truth.yaw_rad
    rx, ry = truth.ahead[:, 1] - truth.x_m, truth.ahead[:, 2] - truth.y_m
    x = np.interp(GRID_M, s_ref, rx * c + ry * s) - d * np.interp(GRID_M, s_ref, np.sin(yaw))
    y = np.interp(GRID_M, s_ref, ry * c - rx * s) + d * np.interp(GRID_M, s_ref, np.cos(yaw))
    step = 2.0 * profile.wheelbase_m
    tightest = 0.95 * math.tan(profile.steering_limit_rad) / profile.wheelbase_m
    xy, headings = _chain(x.tolist(), y.tolist(), step, tightest * step)
    return LanePath(xy, headings, step, d, target_d_m)


def _blend(truth: Truth, target_d_m: float, length_m: float) -> np.ndarray:
    """d on GRID_M: quintic from (d, slope, 0) to (target, 0, 0) over `length_m`, then the target."""
    error = min(max(truth.heading_error_rad, -0.9), 0.9)
    slope = math.tan(error) * length_m
    u = np.minimum(GRID_M / length_m, 1.0)
    u3 = u * u * u
    rise = u3 * (10.0 - 15.0 * u + 6.0 * u * u)
    drift = u - u3 * (6.0 - 8.0 * u + 3.0 * u * u)
    return truth.d_m + (target_d_m - truth.d_m) * rise + slope * drift


def _chain(x: list[float], y: list[float], step: float, most_turn: float):
    """Walk along the polyline in straight steps; a step turns by at most `most_turn` rad, the first by half of it."""
    px = py = heading = 0.0
    j, points, headings, room = 1, [], [], most_turn / 2
    for _ in range(SEGMENTS):
        while j < len(x) - 1 and math.hypot(x[j] - px, y[j] - py) < step:
            j += 1
        tx, ty = _on_circle(x[j - 1], y[j - 1], x[j], y[j], px, py, step)
        turn = math.atan2(ty - py, tx - px) - heading
        turn = (turn + math.pi) % (2 * math.pi) - math.pi
        heading += min(max(turn, -room), room)
        px, py = px + step * math.cos(heading), py + step * math.sin(heading)
        points.append((px, py))
        headings.append((heading + math.pi) % (2 * math.pi) - math.pi)
        room = most_turn
    return tuple(points), tuple(headings)


def _on_circle(ax, ay, bx, by, px, py, radius):
    """Point of segment a-b at `radius` from p; b when a is not inside the circle or b not outside it."""
    near, far = math.hypot(ax - px, ay - py), math.hypot(bx - px, by - py)
    if not near < radius <= far:
        return bx, by
    part = (radius - near) / (far - near)
    return ax + part * (bx - ax), ay + part * (by - ay)


def plan_speeds(
    truth: Truth, profile: VehicleProfile, path: LanePath, wanted_mps: float, obstacle: ActorTruth | None
) -> tuple[float, float]:
    """(speed at the first waypoint, speed at the last), linear in between: `wanted_mps`, less in bends and in time
    before them, falling towards something that stands in the path."""
    s, limits = _bend_limits(truth, profile, path)
    brake = BRAKE_SHARE * profile.max_brake_mps2
    allowed = [min(wanted_mps, _reachable(s, limits, (k + 1) * path.step_m, brake)) for k in range(SEGMENTS)]
    first, last = allowed[0], allowed[-1]
    near, part = allowed[:5], [k / (SEGMENTS - 1) for k in range(5)]  # what is driven before the next plan
    bound = [first + (v - first) / r for v, r in zip(near[1:], part[1:], strict=True)]
    last = max(min(last, *bound), min(near))
    first = min((v - last * r) / (1 - r) for v, r in zip(near, part, strict=True))
    if obstacle is not None and obstacle.speed_mps < 0.05:
        last = min(last, max(0.0, first - (SEGMENTS - 1) * path.step_m / 1.3))
    return first, max(last, 0.0)


def _bend_limits(truth: Truth, profile: VehicleProfile, path: LanePath) -> tuple[list[float], list[float]]:
    """Distances along the path [m] and the greatest speed there [m/s], on the chain and on the lane beyond it."""
    h = (0.0, *path.headings_rad)
    turns = [2.0 * h[1]] + [(h[k + 1] - h[k] + math.pi) % (2 * math.pi) - math.pi for k in range(1, SEGMENTS)]
    s = [k * path.step_m for k in range(SEGMENTS)]
    curvatures = [abs(turn) / path.step_m for turn in turns]
    reach = SEGMENTS * path.step_m
    beyond = np.arange(reach, reach + 2.6, 0.5)
    road = np.interp(beyond, truth.ahead[:, 0], truth.ahead[:, 4])
    for at, k in zip(beyond.tolist(), road.tolist(), strict=True):
        s.append(at)
        curvatures.append(abs(k / max(1.0 - k * path.target_d_m, 0.2)))
    return s, [math.sqrt(profile.max_lateral_mps2 / max(k, 1e-3)) for k in curvatures]


def _reachable(s: list[float], limits: list[float], here_m: float, brake_mps2: float) -> float:
    """Greatest speed at `here_m` from which every later limit is met by gentle braking."""
    squares = [
        limit * limit + 2 * brake_mps2 * max(at - here_m, 0.0)
        for at, limit in zip(s, limits, strict=True)
        if at >= here_m - 0.75  # the bend that the car is in still counts
    ]
    return math.sqrt(max(min(squares), 0.04))


def waypoints_of(path: LanePath, first_mps: float, last_mps: float) -> tuple[Waypoint, ...]:
    """The chain as the plan's waypoints."""
    rise = (last_mps - first_mps) / (SEGMENTS - 1)
    return tuple(Waypoint(x_m=x, y_m=y, v_mps=max(first_mps + rise * k, 0.0)) for k, (x, y) in enumerate(path.xy))

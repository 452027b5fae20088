"""Roads in Frenet terms: a closed reference line with widths to both sides and a number of equal lanes.

s runs along the line, d to its left; lanes are numbered from the right. Sources of a road: a racetrack file
(`x_m, y_m, w_tr_right_m, w_tr_left_m`, closed loop) or a seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SAMPLE_STEP_M = 0.05


class RoadError(ValueError):
    """A road that cannot be built; the message says which, where and why."""


@dataclass(frozen=True, eq=False)
class Road:
    """A closed road. All arrays have one entry every `step_m` along the line; the last sample joins the first."""

    name: str
    step_m: float
    x_m: np.ndarray
    y_m: np.ndarray
    yaw_rad: np.ndarray  # of the tangent, unwrapped
    curvature_pm: np.ndarray  # positive bends left
    left_m: np.ndarray  # distance from the line to the left edge, positive
    right_m: np.ndarray  # distance from the line to the right edge, positive
    lane_count: int
    meta: dict = field(default_factory=dict)

    @property
    def length_m(self) -> float:
        """Length of the loop in metres."""
        return len(self.x_m) * self.step_m

    def _interp(self, s_m, values, period=0.0):
        position = np.mod(np.asarray(s_m, dtype=float), self.length_m) / self.step_m
        i = np.minimum(position.astype(int), len(values) - 1)
        j = (i + 1) % len(values)
        following = values[j] + period * (j < i)
        return values[i] + (following - values[i]) * (position - i)

    def edges_at(self, s_m):
        """(left_d, right_d) of the road edges at s, metres; right_d is negative."""
        return self._interp(s_m, self.left_m), -self._interp(s_m, self.right_m)

    def lane_width_at(self, s_m):
        """Width of one lane at s, metres."""
        left, right = self.edges_at(s_m)
        return (left - right) / self.lane_count

    def lane_center_d(self, s_m, lane):
        """d of the centre of `lane` at s, metres."""
        left, right = self.edges_at(s_m)
        return right + (np.asarray(lane) + 0.5) * (left - right) / self.lane_count

    def lane_at(self, s_m, d_m):
        """Index of the lane that holds (s, d), clipped to the road."""
        left, right = self.edges_at(s_m)
        lane = np.floor((np.asarray(d_m) - right) / (left - right) * self.lane_count).astype(int)
        return np.clip(lane, 0, self.lane_count - 1)

    def yaw_at(self, s_m):
        """Direction of the reference line at s, rad, world frame."""
        turn = 2 * np.pi * round((self.yaw_rad[-1] - self.yaw_rad[0]) / (2 * np.pi))
        return self._interp(s_m, self.yaw_rad, turn)

    def curvature_at(self, s_m):
        """Curvature of the reference line at s, 1/m, positive left."""
        return self._interp(s_m, self.curvature_pm)

    def to_world(self, s_m, d_m):
        """(x, y, yaw) in the world frame of the point at (s, d)."""
        yaw = self.yaw_at(s_m)
        x = self._interp(s_m, self.x_m) - np.asarray(d_m) * np.sin(yaw)
        y = self._interp(s_m, self.y_m) + np.asarray(d_m) * np.cos(yaw)
        return x, y, yaw

    def to_frenet(self, x_m: float, y_m: float) -> tuple[float, float]:
        """(s, d) of the nearest point of the line; a full search, for tools and tests, not for inner loops."""
        k = int(np.argmin((self.x_m - x_m) ** 2 + (self.y_m - y_m) ** 2))
        dx, dy = x_m - self.x_m[k], y_m - self.y_m[k]
        c, s = np.cos(self.yaw_rad[k]), np.sin(self.yaw_rad[k])
        return float((k * self.step_m + dx * c + dy * s) % self.length_m), float(dy * c - dx * s)


def road_from_points(name, x_m, y_m, left_m, right_m, lane_count, step_m=SAMPLE_STEP_M, meta=None) -> Road:
    """Resample a closed polyline to even steps with a periodic cubic spline. Raises RoadError on bad geometry."""
    from scipy.interpolate import CubicSpline

    points = np.column_stack([x_m, y_m]).astype(float)
    if len(points) < 4 or not np.isfinite(points).all():
        raise RoadError(f"road {name!r}: needs at least 4 finite points, got {len(points)}")
    if np.hypot(*(points[0] - points[-1])) < 1e-9:
        points, left_m, right_m = points[:-1], left_m[:-1], right_m[:-1]
    closed = np.vstack([points, points[:1]])
    chord = np.hypot(*np.diff(closed, axis=0).T)
    if (chord <= 0).any():
        raise RoadError(f"road {name!r}: point {int(np.argmin(chord))} is repeated")
    u = np.concatenate([[0.0], np.cumsum(chord)])
    spline = CubicSpline(u, closed, bc_type="periodic")
    fine = np.linspace(0.0, u[-1], max(2000, int(u[-1] / step_m) * 8) + 1)
    xy = spline(fine)
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    n = max(8, round(arc[-1] / step_m))
    at = np.interp(np.arange(n) * arc[-1] / n, arc, fine)
    x, y = spline(at).T
    dx, dy = spline(at, 1).T
    ddx, ddy = spline(at, 2).T
    curvature = (dx * ddy - dy * ddx) / np.maximum(dx * dx + dy * dy, 1e-12) ** 1.5
    wrap = lambda w: np.interp(at, u, np.append(w, w[0]))  # noqa: E731
    left, right = wrap(np.asarray(left_m, dtype=float)), wrap(np.asarray(right_m, dtype=float))
    if (left + right <= 0).any():
        raise RoadError(f"road {name!r}: width must be positive everywhere")
    return Road(name, arc[-1] / n, x, y, np.unwrap(np.arctan2(dy, dx)), curvature, left, right, lane_count, meta or {})


def road_from_csv(path: str | Path, lane_count: int | None = None) -> Road:
    """Read a racetrack file. Lanes default to the width divided by about 1.1 m, between 1 and 3. Raises RoadError."""
    path = Path(path)
    if not path.is_file():
        raise RoadError(f"no racetrack file at {path}; give a CSV with x_m, y_m, w_tr_right_m, w_tr_left_m")
    try:
        table = np.loadtxt(path, delimiter=",", comments="#", ndmin=2)
    except ValueError as error:
        raise RoadError(f"{path}: not a racetrack file: {error}") from error
    if table.shape[1] != 4 or len(table) < 4:
        raise RoadError(f"{path}: expected at least 4 rows of x_m, y_m, w_tr_right_m, w_tr_left_m, got {table.shape}")
    x, y, right, left = table.T
    if lane_count is None:
        lane_count = int(np.clip(round(float(np.mean(left + right)) / 1.1), 1, 3))
    return road_from_points(path.stem, x, y, left, right, lane_count)

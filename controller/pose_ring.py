"""The car's own recent poses, by dead reckoning from speed and yaw rate; knows nothing of plans or of the world.

Poses live in an odometry frame that starts anywhere: only the motion between two stamps is ever asked for.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import NamedTuple

import numpy as np


class Pose(NamedTuple):
    """A planar pose or rigid motion: metres and rad, x forward, y left, yaw counter-clockwise."""

    x_m: float
    y_m: float
    yaw_rad: float

    def compose(self, other: Pose) -> Pose:
        """a_from_b.compose(b_from_c) = a_from_c."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return Pose(
            self.x_m + c * other.x_m - s * other.y_m,
            self.y_m + s * other.x_m + c * other.y_m,
            self.yaw_rad + other.yaw_rad,
        )

    def inverse(self) -> Pose:
        """b_from_a of an a_from_b."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return Pose(-c * self.x_m - s * self.y_m, s * self.x_m - c * self.y_m, -self.yaw_rad)

    def apply(self, points_m: np.ndarray) -> np.ndarray:
        """Points (n, 2) of frame b, seen in frame a."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        x, y = points_m[:, 0], points_m[:, 1]
        return np.stack([self.x_m + c * x - s * y, self.y_m + s * x + c * y], axis=1)


IDENTITY = Pose(0.0, 0.0, 0.0)


def arc(speed_mps: float, yaw_rate_radps: float, duration_s: float) -> Pose:
    """Motion at constant speed and yaw rate: the exact circular arc, as start_from_end. Negative durations go back."""
    half = 0.5 * yaw_rate_radps * duration_s
    chord = speed_mps * duration_s * (math.sin(half) / half if abs(half) > 1e-6 else 1.0)
    return Pose(chord * math.cos(half), chord * math.sin(half), 2.0 * half)


class PoseRing:
    """Poses of the last `span_s` seconds. A gap longer than `gap_s` or a stamp that goes back starts it afresh."""

    def __init__(self, span_s: float = 12.0, gap_s: float = 0.5):
        self._span_ns, self._gap_ns = int(span_s * 1e9), int(gap_s * 1e9)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._stamps: list[int] = []
        self._poses: list[Pose] = []
        self._speeds: list[float] = []
        self._yaw_rates: list[float] = []

    def push(self, t_ns: int, speed_mps: float, yaw_rate_radps: float) -> bool:
        """Take in a measurement. Returns False (and ignores it) when it is not finite or repeats the last stamp."""
        if not (math.isfinite(speed_mps) and math.isfinite(yaw_rate_radps)):
            return False
        pose = IDENTITY
        if self._stamps:
            gap_ns = t_ns - self._stamps[-1]
            if gap_ns == 0:
                return False
            if 0 < gap_ns <= self._gap_ns:
                # Trapezoid: the interval is an arc at the mean of its two ends.
                speed = 0.5 * (self._speeds[-1] + speed_mps)
                yaw_rate = 0.5 * (self._yaw_rates[-1] + yaw_rate_radps)
                pose = self._poses[-1].compose(arc(speed, yaw_rate, gap_ns * 1e-9))
            else:
                self.clear()
        self._stamps.append(t_ns)
        self._poses.append(pose)
        self._speeds.append(speed_mps)
        self._yaw_rates.append(yaw_rate_radps)
        self._trim()
        return True

    def covers(self, t_ns: int) -> bool:
        """Whether the ring can say where the car was at `t_ns` (a gap's length beyond the newest is believed)."""
        return bool(self._stamps) and self._stamps[0] <= t_ns <= self._stamps[-1] + self._gap_ns

    def pose_at(self, t_ns: int) -> Pose:
        """odom_from_ego at `t_ns`, interpolated along arcs, extrapolated beyond the newest. Raises LookupError."""
        if not self.covers(t_ns):
            raise LookupError(f"stamp {t_ns} ns lies outside the pose ring {self.span_ns}")
        i = bisect_right(self._stamps, t_ns) - 1
        speed, yaw_rate = self._speeds[i], self._yaw_rates[i]
        if i + 1 < len(self._stamps):
            speed = 0.5 * (speed + self._speeds[i + 1])
            yaw_rate = 0.5 * (yaw_rate + self._yaw_rates[i + 1])
        return self._poses[i].compose(arc(speed, yaw_rate, (t_ns - self._stamps[i]) * 1e-9))

    def ego_now_from_ego_at(self, t_ns: int, now_ns: int) -> Pose:
        """Moves points from the ego frame at `t_ns` to that at `now_ns`. Raises LookupError outside the ring."""
        return self.pose_at(now_ns).inverse().compose(self.pose_at(t_ns))

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """Oldest and newest stamp."""
        return (self._stamps[0], self._stamps[-1]) if self._stamps else None

    def _trim(self) -> None:
        if self._stamps[-1] - self._stamps[0] <= 2 * self._span_ns:
            return
        keep = bisect_right(self._stamps, self._stamps[-1] - self._span_ns)
        for column in (self._stamps, self._poses, self._speeds, self._yaw_rates):
            del column[:keep]

"""Pure pursuit and a speed loop on a path in the ego frame. Knows no plans, no stamps, no cameras.

Pure pursuit after Coulter, "Implementation of the Pure Pursuit Path Tracking Algorithm", CMU-RI-TR-92-01; the curvature
to a point (x, y) of the ego frame is 2 y / (x^2 + y^2). Speed: PI with the path's own acceleration fed forward.
"""

from __future__ import annotations

import math

import numpy as np

from bridge.messages import VehicleProfile
from controller.settings import TrackerSettings


class Path:
    """A polyline (n, 3) [x m, y m, v m/s] with n >= 2, extended straight beyond its end."""

    def __init__(self, path_m: np.ndarray):
        self.points = path_m[:, :2]
        self.speeds_mps = path_m[:, 2]
        self._steps = np.diff(self.points, axis=0)
        self._lengths = np.maximum(np.hypot(self._steps[:, 0], self._steps[:, 1]), 1e-9)
        self.stations_m = np.concatenate([[0.0], np.cumsum(self._lengths)])

    @property
    def length_m(self) -> float:
        """From the first to the last point along the path."""
        return float(self.stations_m[-1])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest stations [m] and distances [m] of points (k, 2). Stations beyond the end lie on the extension."""
        offset = points[:, None, :] - self.points[None, :-1, :]
        along = (offset * self._steps).sum(-1) / self._lengths
        upper = self._lengths.copy()
        upper[-1] = math.inf
        along = np.clip(along, 0.0, upper)
        gap = offset - along[..., None] * (self._steps / self._lengths[:, None])
        distance = np.hypot(gap[..., 0], gap[..., 1])
        best = distance.argmin(axis=1)
        rows = np.arange(len(points))
        return self.stations_m[best] + along[rows, best], distance[rows, best]

    def point_at(self, station_m: float) -> tuple[float, float]:
        """The point at a station, on the extension beyond the end."""
        i = int(np.searchsorted(self.stations_m, station_m, side="right")) - 1
        i = min(max(i, 0), len(self._lengths) - 1)
        t = (station_m - self.stations_m[i]) / self._lengths[i]
        return float(self.points[i, 0] + t * self._steps[i, 0]), float(self.points[i, 1] + t * self._steps[i, 1])

    def speed_at(self, station_m: float) -> float:
        """The wanted speed at a station, that of the end beyond it."""
        return float(np.interp(station_m, self.stations_m, self.speeds_mps))


def shifted(path_m: np.ndarray, x_m: float, y_m: float, yaw_rad: float) -> np.ndarray:
    """`path_m` seen from a pose (x, y, yaw) of the ego frame."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    dx, dy = path_m[:, 0] - x_m, path_m[:, 1] - y_m
    return np.column_stack([c * dx + s * dy, -s * dx + c * dy, path_m[:, 2]])


class Tracker:
    """Follows a path: `steering` is stateless, `acceleration` keeps the integral of the speed error. `settings` are as
    for the default car, whatever the profile."""

    def __init__(self, profile: VehicleProfile, settings: TrackerSettings, period_s: float):
        self.profile, self.settings, self._period_s = profile, settings.for_car(profile), period_s
        self.reset()

    def reset(self) -> None:
        """Forget the integral."""
        self._integral_mps2 = 0.0

    def steering(self, path: Path, speed_mps: float) -> float:
        """Steering in [-1, 1] toward the point one look-ahead further along `path` than the car."""
        settings, wheelbase_m = self.settings, self.profile.wheelbase_m
        ahead_m = settings.lookahead_wheelbases * wheelbase_m + settings.lookahead_s * abs(speed_mps)
        ahead_m = min(ahead_m, settings.lookahead_limit_wheelbases * wheelbase_m)
        station_m = float(path.project(np.zeros((1, 2)))[0][0])
        x_m, y_m = path.point_at(station_m + ahead_m)
        curvature = 2.0 * y_m / max(x_m * x_m + y_m * y_m, 1e-6)
        if x_m < 0.0:  # the path lies behind: turn as hard as possible to the side that it is on
            curvature = math.copysign(1e3, y_m)
        angle = math.atan(wheelbase_m * curvature)
        return min(1.0, max(-1.0, angle / self.profile.steering_limit_rad))

    def wanted_speed(self, path: Path, speed_mps: float) -> tuple[float, float]:
        """Speed wanted a short preview ahead [m/s], and the path's own acceleration there [m/s^2]."""
        station_m = float(path.project(np.zeros((1, 2)))[0][0]) + max(speed_mps, 0.0) * self.settings.speed_preview_s
        wanted, later = path.speed_at(station_m), path.speed_at(station_m + 0.1)
        return min(wanted, self.profile.max_speed_mps), 0.5 * (later * later - wanted * wanted) / 0.1

    def acceleration(self, path: Path, speed_mps: float) -> float:
        """Acceleration in [-1, 1] (share of the profile's full throttle or full brake)."""
        settings = self.settings
        wanted_mps, forward_mps2 = self.wanted_speed(path, speed_mps)
        if wanted_mps < settings.standstill_mps and speed_mps < 2.0 * settings.standstill_mps:
            self.reset()
            return -settings.hold_brake
        error = wanted_mps - speed_mps
        raw = forward_mps2 + settings.speed_gain_per_s * error + self._integral_mps2
        value = raw / (self.profile.max_accel_mps2 if raw >= 0.0 else self.profile.max_brake_mps2)
        if abs(value) < 1.0 or value * error < 0.0:  # no wind-up while saturated
            step = settings.speed_integral_per_s2 * error * self._period_s
            limit = settings.integral_limit_mps2
            self._integral_mps2 = min(limit, max(-limit, self._integral_mps2 + step))
        return min(1.0, max(-1.0, value))

"""A car on an endless plane for controller tests: kinematic bicycle, actuator delay, drag, virtual time."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from bridge.messages import EgoState, Plan, VehicleProfile, Waypoint
from bridge.vehicle import Sensors

TICK_NS = 33_333_333
PROFILE = VehicleProfile()
IMAGE = np.zeros((120, 160, 3), np.uint8)


class KinematicCar:
    """World pose of the rear axle (x, y, yaw) and speed; `actuate` advances one tick."""

    def __init__(self, profile: VehicleProfile = PROFILE, speed_mps: float = 0.0, delay_ticks: int = 2):
        self.profile = profile
        self.x = self.y = self.yaw = self.steering = self.yaw_rate = 0.0
        self.v = speed_mps
        self.now_ns = 1_000_000_000
        self._queue = deque([(0.0, 0.0)] * delay_ticks)

    def read(self) -> Sensors:
        ego = EgoState(speed_mps=self.v, yaw_rate_radps=self.yaw_rate, steering=self.steering)
        return Sensors(IMAGE, ego, self.now_ns)

    def actuate(self, steering: float, throttle: float, brake: float) -> None:
        self._queue.append((steering, throttle - brake))
        self.steering, a = self._queue.popleft()
        dt_s = TICK_NS * 1e-9
        force = a * (self.profile.max_accel_mps2 if a > 0.0 else self.profile.max_brake_mps2)
        self.v = min(self.profile.max_speed_mps, max(0.0, self.v + (force - 0.3 * self.v) * dt_s))
        angle = self.steering * self.profile.steering_limit_rad
        self.yaw_rate = self.v * math.tan(angle) / self.profile.wheelbase_m
        self.yaw += self.yaw_rate * dt_s
        self.x += self.v * math.cos(self.yaw) * dt_s
        self.y += self.v * math.sin(self.yaw) * dt_s
        self.now_ns += TICK_NS

    def to_ego(self, x: float, y: float) -> tuple[float, float]:
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return c * (x - self.x) + s * (y - self.y), -s * (x - self.x) + c * (y - self.y)


def plan(points, t_capture_ns: int, seq: int = 0, v_mps: float = 1.2, **fields) -> Plan:
    """A plan through ego-frame points."""
    values = {
        "session_id": "s",
        "seq": seq,
        "frame_seq": seq,
        "t_capture_ns": t_capture_ns,
        "ttl_s": 2.0,
        "intent": "follow_lane",
        "waypoints": tuple(Waypoint(x_m=float(x), y_m=float(y), v_mps=v_mps) for x, y in points),
    }
    return Plan(**{**values, **fields})


def straight(t_capture_ns: int, seq: int = 0, v_mps: float = 1.2, **fields) -> Plan:
    """Eight waypoints straight ahead."""
    return plan([(0.5 * k, 0.0) for k in range(1, 9)], t_capture_ns, seq, v_mps, **fields)


def on_circle(car: KinematicCar, radius_m: float, seq: int, v_mps: float = 1.2) -> Plan:
    """Eight waypoints half a metre apart on the circle about (0, radius), from the car's bearing on."""
    bearing = math.atan2(car.y - radius_m, car.x)
    angles = [bearing + 0.5 * k / radius_m for k in range(1, 9)]
    points = [car.to_ego(radius_m * math.cos(a), radius_m + radius_m * math.sin(a)) for a in angles]
    return plan(points, car.now_ns, seq, v_mps)

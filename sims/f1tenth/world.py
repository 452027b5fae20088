"""The car of f1tenth_gym on our roads: its function `vehicle_dynamics_st`, integrated here; no lidar, map or camera.

Of f1tenth_gym only `f110_gym.envs.dynamic_models` is used (its environment needs the old `gym` and a map file). The
state there is [x, y, wheel angle, speed, yaw, yaw rate, slip angle] of the centre of gravity; below 0.5 m/s it is
kinematic. Source of the model: Althoff et al., "CommonRoad: composable benchmarks for motion planning on roads" (2017).
"""

from __future__ import annotations

import math

import numpy as np
from f110_gym.envs.dynamic_models import vehicle_dynamics_st

from sims.f1tenth.spec import PROFILE, road
from sims.followed import FollowedWorld, Pose
from sims.road import Road
from sims.scenarios import Scenario
from sims.world import STEP_S, WorldError

SUBSTEPS = 4
DT_S = STEP_S / SUBSTEPS
# The vehicle of F110Env by default, in the order in which vehicle_dynamics_st takes it.
VEHICLE = {
    "mu": 1.0489, "C_Sf": 4.718, "C_Sr": 5.4562, "lf": 0.15875, "lr": 0.17145, "h": 0.074, "m": 3.74, "I": 0.04712,
    "s_min": -0.4189, "s_max": 0.4189, "sv_min": -3.2, "sv_max": 3.2, "v_switch": 7.319, "a_max": 9.51, "v_min": -5.0,
    "v_max": 20.0,
}  # fmt: skip
FRICTION_SPREAD = 0.25  # of the nominal friction, at full randomisation


class F1tenthWorld(FollowedWorld):
    """One F1TENTH car. Raises WorldError when its dynamics run away."""

    name = "f1tenth"
    metadata = {"render_modes": [], "render_fps": 30}

    def __init__(self, randomize: float = 0.0):
        super().__init__(PROFILE)
        self._randomize = randomize
        self._state = np.zeros(7)
        self._vehicle = tuple(VEHICLE.values())

    def road(self, seed: int) -> Road:
        """A random road."""
        return road("random", seed)

    def _begin(self, scenario: Scenario, seed: int, pose: Pose) -> None:
        u = 2.0 * np.random.default_rng(seed).random() - 1.0
        friction = VEHICLE["mu"] * (1.0 + FRICTION_SPREAD * self._randomize * u)
        self._vehicle = tuple({**VEHICLE, "mu": friction}.values())
        to_centre = VEHICLE["lr"]
        x = pose.x_m + to_centre * math.cos(pose.yaw_rad)
        y = pose.y_m + to_centre * math.sin(pose.yaw_rad)
        slip = math.atan(to_centre / self.profile.wheelbase_m * math.tan(pose.wheel_rad))
        self._state = np.array([x, y, pose.wheel_rad, pose.speed_mps, pose.yaw_rad, pose.yaw_rate_radps, slip])

    def _move(self, steering: float, acceleration: float) -> Pose:
        p = self.profile
        limit = p.max_accel_mps2 if acceleration >= 0.0 else p.max_brake_mps2
        for _ in range(SUBSTEPS):
            wheel_rate = (steering * p.steering_limit_rad - self._state[2]) / DT_S
            wheel_rate = min(max(wheel_rate, VEHICLE["sv_min"]), VEHICLE["sv_max"])
            push = acceleration * limit
            if push > 0.0 and self._state[3] >= p.max_speed_mps:
                push = 0.0
            if push < 0.0:  # its brake would drive the car backwards
                push = max(push, -max(self._state[3], 0.0) / DT_S)
            self._state = self._runge_kutta(np.array([wheel_rate, push]))
        if not np.isfinite(self._state).all():
            raise WorldError("f1tenth: the dynamics have run away (a number is not finite)")
        return self._pose()

    def _runge_kutta(self, control: np.ndarray) -> np.ndarray:
        """One step of fourth order, as f1tenth_gym's own integrator takes it."""
        x, rate = self._state, lambda state: vehicle_dynamics_st(state, control, *self._vehicle)
        k1 = rate(x)
        k2 = rate(x + DT_S / 2 * k1)
        k3 = rate(x + DT_S / 2 * k2)
        k4 = rate(x + DT_S * k3)
        return x + DT_S / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def _pose(self) -> Pose:
        x, y, wheel, speed, yaw, yaw_rate, slip = (float(v) for v in self._state)
        rear = x - VEHICLE["lr"] * math.cos(yaw), y - VEHICLE["lr"] * math.sin(yaw)
        return Pose(*rear, math.remainder(yaw, 2 * math.pi), speed * math.cos(slip), yaw_rate, wheel)

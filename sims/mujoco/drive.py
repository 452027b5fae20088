"""Driving the model: what the command becomes at servo, motor and brakes, and one world step of physics.

Servo and motor follow a command as a first-order lag, after the actuator delay; brakes are friction at the wheels, so
they hold a standing car and never push it back. Knows the car and its physics record, no roads.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from sims.mujoco.car import SERVO_RAD_PER_S, STEP_S, SUBSTEPS, WHEELS, Car, rest_pose

HISTORY = 16  # steps of commands kept for the actuator delay
LINKAGE_LAG_S = 2.0 / SERVO_RAD_PER_S  # the position loop of the linkage lags by itself; the servo's lag contains it
TOP_SPEED_BAND_MPS = 0.2  # at the default car: the motor fades out over this below the top speed


class Drive:
    """One car in motion. `physics` is a `sims.track.dynamics.PHYSICS` record. `step` raises FloatingPointError when the
    physics has run away."""

    def __init__(self, car: Car, model, physics):
        self.car, self.model, self.data, self._physics = car, model, mujoco.MjData(model), physics
        self._qpos = {name: int(model.joint(name).qposadr[0]) for name in self._joints()}
        self._dofs = {name: int(model.joint(name).dofadr[0]) for name in self._joints()}
        self._brakes = [self._dofs[f"{name}_spin"] for name in WHEELS]
        self._horn = self._qpos["horn"]
        self._history = np.zeros((HISTORY, 2))
        self._servo_rad = self._accel_mps2 = 0.0
        self._steps = 0
        h, p = model.opt.timestep, physics
        self._servo_gain = 1 - math.exp(-h / max(float(p["lag_s"]) - LINKAGE_LAG_S, 0.005))
        self._motor_gain = 1 - math.exp(-h / float(p["motor_lag_s"]))
        self._fade_mps = TOP_SPEED_BAND_MPS * car.profile.reference_speed_mps / 1.5
        car.set_tyres(model, float(p["friction"]), float(p["stiffness"]) / 5.5, float(p["balance"]))
        car.set_drag(model, float(p["drag"]))

    @staticmethod
    def _joints():
        knuckles = ("front_left_knuckle", "front_right_knuckle")
        return ("chassis", "horn", *knuckles, *(f"{name}_spin" for name in WHEELS))

    def place(self, x_m, y_m, yaw_rad, speed_mps, yaw_rate_radps, wheel_rad) -> None:
        """Put the car at a pose (rear axle), rolling and turning without slip, its servo at rest at `wheel_rad`."""
        data, car = self.data, self.car
        mujoco.mj_resetData(self.model, data)
        data.qpos[: len(rest_pose(car.profile))] = rest_pose(car.profile)
        data.qpos[0:2] = x_m, y_m
        data.qpos[3:7] = math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2)
        data.qvel[0:2] = speed_mps * math.cos(yaw_rad), speed_mps * math.sin(yaw_rad)
        data.qvel[5] = yaw_rate_radps
        data.qpos[self._horn] = wheel_rad
        for name in WHEELS:
            side = 1 if name.endswith("left") else -1
            along, across = speed_mps - yaw_rate_radps * side * car.half_track, 0.0
            if name.startswith("front"):
                knuckle = float(np.polynomial.polynomial.polyval(wheel_rad, car.ackermann(side)))
                data.qpos[self._qpos[f"{name}_knuckle"]] = knuckle
                across = yaw_rate_radps * car.wheelbase
                along = along * math.cos(knuckle) + across * math.sin(knuckle)
            data.qvel[self._dofs[f"{name}_spin"]] = along / car.radius
        self._history[:] = (wheel_rad / car.profile.steering_limit_rad, 0.0)
        self._servo_rad, self._accel_mps2, self._steps = wheel_rad, 0.0, 0
        data.ctrl[0] = wheel_rad
        mujoco.mj_forward(self.model, data)

    def step(self, steering: float, acceleration: float) -> None:
        """One world step under a command in [-1, 1] each."""
        self._history[self._steps % HISTORY] = steering, acceleration
        delay = float(self._physics["delay_s"]) / STEP_S
        for j in range(SUBSTEPS):
            late = math.floor(self._steps + (j + 0.5) / SUBSTEPS - delay)
            self._actuate(*self._history[late % HISTORY])
            mujoco.mj_step(self.model, self.data)
        self._steps += 1
        if self.data.warning[mujoco.mjtWarning.mjWARN_BADQACC].number or not np.isfinite(self.data.qpos[:7]).all():
            raise FloatingPointError("the car's physics has run away")

    def _actuate(self, steering: float, acceleration: float) -> None:
        p, profile, data = self._physics, self.car.profile, self.data
        target = min(max(steering * p["steer_gain"], -1.0), 1.0) * profile.steering_limit_rad + p["steer_offset_rad"]
        self._servo_rad += (target - self._servo_rad) * self._servo_gain
        data.ctrl[0] = self._servo_rad
        if acceleration >= 0:
            fade = min(max((profile.max_speed_mps - self.speed_mps) / self._fade_mps, 0.0), 1.0)
            wanted = acceleration * profile.max_accel_mps2 * p["accel_gain"] * fade
        else:
            wanted = acceleration * profile.max_brake_mps2 * p["accel_gain"]
        self._accel_mps2 += (wanted - self._accel_mps2) * self._motor_gain
        torque = self.car.motor_torque(self._accel_mps2)
        data.ctrl[1] = max(torque, 0.0)
        self.model.dof_frictionloss[self._brakes] = 0.25 * max(-torque, 0.0)

    # ---- readings ------------------------------------------------------------------------------------------------

    @property
    def yaw_rad(self) -> float:
        w, x, y, z = self.data.qpos[3:7]
        return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))

    @property
    def speed_mps(self) -> float:
        """Of the rear axle along the car's heading; a standing car's last micrometres backward count as standing."""
        vx, vy = self.data.qvel[0:2]
        yaw = self.yaw_rad
        return max(float(vx * math.cos(yaw) + vy * math.sin(yaw)), 0.0)

    @property
    def yaw_rate_radps(self) -> float:
        return float(self.data.qvel[5])

    @property
    def wheel_rad(self) -> float:
        """Angle of the linkage as of a single front wheel."""
        return float(self.data.qpos[self._horn])

    @property
    def position_m(self) -> tuple[float, float]:
        return float(self.data.qpos[0]), float(self.data.qpos[1])

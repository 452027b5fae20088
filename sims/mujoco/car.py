"""The car as a MuJoCo model: chassis on four sprung wheels, steering linkage, servo, drive train, brakes, tyres.

Everything follows from the `VehicleProfile` in proportion to the wheelbase, so that one model serves small and large
cars. The chassis frame is the ego frame (origin under the rear axle on the ground when the car stands), so joint
coordinates are readings. Knows no roads and no pictures.
"""

from __future__ import annotations

import math
from functools import lru_cache

import mujoco
import numpy as np

from bridge.messages import VehicleProfile

STEP_S = 1.0 / 30.0
SUBSTEPS = 10  # of 3.3 ms
GRAVITY_MPS2 = 9.81
WHEELS = ("rear_right", "rear_left", "front_right", "front_left")
UNSEEN_GROUP = 4  # of geoms that the car's own camera leaves out: the car itself, and hulls for contacts

# Proportions, lengths in wheelbases. Mass is that of a 1:10 car at its size.
MASS_KG = 1.8  # at a wheelbase of 0.25 m; grows with the cube
WHEEL_MASS_SHARE = 0.045  # of the car, each
WHEEL_RADIUS = 0.13
TYRE_HALF_WIDTH = 0.04
CENTRE_OF_MASS_HEIGHT = 0.17
YAW_INERTIA = 1.1  # times mass x (wheelbase / 2)^2, as in track

SUSPENSION_HZ = 6.0
SUSPENSION_DAMPING = 0.6  # of critical
SERVO_RAD_PER_S = 150.0  # bandwidth of the position loop that turns the linkage
TYRE_SLIP_DAMPING = 25.0  # 1/s at stiffness 1: how hard a tyre resists slip below its limit; found by `identify`


class Car:
    """Adds the car to a spec before it is compiled; `wheelbase`, `mass` and so on are its dimensions in SI units."""

    def __init__(self, profile: VehicleProfile):
        self.profile = profile
        self.wheelbase = profile.wheelbase_m
        self.mass = MASS_KG * (self.wheelbase / 0.25) ** 3
        self.wheel_mass = WHEEL_MASS_SHARE * self.mass
        self.radius = WHEEL_RADIUS * self.wheelbase
        self.half_track = 0.5 * profile.width_m - TYRE_HALF_WIDTH * self.wheelbase
        self.spin_inertia = 0.6 * self.wheel_mass * self.radius**2
        # A wheel's spin is inertia too: the motor has to turn it.
        self.effective_mass = self.mass + 4 * self.spin_inertia / self.radius**2

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """The car, standing at the world's origin, and its actuators "servo" and "motor"."""
        chassis = spec.worldbody.add_body(name="chassis")
        chassis.add_freejoint(name="chassis")
        self._add_chassis(chassis)
        for name in WHEELS:
            self._add_wheel(spec, chassis, name)
        self._add_linkage(spec, chassis)
        self._add_drive_train(spec)

    def _add_chassis(self, chassis) -> None:
        p, own = self.profile, self.mass - 4 * self.wheel_mass
        wheels_yaw = 4 * self.wheel_mass * ((self.wheelbase / 2) ** 2 + self.half_track**2)
        yaw = max(YAW_INERTIA * self.mass * (self.wheelbase / 2) ** 2 - wheels_yaw, 0.2 * own * self.wheelbase**2 / 12)
        chassis.mass, chassis.explicitinertial = own, True
        chassis.ipos = [self.wheelbase / 2, 0.0, CENTRE_OF_MASS_HEIGHT * self.wheelbase]
        chassis.inertia = [0.35 * yaw, 0.9 * yaw, yaw]
        middle, height = p.length_m / 2 - p.rear_overhang_m, 0.6 * self.wheelbase
        chassis.add_geom(
            name="hull", type=mujoco.mjtGeom.mjGEOM_BOX, pos=[middle, 0, 0.5 * height + 0.5 * self.radius], mass=0,
            size=[p.length_m / 2, p.width_m / 2, 0.5 * height], group=UNSEEN_GROUP, rgba=[0.1, 0.2, 0.6, 1],
            contype=2, conaffinity=1,
        )  # fmt: skip

    def _add_wheel(self, spec, chassis, name: str) -> None:
        """Hub on a spring, knuckle (in front) and tyre in one body with up to three joints."""
        front, side = name.startswith("front"), 1 if name.endswith("left") else -1
        hub = chassis.add_body(name=name, pos=[self.wheelbase * front, side * self.half_track, self.radius])
        sprung = (self.mass - 4 * self.wheel_mass) / 4
        stiffness = sprung * (2 * math.pi * SUSPENSION_HZ) ** 2
        hub.add_joint(
            name=f"{name}_spring", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, 0, 1], stiffness=[stiffness, 0, 0],
            springref=-sprung * GRAVITY_MPS2 / stiffness,
            damping=[2 * SUSPENSION_DAMPING * math.sqrt(stiffness * sprung), 0, 0],
        )  # fmt: skip
        if front:
            hub.add_joint(name=f"{name}_knuckle", axis=[0, 0, 1], armature=0.5 * self.spin_inertia)
        hub.add_joint(
            name=f"{name}_spin", axis=[0, 1, 0], frictionloss=1e-6, solref_friction=[0.007, 1.0],
            solimp_friction=[0.98, 0.99, 0.001, 0.5, 2],
        )  # fmt: skip
        hub.add_geom(
            name=name, type=mujoco.mjtGeom.mjGEOM_ELLIPSOID, group=UNSEEN_GROUP, mass=0, contype=0, conaffinity=0,
            size=[self.radius, TYRE_HALF_WIDTH * self.wheelbase, self.radius], rgba=[0.03, 0.03, 0.03, 1],
        )  # fmt: skip
        hub.mass, hub.ipos, hub.explicitinertial = self.wheel_mass, [0, 0, 0], True
        hub.inertia = [0.5 * self.spin_inertia, self.spin_inertia, 0.5 * self.spin_inertia]
        spec.add_pair(name=name, geomname1="ground", geomname2=name, condim=3)

    def _add_linkage(self, spec, chassis) -> None:
        """The servo's horn, turned by a stiff position loop; each knuckle follows it as Ackermann's geometry asks."""
        horn = chassis.add_body(name="horn", pos=[self.wheelbase, 0, self.radius], mass=0.003 * self.mass)
        horn.explicitinertial, horn.ipos, horn.inertia = True, [0, 0, 0], [self.spin_inertia] * 3
        horn.add_joint(name="horn", axis=[0, 0, 1])
        for side, name in ((1, "front_left"), (-1, "front_right")):
            spec.add_equality(
                type=mujoco.mjtEq.mjEQ_JOINT, name1=f"{name}_knuckle", name2="horn", solref=[0.01, 1.0],
                solimp=[0.95, 0.99, 0.001, 0.5, 2], data=[*self.ackermann(side), 0, 0, 0, 0, 0, 0, 0],
            )  # fmt: skip
        inertia = 3 * self.spin_inertia
        servo = spec.add_actuator(name="servo", target="horn", trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=inertia * SERVO_RAD_PER_S**2, kv=2 * inertia * SERVO_RAD_PER_S)

    def ackermann(self, side: int) -> list[float]:
        """Coefficients c0..c4 of the knuckle's angle as a polynomial of the single-track angle; side 1 is left."""
        horn = np.linspace(-1.1, 1.1, 41) * self.profile.steering_limit_rad
        tangent = np.tan(horn)
        wheel = np.arctan(self.wheelbase * tangent / (self.wheelbase - side * self.half_track * tangent))
        return np.polynomial.polynomial.polyfit(horn, wheel, 4).tolist()

    def _add_drive_train(self, spec) -> None:
        """One motor, the same torque to all four wheels, as through open differentials."""
        shaft = spec.add_tendon(name="shaft")
        for name in WHEELS:
            shaft.wrap_joint(f"{name}_spin", 0.25)
        motor = spec.add_actuator(name="motor", target="shaft", trntype=mujoco.mjtTrn.mjTRN_TENDON)
        motor.set_to_motor()

    def motor_torque(self, accel_mps2: float) -> float:
        """Torque of the motor that gives the car this acceleration, Nm."""
        return accel_mps2 * self.effective_mass * self.radius

    def set_tyres(self, model, friction: float, stiffness: float, balance: float) -> None:
        """Friction of the tyres, and their stiffness below that limit: 1 as built, in front times `balance`."""
        for name in WHEELS:
            pair = model.pair(name).id
            damping = TYRE_SLIP_DAMPING * stiffness * (balance if name.startswith("front") else 1.0)
            model.pair_friction[pair] = [friction, friction, 0.005, 0.0001, 0.0001]
            model.pair_solreffriction[pair] = [-1.0, -damping]

    def set_drag(self, model, drag_per_s: float) -> None:
        """Rolling resistance: deceleration of the coasting car is this times its speed."""
        for name in WHEELS:
            dof = model.joint(f"{name}_spin").dofadr[0]
            model.dof_damping[dof] = drag_per_s * 0.25 * self.mass * self.radius**2


def new_spec() -> mujoco.MjSpec:
    """A world with flat ground, gravity and the solver's settings, and nothing on it."""
    spec = mujoco.MjSpec()
    option = spec.option
    option.timestep, option.integrator = STEP_S / SUBSTEPS, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone, option.solver = mujoco.mjtCone.mjCONE_ELLIPTIC, mujoco.mjtSolver.mjSOL_NEWTON
    option.iterations, option.gravity = 20, [0, 0, -GRAVITY_MPS2]
    # Drawn elsewhere: the renderer takes 2 ms for an infinite plane, whose grid is dense.
    spec.worldbody.add_geom(
        name="ground", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], contype=0, conaffinity=0, group=UNSEEN_GROUP
    )
    return spec


@lru_cache(maxsize=32)
def rest_pose(profile: VehicleProfile) -> np.ndarray:
    """Joint positions (nq,) of the car at rest at the origin, springs and tyres loaded; found by letting it settle."""
    spec, car = new_spec(), Car(profile)
    car.add_to(spec)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=round(2.0 / model.opt.timestep))
    return data.qpos.copy()

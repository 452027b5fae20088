"""CarRacing-v3 as a world: its track generator, its car and its picture; time, road and truth are ours.

The car is CarRacing's own (`gymnasium.envs.box2d.car_dynamics.Car`), driven through its gas, brake and steer. They are
no pedals of a real car: full gas is 9 g and a brake above 0.2 blocks the wheels. So an acceleration is turned into the
gas or brake that gives it, by the engine's and the brake's own formulas there.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from gymnasium.envs.box2d import car_dynamics
from gymnasium.envs.box2d.car_racing import STATE_H, STATE_W, TRACK_WIDTH, CarRacing

from sims.carracing.spec import PROFILE
from sims.followed import FollowedWorld, Pose
from sims.road import Road, road_from_points
from sims.scenarios import Scenario
from sims.world import STEP_S, WorldError

SUBSTEPS = 2
DT_S = STEP_S / SUBSTEPS  # 1/60 s; CarRacing's own 1/50 s does not fit into our step
SOLVER = (6 * 30, 2 * 30)  # iterations for velocities and positions, as in CarRacing
BRAKE_RADPS = 15.0  # a full brake takes so much of a wheel's turning in one substep
REAR_AXLE_M = 82 * car_dynamics.SIZE  # behind the origin of the hull
SEED_KEY = "carracing_seed"


@lru_cache(maxsize=64)
def generated_road(seed: int) -> Road:
    """The track of a seed: the line through its tiles, two lanes on its width."""
    env = CarRacing()
    env.reset(seed=seed)
    points = np.array([(x, y) for _, _, x, y in env.track])
    env.close()
    points = (np.roll(points, 1, 0) + 2.0 * points + np.roll(points, -1, 0)) / 4.0  # corners of the tiles, rounded
    half = np.full(len(points), TRACK_WIDTH)
    return road_from_points(f"carracing-{seed}", *points.T, half, half, 2, step_m=0.25, meta={SEED_KEY: int(seed)})


class CarRacingWorld(FollowedWorld):
    """One car on a track that CarRacing has made. `picture`: with its 96 x 96 view from above in the observation."""

    name = "carracing"
    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, picture: bool = False, render_mode: str | None = None):
        super().__init__(PROFILE, (STATE_H, STATE_W) if picture else None)
        self.render_mode = render_mode
        self._env: CarRacing | None = None

    def road(self, seed: int) -> Road:
        """The track of the seed."""
        return generated_road(seed)

    def render(self) -> np.ndarray:
        """The picture from above (96, 96, 3) uint8."""
        return self._look()

    def close(self) -> None:
        """Let Box2D go."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _begin(self, scenario: Scenario, seed: int, pose: Pose) -> None:
        if SEED_KEY not in scenario.road.meta:
            raise WorldError(f"carracing: cannot show the road {scenario.road.name!r}, only tracks that it has made")
        self.close()
        # A fresh simulator each time: tiles remember who drove on them, and so does the order of bodies in Box2D.
        self._env = env = CarRacing(render_mode="state_pixels")
        env.reset(seed=scenario.road.meta[SEED_KEY])
        env.t = 1.0  # CarRacing zooms in during its first second
        env.car.destroy()
        env.car = _placed(env.world, pose)

    def _move(self, steering: float, acceleration: float) -> Pose:
        car, p = self._env.car, self.profile
        for _ in range(SUBSTEPS):
            car.steer(steering * p.steering_limit_rad)
            car.gas(_gas(car, acceleration * p.max_accel_mps2) if acceleration > 0.0 else 0.0)
            car.brake(_brake(car, -acceleration * p.max_brake_mps2) if acceleration < 0.0 else 0.0)
            car.step(DT_S)
            self._env.world.Step(DT_S, *SOLVER)
        return _pose(car)

    def _look(self) -> np.ndarray:
        if self._env is None:
            raise WorldError("carracing: reset or start it first")
        return np.array(self._env.render())


def _placed(world, pose: Pose):
    """CarRacing's car at a pose, its wheels turning as fast as it drives."""
    forward = math.cos(pose.yaw_rad), math.sin(pose.yaw_rad)
    angle = pose.yaw_rad - math.pi / 2  # a body looks along its own y axis
    x, y = (pose.x_m + REAR_AXLE_M * forward[0], pose.y_m + REAR_AXLE_M * forward[1])
    car = car_dynamics.Car(world, angle, x, y)
    velocity = tuple(pose.speed_mps * v for v in forward)
    car.hull.linearVelocity, car.hull.angularVelocity = velocity, pose.yaw_rate_radps
    for wheel, (wx, wy) in zip(car.wheels, car_dynamics.WHEELPOS, strict=True):
        wheel.position = car.hull.GetWorldPoint((wx * car_dynamics.SIZE, wy * car_dynamics.SIZE))
        wheel.angle = angle + (pose.wheel_rad if wy > 0 else 0.0)
        wheel.linearVelocity, wheel.angularVelocity = velocity, pose.yaw_rate_radps
        wheel.omega = pose.speed_mps / wheel.wheel_rad
        wheel.steer = pose.wheel_rad if wy > 0 else 0.0
    return car


def _pose(car) -> Pose:
    hull = car.hull
    yaw = math.remainder(hull.angle + math.pi / 2, 2 * math.pi)
    rear = hull.GetWorldPoint((0.0, -REAR_AXLE_M))
    velocity = hull.GetLinearVelocityFromWorldPoint(rear)
    speed = velocity[0] * math.cos(yaw) + velocity[1] * math.sin(yaw)
    wheel = sum(w.joint.angle for w in car.wheels[:2]) / 2
    return Pose(float(rear[0]), float(rear[1]), yaw, float(speed), float(hull.angularVelocity), float(wheel))


def _mass(car) -> float:
    """Of the car, and what its turning wheels resist as if they were mass (three times as much)."""
    turning = sum(car_dynamics.WHEEL_MOMENT_OF_INERTIA / w.wheel_rad**2 for w in car.wheels)
    return car.hull.mass + sum(w.mass for w in car.wheels) + turning


def _gas(car, wanted_mps2: float) -> float:
    """Gas whose power, through the two rear wheels, gives this acceleration at the present turning of the wheels."""
    wheel = car.wheels[2]
    torque = _mass(car) * wanted_mps2 / 2 * wheel.wheel_rad
    return min(torque * (abs(wheel.omega) + 5.0) / car_dynamics.ENGINE_POWER, 1.0)


def _brake(car, wanted_mps2: float) -> float:
    """Brake that takes from each of the four wheels in one substep what this deceleration takes."""
    wheel = car.wheels[0]
    torque = _mass(car) * wanted_mps2 / 4 * wheel.wheel_rad
    return min(torque * DT_S / car_dynamics.WHEEL_MOMENT_OF_INERTIA / BRAKE_RADPS, 0.89)

"""World `bicycle`: the simulator. Here it is a dozen lines; yours is called in `_move`."""

import math

from bicycle_spec import SPEC, road

from sims.followed import FollowedWorld, Pose
from sims.world import STEP_S

SERVO_S = 0.05  # time constant of the steering


class BicycleWorld(FollowedWorld):
    """A car whose wheels never slip."""

    name = "bicycle"

    def __init__(self):
        super().__init__(SPEC.profile)
        self._pose = None

    def road(self, seed):
        """The road of an episode of the world's own choice."""
        return road("random", seed)

    def _begin(self, scenario, seed, pose):
        self._pose = pose

    def _move(self, steering, acceleration):
        p, car = self._pose, self.profile
        wheel = p.wheel_rad + (steering * car.steering_limit_rad - p.wheel_rad) * (1.0 - math.exp(-STEP_S / SERVO_S))
        push = acceleration * (car.max_accel_mps2 if acceleration > 0 else car.max_brake_mps2)
        speed = min(max(p.speed_mps + push * STEP_S, 0.0), car.max_speed_mps)
        rate = speed * math.tan(wheel) / car.wheelbase_m
        yaw = p.yaw_rad + rate * STEP_S
        middle = p.yaw_rad + rate * STEP_S / 2
        x, y = p.x_m + speed * STEP_S * math.cos(middle), p.y_m + speed * STEP_S * math.sin(middle)
        self._pose = Pose(x, y, math.remainder(yaw, 2 * math.pi), speed, rate, wheel)
        return self._pose

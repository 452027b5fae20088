"""A world whose own physics moves the car on one of our roads, and that has no traffic: all but the physics.

Position on the road, wheels off it and `Truth` are kept by a `TrackVectorEnv` without camera that is told where the car
is, so that they mean the same as in `track`. Knows no simulator.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np

from bridge.messages import VehicleProfile
from sims.road import Road
from sims.scenarios import Scenario, make_scenario
from sims.track import TrackVectorEnv
from sims.world import World, WorldError


@dataclass(frozen=True)
class Pose:
    """The car after a step: rear axle [m, world frame], speed along the heading, mean angle of the front wheels."""

    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    yaw_rate_radps: float
    wheel_rad: float


class FollowedWorld(World):
    """Subclasses give `name`, `road` and the two of the physics: `_begin` and `_move`; one with pictures also `_look`.
    `image_shape` (height, width) or None."""

    name = ""

    def __init__(self, profile: VehicleProfile, image_shape: tuple[int, int] | None = None):
        self.profile = profile
        box, free = gym.spaces.Box, (-np.inf, np.inf, (), np.float32)
        spaces = {"speed": box(*free), "yaw_rate": box(*free), "steering": box(-1.0, 1.0, (), np.float32)}
        if image_shape is not None:
            spaces["image"] = box(0, 255, (*image_shape, 3), np.uint8)
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = box(-1.0, 1.0, (2,), np.float32)
        self._ledger: TrackVectorEnv | None = None

    @abstractmethod
    def road(self, seed: int) -> Road:
        """The road of an episode of the world's own choice."""

    @abstractmethod
    def _begin(self, scenario: Scenario, seed: int, pose: Pose) -> None:
        """Put the car at a pose on the scenario's road. Raises WorldError for a road that is not this world's."""

    @abstractmethod
    def _move(self, steering: float, acceleration: float) -> Pose:
        """Advance by STEP_S."""

    def _look(self) -> np.ndarray:
        """The picture, as of `image_shape`."""
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """`follow_lane` without end on a road of the seed."""
        super().reset(seed=seed)
        if options:
            raise ValueError(f"reset: unknown option {', '.join(sorted(options))}; {self.name} has none")
        number = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        scenario = make_scenario("follow_lane", self.road(number), number, profile=self.profile)
        return self.start(replace(scenario, actors=()), number)

    def start(self, scenario: Scenario, seed: int) -> tuple[dict, dict]:
        """Begin the scenario; see `World.start`."""
        if scenario.actors:
            raise WorldError(f"{self.name}: {scenario.name} has {len(scenario.actors)} actors, and there is no traffic")
        super().reset(seed=seed)
        if self._ledger is None or self._ledger.roads[0] is not scenario.road:
            self._ledger = TrackVectorEnv(
                1, [scenario.road], profile=self.profile, camera_size=None, randomize=0.0, parallel=False
            )
        self._ledger.place(0, 0, scenario.start_s_m, scenario.start_d_m, 0.0, scenario.start_speed_mps)
        e = self._ledger.state[0]
        begun = (e.x_m, e.y_m, e.yaw_rad, e.speed_mps, e.yaw_rate_radps, e.wheel_rad)
        self._begin(scenario, seed, Pose(*(float(v) for v in begun)))
        return self._observation(), {"truth": self._ledger.truth(0)}

    def step(self, action) -> tuple[dict, float, bool, bool, dict]:
        """Advance by STEP_S. Reward: progress along the road [m], less 1 when a wheel leaves it. Raises ValueError for
        an action that is not two finite numbers; they are clipped to [-1, 1]."""
        action = np.asarray(action, dtype=float)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"action must be two finite numbers, [steering, acceleration], got {action}")
        if self._ledger is None:
            raise WorldError(f"{self.name}: reset or start it first")
        steering, acceleration = (float(v) for v in np.clip(action, -1.0, 1.0))
        state = self._ledger.state[0]
        before, off_before = float(state.progress_m), bool(state.off_road)
        p = self._move(steering, acceleration)
        self._ledger.follow(
            0, p.x_m, p.y_m, p.yaw_rad, p.speed_mps, p.yaw_rate_radps, p.wheel_rad, steering
        )  # fmt: skip
        truth = self._ledger.truth(0)
        reward = truth.progress_m - before - float(truth.off_road and not off_before)
        return self._observation(), reward, False, False, {"truth": truth}

    def _observation(self) -> dict:
        e = self._ledger.state[0]
        values = {"speed": e.speed_mps, "yaw_rate": e.yaw_rate_radps, "steering": e.steering_command}
        seen = {name: np.asarray(value, np.float32) for name, value in values.items()}
        return {**seen, "image": self._look()} if "image" in self.observation_space.spaces else seen

"""The embedded world as an ordinary Gymnasium environment, "Pacenote/Track-v0": the native form with one car."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym

from sims.road import Road
from sims.track.env import TrackVectorEnv


class TrackEnv(gym.Env):
    """One car on a road. Arguments, observation, action and reward as of `TrackVectorEnv`; `info["truth"]` is the
    `Truth` for expert, teacher and judge. `roads` defaults to one random road. `world` is the
    `TrackVectorEnv` inside."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, roads: Sequence[Road] | None = None, render_mode: str | None = None, **settings):
        if roads is None:
            from sims.random_road import random_road

            roads = [random_road(0)]
        self.render_mode = render_mode
        self.world = TrackVectorEnv(1, roads, **settings)
        self.observation_space = self.world.single_observation_space
        self.action_space = self.world.single_action_space

    def reset(self, *, seed=None, options=None):
        """Start anew; see `TrackVectorEnv.reset`."""
        super().reset(seed=seed)
        observation, _ = self.world.reset(seed=seed, options=options)
        return self._first(observation), {"truth": self.world.truth(0)}

    def step(self, action):
        """Advance by 1/30 s; action [steering, acceleration]."""
        observation, reward, terminated, truncated, _ = self.world.step([action])
        info = {"truth": self.world.truth(0)}
        return self._first(observation), float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self):
        """The camera picture (h, w, 3) uint8."""
        return self.world.render()[0]

    @staticmethod
    def _first(observation):
        return {name: value[0] for name, value in observation.items()}

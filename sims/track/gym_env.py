"""The embedded world with one car, "Pacenote/Track-v0": a `sims.world.World` around the native form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sims.road import Road
from sims.scenarios import Scenario
from sims.track.env import MAX_ACTORS, TrackVectorEnv
from sims.world import World, WorldError


class TrackEnv(World):
    """One car on a road. Arguments, observation, action and reward as of `TrackVectorEnv`; `info["truth"]` is the
    `Truth` for expert, teacher and judge. `roads` defaults to one random road. `world` is the
    `TrackVectorEnv` inside; `start` on another road makes a new one."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, roads: Sequence[Road] | None = None, render_mode: str | None = None, **settings):
        if roads is None:
            from sims.random_road import random_road

            roads = [random_road(0)]
        self.render_mode = render_mode
        self._settings = settings
        self.world = TrackVectorEnv(1, roads, **settings)
        self.profile = self.world.profile
        self.observation_space = self.world.single_observation_space
        self.action_space = self.world.single_action_space

    def start(self, scenario: Scenario, seed: int):
        """Begin the scenario; see `World.start`."""
        if len(scenario.actors) > MAX_ACTORS:
            raise WorldError(f"track: at most {MAX_ACTORS} actors, {scenario.name} has {len(scenario.actors)}")
        super().reset(seed=seed)
        if len(self.world.roads) != 1 or self.world.roads[0] is not scenario.road:
            self.world.close()
            self.world = TrackVectorEnv(1, [scenario.road], **{**self._settings, "seed": seed})
        self.world.reset(seed=seed)
        self.world.place(0, 0, scenario.start_s_m, scenario.start_d_m, 0.0, scenario.start_speed_mps)
        self.world.set_actors(0, scenario.actors)
        return self._first(self.world.observe()), {"truth": self.world.truth(0)}

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

    def advance(self, action):
        """`step` without a picture."""
        size, self.world.camera_size = self.world.camera_size, None
        try:
            return self.step(action)
        finally:
            self.world.camera_size = size

    def render(self):
        """The camera picture (h, w, 3) uint8."""
        return self.world.render()[0]

    def camera(self) -> dict[str, float]:
        """Pose and lens of this episode's camera: x, y, z [m], pitch, roll, yaw, hfov [rad], fisheye (0 or 1)."""
        camera = self.world.cameras[0]
        return {name: float(camera[name]) for name in ("x", "y", "z", "pitch", "roll", "yaw", "hfov", "fisheye")}

    def close(self):
        """Let the threads go."""
        self.world.close()

    @staticmethod
    def _first(observation):
        return {name: np.asarray(value[0]) for name, value in observation.items()}

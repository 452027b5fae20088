"""World `track` for the registry, and its native batch. Imports the world itself only when one is made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bridge.messages import VehicleProfile
from sims.random_road import UNSEEN_ROADS, random_road
from sims.road import Road, road_from_csv
from sims.scenarios import Scenario
from sims.truth import Truth
from sims.world import WorldSpec


def road(track: str, seed: int) -> Road:
    """ "random": the road of that seed, never trained on; else a racetrack file. Raises RoadError."""
    return random_road(UNSEEN_ROADS + seed) if track == "random" else road_from_csv(track)


def make(*, camera_size: tuple[int, int] | None = (160, 120), randomize: float = 0.5, seed: int = 0):
    """A `TrackEnv` on a random road, until `start` brings another."""
    from sims.track.gym_env import TrackEnv

    return TrackEnv([road("random", seed)], camera_size=camera_size, randomize=randomize, seed=seed)


class TrackBatch:
    """`sims.world.WorldBatch` on the native form: all cars move and are drawn together. `env` is it."""

    def __init__(self, *, camera_size: tuple[int, int] | None, randomize: float, profile: VehicleProfile | None = None):
        self._settings = {"camera_size": camera_size, "randomize": randomize, "profile": profile}
        self.env = None

    def start(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> dict[str, np.ndarray]:
        """Begin one episode for each scenario."""
        from sims.track.env import TrackVectorEnv

        self.close()
        seeds = list(seeds)
        env = TrackVectorEnv(len(scenarios), [s.road for s in scenarios], seed=seeds, **self._settings)
        self.env = env
        env.reset(seed=seeds)
        for i, scenario in enumerate(scenarios):
            env.place(i, i, scenario.start_s_m, scenario.start_d_m, 0.0, scenario.start_speed_mps)
            env.set_actors(i, scenario.actors)
        return env.observe()

    def step(self, actions: np.ndarray, running: Sequence[int]) -> dict[str, np.ndarray]:
        """Advance all by 1/30 s; those that are not `running` brake."""
        given = np.tile(np.array([0.0, -1.0], np.float32), (self.env.num_envs, 1))
        which = list(running)
        given[which] = np.asarray(actions, np.float32)[which]
        return self.env.step(given)[0]

    def truth(self, i: int) -> Truth:
        """What is true of episode i now."""
        return self.env.truth(i)

    def render(self, which: Sequence[int]) -> np.ndarray:
        """The camera pictures (m, h, w, 3) of the episodes `which`."""
        return self.env.render(list(which))

    def close(self) -> None:
        """Let the threads go."""
        if self.env is not None:
            self.env.close()
            self.env = None


SPEC = WorldSpec(
    name="track",
    about="the embedded default: random roads and racetrack files, batched, with camera and traffic",
    needs="nothing more",
    missing=lambda: None,
    make=make,
    road=road,
    tracks=lambda: (),
    profile=VehicleProfile(),
    batch=TrackBatch,
    modules=("numba", "sims.track.env"),
)

"""The contract of a world: a Gymnasium environment with one car, that can be set to any scenario and tells the truth.

Observation: dict of `speed` (), `yaw_rate` () and `steering` () float32 and, where the world has a camera, `image`
(h, w, 3) uint8 RGB. Action: [steering, acceleration] in [-1, 1]. `info["truth"]` is the `Truth` after `reset` and every
`step`. Knows no simulator; `sims/worlds.py` lists them, `docs/add-a-world.md` shows how to add one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from bridge.messages import VehicleProfile
from sims.road import Road
from sims.scenarios import Scenario
from sims.truth import Truth

STEP_S = 1.0 / 30.0  # every world advances by so much in one `step`


class WorldError(RuntimeError):
    """A world that cannot be made or has broken down; the message says what happened and what to do."""


class World(gym.Env):
    """One car in a simulator. `profile` describes that car; lengths, speeds and truth are in its real size."""

    profile: VehicleProfile

    @abstractmethod
    def start(self, scenario: Scenario, seed: int) -> tuple[dict, dict]:
        """Begin an episode: the car at the scenario's start and speed, its actors on the road, looks and physics from
        `seed`. Returns (observation, info) as `reset` does. Raises WorldError when this world cannot show it."""

    @abstractmethod
    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """An episode of the world's own choice, from the seed."""


@dataclass(frozen=True)
class WorldSpec:
    """A world as the registry knows it, without importing its simulator.

    `missing()`: None where everything is here, else what lacks and the command that mends it. `make(camera_size=,
    randomize=, seed=)`: a World; `camera_size` (width, height) or None for no pictures. `road(track, seed)`: the road
    of a `--track` word: "random", one of `tracks()`, or a racetrack file where the world takes those; raises RoadError.
    `profile`: the car's. A world without `camera`, `traffic` or `roads` cannot show scenarios that need them: they are
    skipped with that reason."""

    name: str
    about: str
    needs: str
    missing: Callable[[], str | None]
    make: Callable[..., World]
    road: Callable[[str, int], Road]
    tracks: Callable[[], Sequence[str]]
    profile: VehicleProfile
    camera: bool = True
    traffic: bool = True
    roads: bool = True
    batch: Callable[..., Any] | None = None  # a native `WorldBatch`, where the world has one


class WorldBatch:
    """Several episodes side by side, one world each; worlds are made once and used again. A simulator with a vector
    form of its own (see `sims/track`) has these same four methods. Observations are stacked, (n, ...)."""

    def __init__(self, spec: WorldSpec, *, camera_size: tuple[int, int] | None, randomize: float):
        self._make = lambda seed: spec.make(camera_size=camera_size, randomize=randomize, seed=seed)
        self.worlds: list[World] = []
        self._last: list[dict] = []
        self._truths: list[Truth] = []

    def start(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> dict[str, np.ndarray]:
        """Begin one episode for each scenario."""
        while len(self.worlds) < len(scenarios):
            self.worlds.append(self._make(int(seeds[len(self.worlds)])))
        begun = [w.start(s, int(n)) for w, s, n in zip(self.worlds, scenarios, seeds, strict=False)]
        self._last = [observation for observation, _ in begun]
        self._truths = [info["truth"] for _, info in begun]
        return _stack(self._last)

    def step(self, actions: np.ndarray, running: Sequence[int]) -> dict[str, np.ndarray]:
        """Advance the episodes `running` by STEP_S; the others stay as they are. `actions` (n, 2)."""
        for i in running:
            self._last[i], _, _, _, info = self.worlds[i].step(np.asarray(actions[i], np.float32))
            self._truths[i] = info["truth"]
        return _stack(self._last)

    def truth(self, i: int) -> Truth:
        """What is true of episode i now."""
        return self._truths[i]

    def close(self) -> None:
        """Let all simulators go."""
        for world in self.worlds:
            world.close()


def _stack(observations: list[dict]) -> dict[str, np.ndarray]:
    return {name: np.stack([o[name] for o in observations]) for name in observations[0]}

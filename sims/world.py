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
NEED_TRAFFIC = ("overtake_", "follow_vehicle", "avoid_obstacle")


class WorldError(RuntimeError):
    """A world that cannot be made or has broken down; the message says what happened and what to do."""


class World(gym.Env):
    """One car in a simulator. `profile` describes that car; lengths, speeds and truth are in its real size. A world
    whose camera moves with randomisation tells its pose by a method `camera()` (see `training/video.py`)."""

    profile: VehicleProfile

    @abstractmethod
    def start(self, scenario: Scenario, seed: int) -> tuple[dict, dict]:
        """Begin an episode: the car at the scenario's start and speed, its actors on the road, looks and physics from
        `seed`. Returns (observation, info) as `reset` does. Raises WorldError when this world cannot show it."""

    @abstractmethod
    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """An episode of the world's own choice, from the seed. Implementations call this one first: it seeds the
        environment's own generator, as Gymnasium wants it."""
        super().reset(seed=seed)

    def advance(self, action) -> tuple[dict, float, bool, bool, dict]:
        """`step` at a moment that nobody looks at: the observation may lack its picture, which is what takes the time.
        A world that asks its `camera_size` in `step` whether to draw has this from here; others may override it."""
        size = getattr(self, "camera_size", None)
        if size is None:
            return self.step(action)
        self.camera_size = None
        try:
            return self.step(action)
        finally:
            self.camera_size = size


@dataclass(frozen=True)
class WorldSpec:
    """A world as the registry knows it, without importing its simulator.

    `missing()`: None where everything is here, else what lacks and the command that mends it. `make(camera_size=,
    randomize=, seed=)`: a World; `camera_size` (width, height) or None for no pictures. `road(track, seed)`: the road
    of a `--track` word: "random", one of `tracks()`, or a racetrack file where the world takes those; raises RoadError.
    `profile`: the car's. A world without `camera`, `traffic` or `roads` cannot show scenarios that need them: they are
    skipped with that reason (see `objection`). `deterministic`: the same seed and actions give the same episode to the
    bit. `side_by_side`: how many worlds an evaluation may hold at once. `modules`: packages of the simulator, which the
    import of the spec must not load."""

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
    deterministic: bool = True
    side_by_side: int = 16
    modules: tuple[str, ...] = ()

    def objection(self, scenario: str, *, eyes: bool = False) -> str | None:
        """Why this world cannot show the scenario of that name, None where it can. `eyes`: planner or controller looks
        at the camera."""
        if not self.roads:
            return f"world {self.name!r} has no road to lay it on"
        if not self.traffic and scenario.startswith(NEED_TRAFFIC):
            return f"it needs other cars or obstacles, and world {self.name!r} has none"
        if eyes and not self.camera:
            return f"planner or controller needs a forward camera, and world {self.name!r} has none"
        return None


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

    def render(self, which: Sequence[int]) -> np.ndarray:
        """The camera pictures (m, h, w, 3) of the episodes `which`, as of the last step."""
        return np.stack([self._last[i]["image"] for i in which])

    def close(self) -> None:
        """Let all simulators go."""
        for world in self.worlds:
            world.close()


def _stack(observations: list[dict]) -> dict[str, np.ndarray]:
    return {name: np.stack([o[name] for o in observations]) for name in observations[0]}

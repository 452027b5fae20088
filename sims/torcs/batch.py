"""Several games side by side, each a process of its own, that compute their steps at the same time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bridge.messages import VehicleProfile
from sims.torcs.spec import PROFILE, SPEC
from sims.torcs.world import TorcsWorld
from sims.world import WorldBatch, WorldError


class TorcsBatch(WorldBatch):
    """`sims.world.WorldBatch` with all games at work between a step's requests and its answers. `profile`: the game's
    car with another camera."""

    def __init__(self, *, camera_size: tuple[int, int] | None, randomize: float, profile: VehicleProfile | None = None):
        super().__init__(SPEC, camera_size=camera_size, randomize=randomize)
        settings = {"camera_size": camera_size, "randomize": randomize, "profile": profile or PROFILE}
        self._make = lambda seed: TorcsWorld(seed=seed, **settings)

    def step(self, actions: np.ndarray, running: Sequence[int]) -> dict[str, np.ndarray]:
        """Advance the episodes `running`; the others stay as they are. `actions` (n, 2)."""
        asked, failure = [], None
        for i in running:
            try:
                self.worlds[i].send_step(actions[i])
                asked.append(i)
            except WorldError as error:
                failure = failure or error
        for i in asked:  # every answer that is due, even when one world has broken down
            try:
                self._last[i], _, _, _, info = self.worlds[i].receive_step()
                self._truths[i] = info["truth"]
            except WorldError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return {name: np.stack([o[name] for o in self._last]) for name in self._last[0]}

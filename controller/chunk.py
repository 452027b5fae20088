"""Plays action chunks against time: asks the policy every k ticks, interpolates between its steps, may blend chunks.

Knows no safety; whatever comes out goes through the supervisor.
"""

from __future__ import annotations

import numpy as np

from controller.observation import Observation
from controller.policy import ActionChunk, Policy


class ChunkPlayer:
    """`blend` > 0 mixes what the previous chunk had foreseen for this instant into the new one, with that weight
    (temporal ensembling as in ACT, Zhao et al. 2023, with a memory of one chunk)."""

    def __init__(self, policy: Policy, requery_ticks: int = 1, blend: float = 0.0):
        self.policy, self._every, self._blend = policy, requery_ticks, blend
        self.reset()

    def reset(self) -> None:
        """Forget all chunks and the policy's own memory."""
        self.chunk: ActionChunk | None = None
        self._start_ns = 0
        self._ticks = 0
        self.policy.reset()

    def step(self, now_ns: int, observation: Observation) -> np.ndarray:
        """The action [steering, acceleration] for now, not clipped. Raises whatever the policy raises."""
        if self.chunk is None or self._ticks % self._every == 0 or self._played_out(now_ns):
            foreseen = self._at(now_ns)
            self.chunk, self._start_ns = self.policy.act(observation), now_ns
            if foreseen is not None and self._blend > 0.0 and len(self.chunk.actions) > 1:
                mixed = self.chunk.actions.copy()
                mixed[0] = self._blend * foreseen + (1.0 - self._blend) * mixed[0]
                self.chunk = ActionChunk(mixed, self.chunk.rate_hz)
        self._ticks += 1
        action = self._at(now_ns)
        assert action is not None
        return action

    def _played_out(self, now_ns: int) -> bool:
        assert self.chunk is not None
        return (now_ns - self._start_ns) * 1e-9 * self.chunk.rate_hz > len(self.chunk.actions) - 1

    def _at(self, now_ns: int) -> np.ndarray | None:
        if self.chunk is None:
            return None
        actions = self.chunk.actions
        at = max(0.0, (now_ns - self._start_ns) * 1e-9 * self.chunk.rate_hz)
        i = min(int(at), len(actions) - 1)
        j = min(i + 1, len(actions) - 1)
        part = min(at - i, 1.0)
        if part < 1e-6:
            return actions[i]
        return (1.0 - part) * actions[i] + part * actions[j]

"""What a policy is: an observation in, a chunk of actions out. Knows no implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from controller.observation import Observation


@dataclass(frozen=True)
class ActionChunk:
    """`actions` (n, 2): [steering, acceleration] in [-1, 1], the first one for now, then at `rate_hz`."""

    actions: np.ndarray
    rate_hz: float


class Policy(Protocol):
    """A source of actions. `learned` policies see the road themselves and are watched by the supervisor."""

    name: str
    learned: bool
    needs_image: bool

    def act(self, observation: Observation) -> ActionChunk:
        """The next actions. May raise; the supervisor then falls back to pursuit."""
        ...

    def reset(self) -> None:
        """Forget everything of the drive so far."""
        ...

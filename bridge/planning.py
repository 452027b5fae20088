"""What a planner backend is asked and what it answers: shared by the models in `planner/` and the expert in `sims/`.

These types never travel over the link; the link's messages stand in `messages.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from bridge.messages import Doing, EgoState, Intent, VehicleProfile, Verdict, Waypoint

SPEED_INSTRUCTIONS = ("faster", "slower", "target_speed")
INSTRUCTIONS = (*SPEED_INSTRUCTIONS, *(str(i) for i in Intent))


@dataclass(frozen=True)
class Instruction:
    """The meaning of a command: one of INSTRUCTIONS, and for `target_speed` the speed in m/s."""

    kind: str
    speed_mps: float | None = None

    def __post_init__(self):
        if self.kind not in INSTRUCTIONS:
            raise ValueError(f"unknown instruction {self.kind!r}; one of {', '.join(INSTRUCTIONS)}")
        if (self.speed_mps is not None) != (self.kind == "target_speed"):
            raise ValueError(f"{self.kind}: speed_mps belongs to target_speed, and only to it")

    @property
    def intent(self) -> Intent:
        """The intent that carries it out (speed instructions are carried out while following the lane)."""
        return Intent.FOLLOW_LANE if self.kind in SPEED_INSTRUCTIONS else Intent(self.kind)


@dataclass(frozen=True)
class CommandInForce:
    """A command as the backend sees it. `start_lane` is the lane (0 = rightmost) that the car was in when the command
    came, None until a first answer has said so."""

    id: str
    text: str
    age_s: float
    start_lane: int | None = None


@dataclass(frozen=True)
class PlanRequest:
    """Everything a backend may use for one plan. `images`: 1 or 2 RGB uint8 (h, w, 3), oldest first, the last one taken
    at capture. `cruise_mps` is the speed that the car keeps when nothing else is asked. `truth` only for the expert."""

    images: tuple[np.ndarray, ...]
    ego: EgoState
    doing: Doing
    profile: VehicleProfile
    cruise_mps: float
    command: CommandInForce | None = None
    truth: dict | None = None
    image_interval_s: float = 0.1


@dataclass(frozen=True)
class PlanAnswer:
    """A backend's answer. `lane`: the lane that it believes the car is in; `raw` and `prompt` are kept for the log."""

    intent: Intent
    waypoints: tuple[Waypoint, ...]
    reasoning: str
    verdict: Verdict | None = None
    verdict_reason: str = ""
    lane: int | None = None
    prompt: str = ""
    raw: str = ""
    model_s: float = 0.0
    extra: dict = field(default_factory=dict)


class PlannerBackend(Protocol):
    """A source of plans. Raises PlanError for a request that it cannot answer; the server logs it and goes on."""

    name: str
    rate_hz: float
    wants_truth: bool

    def plan(self, requests: Sequence[PlanRequest]) -> list[PlanAnswer | PlanError]:
        """Answer a batch, in order. A failed request yields a PlanError in its place."""
        ...


class PlanError(RuntimeError):
    """No plan could be made; the message says why."""

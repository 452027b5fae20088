"""What is written down of an episode while it is driven: a batch of one world that remembers the last step, and the
recorder that puts picture, state, action, task and truth of every step into an episode of a dataset.

Knows worlds, evaluation's episodes and datasets; nothing of who drives, and not of the wall clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sims.truth import Truth
from sims.world import STEP_S, WorldBatch, WorldSpec
from training.datasets import layout
from training.datasets.layout import ACTION, NO_COMMAND, STATE
from training.datasets.write import EpisodeWriter
from training.evaluate import Episode

FPS = round(1.0 / STEP_S)


@dataclass(frozen=True)
class Step:
    """One step: what was seen and true before it, and the action [steering, acceleration] (2,) float32."""

    seen: dict[str, np.ndarray]
    truth: Truth
    action: np.ndarray


class RecordingBatch(WorldBatch):
    """One world that remembers its last step. `last` is None before the first."""

    def __init__(self, spec: WorldSpec, *, randomize: float):
        size = (spec.profile.camera.width_px, spec.profile.camera.height_px) if spec.camera else None
        super().__init__(spec, camera_size=size, randomize=randomize)
        self.last: Step | None = None

    def start(self, scenarios: Sequence, seeds: Sequence[int]) -> dict[str, np.ndarray]:
        """Begin an episode; exactly one at a time."""
        self.last = None
        if len(scenarios) != 1:
            raise ValueError(f"a recording batch drives one episode at a time, not {len(scenarios)}")
        return super().start(scenarios, seeds)

    def step(self, actions: np.ndarray, running: Sequence[int]) -> dict[str, np.ndarray]:
        """Advance by STEP_S."""
        action = np.clip(np.asarray(actions[0], np.float32), -1.0, 1.0)
        # A world may draw the next picture over this one, so what was seen is copied.
        seen = {name: np.array(value) for name, value in self._last[0].items()}
        self.last = Step(seen, self.truth(0), action)
        return super().step(actions, running)


def dataset_features(spec: WorldSpec) -> dict[str, dict]:
    """Features of a recording in this world."""
    size = (spec.profile.camera.height_px, spec.profile.camera.width_px) if spec.camera else None
    return layout.features(FPS, size, layout.TRUTH_COLUMNS)


class Recorder:
    """Writes an episode of `evaluate` into one of a dataset. Give `watch` to the evaluation."""

    def __init__(self, episode: EpisodeWriter):
        self.episode = episode

    def watch(self, tick: int, driven: Episode, batch: RecordingBatch, slot: int) -> None:
        """After every step: one frame."""
        step = batch.last
        row = {
            STATE: [float(step.seen[name]) for name in ("speed", "yaw_rate", "steering")],
            ACTION: step.action,
            **truth_columns(step.truth, batch.truth(slot)),
            "scenario": driven.scenario.name,
            "seed": driven.seed,
            "intent": str(driven.controller.doing(0).intent),
            "verdict": driven.last_verdict[0] if driven.last_verdict else "",
        }
        self.episode.add(row, task_text(driven, (tick - 1) * STEP_S), step.seen.get("image"))


def truth_columns(truth: Truth, after: Truth) -> dict:
    """Where the car was when the picture was taken; `collision` and `off_road`: whether it had happened by the end of
    the step, so that the last frame tells."""
    return {
        "truth.s_m": truth.s_m,
        "truth.d_m": truth.d_m,
        "truth.lane": truth.lane,
        "truth.heading_error_rad": truth.heading_error_rad,
        "truth.x_m": truth.x_m,
        "truth.y_m": truth.y_m,
        "truth.yaw_rad": truth.yaw_rad,
        "truth.collision": after.collision,
        "truth.off_road": after.off_road,
    }


def task_text(driven: Episode, t_s: float) -> str:
    """The command in force at `t_s` in the operator's words; NO_COMMAND before it is said and after it is done."""
    said = [c.text for c in driven.scenario.commands if c.t_s <= t_s + 1e-9]
    return said[-1] if said and driven.session.command_id is not None else NO_COMMAND

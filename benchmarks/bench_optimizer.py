"""Muon beside AdamW on planner-nano's first stage: the loss of seeing on unseen roads after equal time of learning.

    python -m benchmarks.bench_optimizer [--minutes 4] [--json FILE]

Both begin with the same random weights and see the same pictures in the same order; a step of the one follows a step
of the other, so that other load on the machine hurts both alike. The time of drawing pictures is not counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from planner.frames import HEIGHT_PX, PATCHES, WIDTH_PX
from training.planner.fastpath import VisionPath
from training.planner.feed import FeedSpec, Lesson, make_lessons
from training.planner.optimizer import Optimizer, Part
from training.planner.settings import load_settings
from training.planner.train import EVALUATION_SEED, PlannerTrainer

EVALUATION_PICTURES = 512


@dataclass
class _Learner:
    trainer: PlannerTrainer
    optimizer: Optimizer
    seconds: float = 0.0
    steps: int = 0

    def learn(self, lesson: Lesson, budget_s: float) -> None:
        begin = time.perf_counter()
        loss, _ = self.trainer._see_step(lesson)
        self.optimizer.step(loss, self.seconds / budget_s)
        self.seconds += time.perf_counter() - begin
        self.steps += 1

    @torch.no_grad()
    def loss(self, lesson: Lesson) -> float:
        visual = VisionPath(self.trainer.model.model.visual, HEIGHT_PX, WIDTH_PX, torch.float32)
        tokens = visual(lesson.pictures.patches(PATCHES))[0]
        return float(self.trainer._seeing(tokens, lesson.pictures)[0])


def _learner(folder: Path, muon: bool) -> _Learner:
    settings = load_settings(None, work=folder, log_dir=folder)
    trainer = PlannerTrainer(settings)
    visual, heads = trainer.model.model.visual, trainer.learner.heads
    parts = [Part((visual, heads), settings.see_lr)]
    return _Learner(trainer, Optimizer(parts, (visual,) if muon else (), settings.weight_decay))


def _lessons(seed: int, pictures: int, evaluation: bool):
    spec = FeedSpec(seed, pictures, 1, tokenizer=None, text_tokens=0, driven_share=0.33, evaluation=evaluation)
    return make_lessons(spec)


def compare(minutes: float) -> dict:
    """{"adamw": {...}, "muon": {...}}: loss, steps and seconds of each after `minutes` of its own learning."""
    with tempfile.TemporaryDirectory() as folder:
        learners = {name: _learner(Path(folder) / name, name == "muon") for name in ("adamw", "muon")}
        feed = _lessons(1, 64, False)
        while any(x.seconds < 60 * minutes for x in learners.values()):
            lesson = next(feed)
            for learner in learners.values():
                if learner.seconds < 60 * minutes:
                    learner.learn(lesson, 60 * minutes)
        unseen = next(_lessons(EVALUATION_SEED, EVALUATION_PICTURES, True))
        return {name: {"loss": x.loss(unseen), "steps": x.steps, "seconds": x.seconds} for name, x in learners.items()}


def rows(result: dict, minutes: float) -> list[dict]:
    """The result as `pacenote bench` wants it."""
    ours, peer = result["muon"]["loss"], result["adamw"]["loss"]
    name = f"loss of seeing after {minutes:g} minutes, Muon beside AdamW"
    return [{"name": name, "ours": ours, "peer": peer, "unit": "loss", "ratio": ours / peer}]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result = compare(given.minutes)
    print(f"{'':8}{'loss':>8}{'steps':>8}{'seconds':>9}")
    for name, row in result.items():
        print(f"{name:8}{row['loss']:8.3f}{row['steps']:8d}{row['seconds']:9.0f}")
    if given.json:
        given.json.write_text(json.dumps(rows(result, given.minutes), indent=2) + "\n")


if __name__ == "__main__":
    main()

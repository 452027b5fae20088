"""Batches made beside the training: a second process draws scenes, dreams and tensors while torch works.

Knows how batches are put together; knows no model.
"""

from __future__ import annotations

import multiprocessing
import queue
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bridge.messages import VehicleProfile
from planner.frames import pixel_values
from training.planner.dreams import Dream, dream_of, sample_dreams
from training.planner.driving import DrivenSource
from training.planner.scenes import Scene, SceneSource
from training.planner.seeing import cell_targets, seeing_targets
from training.planner.tokens import Batch, PairEncoder


@dataclass(frozen=True)
class Pictures:
    """`frames` (n, 2, h, w, 3) uint8 and what is to be seen in them (see `seeing.py`)."""

    frames: Tensor
    dense: Tensor
    cells: Tensor
    values: Tensor
    mask: Tensor
    choices: Tensor

    def patches(self, patches_per_picture: int) -> Tensor:
        """(n, patches, pixels) float32."""
        return pixel_values(self.frames, marks=True).view(len(self.frames), patches_per_picture, -1)


def pictures_of(scenes: list[Scene], profile: VehicleProfile) -> Pictures:
    """Stack scenes to tensors."""
    values, mask, choices = zip(*(seeing_targets(s.truth, profile) for s in scenes), strict=True)
    stack = lambda parts: torch.from_numpy(np.stack(parts))  # noqa: E731
    return Pictures(
        stack([s.frames for s in scenes]),
        stack([s.dense for s in scenes]),
        stack([cell_targets(s.truth, profile, s.dense) for s in scenes]),
        stack(values),
        stack(mask),
        stack(choices).long(),
    )


def dreams_for(rng: np.random.Generator, scene: Scene, profile: VehicleProfile, count: int) -> list[Dream]:
    """`count` dreams of a scene; the first is what was really going on in it, where that is known."""
    if scene.task is None:
        return sample_dreams(rng, scene.truth, profile, count)
    task = scene.task
    real = dream_of(
        rng,
        scene.truth,
        profile,
        task.instruction,
        cruise_mps=task.cruise_mps,
        age_s=task.age_s,
        start_lane=task.start_lane,
        doing=task.doing,
    )
    return [real, *sample_dreams(rng, scene.truth, profile, count - 1)]


@dataclass(frozen=True)
class Lesson:
    """One step's work: pictures, and the pairs about them (absent while only seeing is learned)."""

    pictures: Pictures
    pairs: Batch | None
    dreams: tuple[Dream, ...] = ()


def lessons(
    scenes: Callable[[], list[Scene]],
    profile: VehicleProfile,
    encoder: PairEncoder | None,
    per_scene: int,
    extra: int,
    seed: int,
    dream_texts: bool = False,
) -> Iterator[Lesson]:
    """Endless lessons from a source of scenes; without an encoder pictures only. The last `extra` scenes of each are
    only looked at."""
    rng = np.random.default_rng(seed)
    while True:
        batch = scenes()
        if encoder is None and not dream_texts:
            yield Lesson(pictures_of(batch, profile), None)
            continue
        dreams, owner = [], []
        for k, scene in enumerate(batch[: len(batch) - extra]):
            for dream in dreams_for(rng, scene, profile, per_scene):
                dreams.append(dream)
                owner.append(k)
        if encoder is None:
            yield Lesson(pictures_of(batch, profile), None, tuple(dreams))
            continue
        # What is too long for the fixed shape (a very wordy command) is dreamt again.
        for k in range(len(dreams)):
            while not encoder.fits(dreams[k].prompt, dreams[k].text):
                dreams[k] = sample_dreams(rng, batch[owner[k]].truth, profile, 1)[0]
        pairs = encoder.collate([(d.prompt, d.text) for d in dreams], owner)
        yield Lesson(pictures_of(batch, profile), pairs, tuple(dreams))


@dataclass(frozen=True)
class FeedSpec:
    """What a feed's process needs to know."""

    seed: int
    scenes: int
    per_scene: int
    tokenizer: str | None  # folder; None: pictures only
    text_tokens: int
    driven_share: float
    extra: int = 0  # more scenes, only to be looked at
    plan_weight: float = 1.0
    path_weight: float = 1.0
    evaluation: bool = False
    dream_texts: bool = False  # dreams without token tensors, for another model's tokenizer


def make_lessons(spec: FeedSpec) -> Iterator[Lesson]:
    """The lessons that `spec` describes."""
    profile = VehicleProfile()
    encoder = None
    if spec.tokenizer is not None:
        encoder = PairEncoder(load_tokenizer(spec.tokenizer), spec.text_tokens, spec.path_weight, spec.plan_weight)
    whole = spec.scenes + spec.extra
    driven = round(whole * spec.driven_share)
    placed = SceneSource(spec.seed, whole - driven, profile, evaluation=spec.evaluation) if driven < whole else None
    drive = DrivenSource(spec.seed + 2, profile, evaluation=spec.evaluation) if driven else None
    mixer = np.random.default_rng(spec.seed + 3)

    def scenes() -> list[Scene]:
        drawn = [*(drive.take(driven) if drive else ()), *(placed.scenes() if placed else ())]
        return [drawn[k] for k in mixer.permutation(whole)]

    return lessons(scenes, profile, encoder, spec.per_scene, spec.extra, spec.seed + 1, spec.dream_texts)


def load_tokenizer(folder: str):
    """The tokenizer of a model folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


class Feed:
    """Makes lessons in a process of its own, beside the training; its errors are raised where they are missed."""

    def __init__(self, spec: FeedSpec, depth: int = 4):
        context = multiprocessing.get_context("spawn")
        self._queue = context.Queue(depth)
        self._process = context.Process(target=_serve, args=(spec, self._queue), daemon=True, name="feed")
        self._process.start()

    def next(self) -> Lesson:
        """The next lesson. Raises RuntimeError when making it failed."""
        while True:
            try:
                item = self._queue.get(timeout=10)
            except queue.Empty:
                if not self._process.is_alive():
                    raise RuntimeError("the process that makes training data has died") from None
                continue
            if isinstance(item, str):
                raise RuntimeError(f"making training data failed: {item}")
            return item

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join(timeout=10)


def _serve(spec: FeedSpec, out) -> None:
    torch.set_num_threads(1)
    try:
        for lesson in make_lessons(spec):
            while not _put(out, lesson):
                if not multiprocessing.parent_process().is_alive():
                    return  # killed without a word: nobody is left to close this feed
    except Exception as error:  # the consumer cannot see this process
        traceback.print_exc()
        out.put(f"{type(error).__name__}: {error}")
        # Lessons still under way are fetched from this process, so it must outlive them.
        multiprocessing.parent_process().join()


def _put(out, lesson: Lesson) -> bool:
    try:
        out.put(lesson, timeout=5)
    except queue.Full:
        return False
    return True

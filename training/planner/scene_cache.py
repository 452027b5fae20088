"""Scenes of another world kept on disk, since a real simulator draws slowly: shards in safetensors, made one by one.

A shard holds the scenes of a few episodes: `frames` (pictures, h, w, 3) uint8, `pairs` (scenes, 2) which of them make
each scene, and truth and task as JSON in the metadata. A folder that is interrupted goes on where it ended; its
`made.json` says what it was made of, and a run that asks for something else is refused. Knows scenes and files.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bridge.messages import Doing
from bridge.planning import Instruction
from sims.truth import Truth
from sims.worlds import find_world
from training.planner.elsewhere import NO_LABELS, ElsewhereSource
from training.planner.scenes import Scene, Task

SHARD = 150  # scenes, at least
MADE = "made.json"


class SceneCacheError(RuntimeError):
    """A folder of scenes that cannot be used; the message says which and what to do."""


@dataclass(frozen=True)
class CacheSpec:
    """What the scenes of a folder are: of which world and tracks, how many, from which seed."""

    world: str
    tracks: tuple[str, ...]
    scenes: int
    seed: int
    randomize: float


def fill(folder: Path, spec: CacheSpec, on_shard: Callable[[int], None] | None = None) -> list[Path]:
    """The shards that `spec` asks for, those that are missing made now. `on_shard` is told how many scenes there are
    after each. Raises SceneCacheError, WorldError, RoadError."""
    _agree(folder, spec)
    shards = sorted(folder.glob("*.safetensors"))
    have = sum(_count(path) for path in shards)
    if have >= spec.scenes:
        return shards
    source = ElsewhereSource(find_world(spec.world), spec.seed, randomize=spec.randomize)
    try:
        for number in itertools.count(len(shards)):
            # A seed of its own for every shard: a run that was interrupted goes on with what it would have made.
            source.rng = np.random.default_rng([spec.seed, number])
            scenes = source.take(spec.tracks[number % len(spec.tracks)], SHARD)
            shards.append(folder / f"{number:05d}.safetensors")
            have += _write(shards[-1], scenes)
            if on_shard:
                on_shard(have)
            if have >= spec.scenes:
                return shards
    finally:
        source.close()


def load(shards: list[Path]) -> Iterator[Scene]:
    """All scenes of the shards, in order. Raises SceneCacheError for a damaged file."""
    for path in shards:
        try:
            with safe_open(path, "numpy") as file:
                frames, pairs = file.get_tensor("frames"), file.get_tensor("pairs")
                told = json.loads(file.metadata()["scenes"])
            for pair, (truth, task) in zip(pairs, told, strict=True):
                yield Scene(frames[pair], NO_LABELS, Truth.from_dict(truth), _task_from(task))
        except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
            raise SceneCacheError(f"{path} is damaged ({error}); delete it, it will be made anew") from error


def _agree(folder: Path, spec: CacheSpec) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path, wanted = folder / MADE, json.loads(json.dumps(asdict(spec)))
    if path.is_file():
        found = json.loads(path.read_text())
        differs = [k for k in wanted if k != "scenes" and found.get(k) != wanted[k]]
        if differs:
            raise SceneCacheError(
                f"{folder} holds scenes made with other settings ({', '.join(differs)}); delete it or choose another "
                "work folder"
            )
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(wanted, indent=2) + "\n")
    os.replace(aside, path)


def _count(path: Path) -> int:
    with safe_open(path, "numpy") as file:
        return file.get_slice("pairs").get_shape()[0]


def _write(path: Path, scenes: list[Scene]) -> int:
    pictures, pairs, index = [], [], {}
    for scene in scenes:
        pair = []
        for frame in scene.frames:
            key = frame.tobytes()
            if key not in index:  # the later picture of a scene is the earlier one of the next
                index[key] = len(pictures)
                pictures.append(frame)
            pair.append(index[key])
        pairs.append(pair)
    told = json.dumps([(s.truth.to_dict(), _task_to(s.task)) for s in scenes])
    aside = path.with_suffix(".new")
    save_file({"frames": np.stack(pictures), "pairs": np.array(pairs, np.int32)}, aside, metadata={"scenes": told})
    os.replace(aside, path)
    return len(scenes)


def _task_to(task: Task) -> dict:
    return {
        "instruction": asdict(task.instruction) if task.instruction else None,
        "cruise_mps": task.cruise_mps,
        "age_s": task.age_s,
        "start_lane": task.start_lane,
        "doing": task.doing.model_dump(mode="json"),
    }


def _task_from(plain: dict) -> Task:
    instruction = plain["instruction"]
    return Task(
        Instruction(**instruction) if instruction else None,
        plain["cruise_mps"],
        plain["age_s"],
        plain["start_lane"],
        Doing(**plain["doing"]),
    )

"""A dataset survives its writer: killed at any moment, it is whole with every finished episode, and goes on."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_dataset as tiny

from training.datasets import write
from training.datasets.check import check_dataset
from training.datasets.layout import DatasetError
from training.datasets.read import Dataset
from training.datasets.video import decode

FILES_OF_A_COMMIT = 6  # tasks, video, data, episodes, stats, info
REAL_KILLS = 4


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> dict[int, Path]:
    """Datasets of 2 and of 4 episodes whose writer was never killed."""
    folders = {n: tmp_path_factory.mktemp("straight") / str(n) for n in (2, 4)}
    for episodes, folder in folders.items():
        tiny.make(folder, episodes)
    return folders


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


def crash_in_commit(folder, at: int, after: bool, monkeypatch) -> None:
    """Write one more episode and die at the `at`-th file, before or after it is in place."""
    into_place, calls = write._into_place, iter(range(100))

    def dying(source, target):
        if next(calls) == at:
            if after:
                into_place(source, target)
            raise Killed
        into_place(source, target)

    writer = tiny.open_writer(folder, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(write, "_into_place", dying)
        with pytest.raises(Killed):
            tiny.add_episode(writer)
    os.close(writer._lock)  # as the kernel does; nothing else is tidied up


def assert_holds(folder, episodes: int) -> None:
    report = check_dataset(folder)
    assert report.errors == [] and report.episodes == episodes
    for number, episode in enumerate(Dataset(folder)):
        assert episode.tasks == tiny.tasks_of(number) and episode.about["pacenote/number"] == number


def same_file(a: Path, b: Path) -> None:
    """Byte for byte; films by their pictures: now and then the encoder puts a byte or two differently."""
    if a.suffix != ".mp4":
        assert a.read_bytes() == b.read_bytes(), a.name
        return
    pictures = [np.stack([picture for _, picture in decode(path)]).astype(int) for path in (a, b)]
    assert pictures[0].shape == pictures[1].shape and np.abs(pictures[0] - pictures[1]).max() <= 4, a.name


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(FILES_OF_A_COMMIT))
def test_crash_at_every_file_of_a_commit(straight, tmp_path, at, after, monkeypatch):
    folder = Path(shutil.copytree(straight[2], tmp_path / "crashed"))
    crash_in_commit(folder, at, after, monkeypatch)
    committed = at == FILES_OF_A_COMMIT - 1 and after
    assert_holds(folder, 3 if committed else 2)
    whole = committed or at > 3 or (at == 3 and after)  # the row in meta/episodes comes when all else is there
    with tiny.open_writer(folder, resume=True) as writer:
        assert len(writer) == (3 if whole else 2)
        while len(writer) < 4:
            tiny.add_episode(writer)
    assert_holds(folder, 4)
    for path in sorted(p for p in straight[4].rglob("*") if p.is_file() and p.name != "stats.json"):
        same_file(path, folder / path.relative_to(straight[4]))
    assert {p.name for p in folder.iterdir()} == {p.name for p in straight[4].iterdir()}


def test_crash_of_the_first_episode_leaves_an_empty_dataset(tmp_path, monkeypatch):
    tiny.make(tmp_path / "d", 0)
    crash_in_commit(tmp_path / "d", 2, True, monkeypatch)
    assert_holds(tmp_path / "d", 0)


def test_crash_in_mid_episode_loses_only_that_one(tmp_path):
    writer = tiny.open_writer(tmp_path / "d")
    tiny.add_episode(writer)
    half = writer.new_episode()
    half.add(tiny.row_of(1, 0), "go", tiny.image_of(1, 0))
    os.close(writer._lock)
    assert_holds(tmp_path / "d", 1)
    assert (tmp_path / "d" / write.ASIDE).is_dir()
    with tiny.open_writer(tmp_path / "d", resume=True) as again:
        tiny.add_episode(again)
    assert_holds(tmp_path / "d", 2)
    assert not (tmp_path / "d" / write.ASIDE).exists()


def test_killed_for_real_again_and_again(tmp_path):
    """kill -9 at random lines of what the writer tells; no episode that it called saved is ever missing."""
    folder, rng, saved = tmp_path / "d", random.Random(5), 0
    for _ in range(REAL_KILLS):
        lines_to_read = rng.randint(1, 40)
        child = subprocess.Popen(
            [sys.executable, str(Path(tiny.__file__)), str(folder)], stdout=subprocess.PIPE, text=True
        )
        told = [child.stdout.readline() for _ in range(lines_to_read)]
        child.kill()
        told += [line for line in child.stdout.readlines() if line.endswith("\n")]  # what it still said
        child.wait()
        child.stdout.close()
        saved = max(
            [saved, *(int(w[1]) + (w[0] == "saved") for w in map(str.split, told) if w[0] in ("opened", "saved"))]
        )
        report = check_dataset(folder)
        assert report.errors == []
        assert report.episodes in (saved, saved + 1)  # the last one may have been counted and not yet told
        saved = report.episodes
    with tiny.open_writer(folder, resume=True) as writer:
        tiny.add_episode(writer)
        assert len(writer) > saved
    assert_holds(folder, len(Dataset(folder)))


def test_one_writer_at_a_time(tmp_path):
    with tiny.open_writer(tmp_path / "d") as writer:
        tiny.add_episode(writer)
        with pytest.raises(DatasetError, match="being written by another process"):
            tiny.open_writer(tmp_path / "d", resume=True)
        tiny.add_episode(writer)
    assert_holds(tmp_path / "d", 2)

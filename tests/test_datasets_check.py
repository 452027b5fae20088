"""The check finds what is wrong, one fault at a time; the writer refuses what it cannot keep."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_dataset as tiny

from training.datasets import layout
from training.datasets.check import check_dataset
from training.datasets.layout import ACTION, CAMERA, DatasetError
from training.datasets.video import VideoWriter
from training.datasets.write import DatasetWriter

DATA = "data/chunk-000/file-001.parquet"
EPISODES = "meta/episodes/chunk-000/file-001.parquet"
VIDEO = f"videos/{CAMERA}/chunk-000/file-001.mp4"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "tiny"
    tiny.make(path, 3)
    return path


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def change_info(folder, **fields):
    path = folder / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def change_column(path, name, change):
    table = pq.read_table(path)
    at = table.column_names.index(name)
    values = change(table[name].to_pylist())
    pq.write_table(table.set_column(at, table.schema.field(name), pa.array(values, table[name].type)), path)


def other_video(path, frames, height=tiny.HEIGHT, shade=100, fps=tiny.FPS):
    writer = VideoWriter(path, fps, height, tiny.WIDTH)
    for _ in range(frames):
        writer.add(np.full((height, tiny.WIDTH, 3), shade, np.uint8))
    writer.close()


def break_json(folder):
    (folder / "meta/info.json").write_text('{"fps": 30')


def drop_rows(folder):
    pq.write_table(pq.read_table(folder / DATA).slice(1), folder / DATA)


def drop_column(folder):
    pq.write_table(pq.read_table(folder / DATA).drop_columns(["truth.lane"]), folder / DATA)


def drop_stats(folder):
    table = pq.read_table(folder / EPISODES)
    pq.write_table(
        table.drop_columns([n for n in table.column_names if n.startswith("stats/action/")]), folder / EPISODES
    )


FAULTS = {
    "not JSON": (break_json, "cannot be read as JSON"),
    "version": (lambda f: change_info(f, codebase_version="v2.1"), "format 'v2.1', can read 'v3.0' only"),
    "episodes counted": (lambda f: change_info(f, total_episodes=5), "counts 5 episodes, meta/episodes has 3"),
    "frames counted": (lambda f: change_info(f, total_frames=99), "total_frames is 99, found 15"),
    "rate": (lambda f: change_info(f, fps=20), "timestamp of frame 1 is not its number / 20"),
    "paths": (lambda f: change_info(f, data_path="../../other/{chunk_index}{file_index}"), "leads out of the dataset"),
    "tasks gone": (lambda f: (f / layout.TASKS).unlink(), "names task"),
    "data gone": (lambda f: (f / DATA).unlink(), "cannot be read as Parquet"),
    "data torn": (lambda f: (f / DATA).write_bytes((f / DATA).read_bytes()[:900]), "cannot be read as Parquet"),
    "row gone": (drop_rows, "meta says length 5, found 4"),
    "column gone": (drop_column, "differ: truth.lane"),
    "meta gone": (lambda f: (f / EPISODES).unlink(), "each once and in order"),
    "index": (lambda f: change_column(f / DATA, "index", lambda v: v[::-1]), "index does not count on"),
    "time": (lambda f: change_column(f / DATA, "timestamp", lambda v: [t + 0.01 for t in v]), "timestamp of frame 0"),
    "action": (lambda f: change_column(f / DATA, ACTION, lambda v: [[3.0, 0.0]] * len(v)), "action beyond"),
    "not finite": (lambda f: change_column(f / DATA, "truth.s_m", lambda v: [float("nan")] * len(v)), "not finite"),
    "task": (lambda f: change_column(f / DATA, "task_index", lambda v: [0] * len(v)), "meta names tasks"),
    "statistics": (lambda f: change_column(f / DATA, "truth.lane", lambda v: [7] * len(v)), "statistics of truth.lane"),
    "no statistics": (drop_stats, "no statistics of action"),
    "length": (lambda f: change_column(f / EPISODES, "length", lambda v: [9]), "meta says length 9, found 5"),
    "video gone": (lambda f: (f / VIDEO).unlink(), "cannot be decoded"),
    "video torn": (lambda f: (f / VIDEO).write_bytes((f / VIDEO).read_bytes()[:700]), "cannot be decoded"),
    "picture gone": (lambda f: other_video(f / VIDEO, 4), "5 rows and 4 pictures"),
    "picture size": (lambda f: other_video(f / VIDEO, 5, height=64), "info.json says"),
    "picture times": (lambda f: other_video(f / VIDEO, 5, fps=15), "its row at"),
    "other pictures": (lambda f: other_video(f / VIDEO, 5, shade=250), "off its statistics"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(folder, fault):
    break_it, message = FAULTS[fault]
    assert check_dataset(folder).ok
    break_it(folder)
    report = check_dataset(folder)
    assert not report.ok and any(message in error for error in report.errors), report.errors


def test_dataset_statistics_are_checked(folder):
    path = folder / layout.STATS
    plain = json.loads(path.read_text())
    plain["action"]["mean"] = [0.9, 0.9]
    path.write_text(json.dumps(plain))
    assert check_dataset(folder).errors == ["stats.json: action: mean differ"]


def test_no_dataset_at_all(tmp_path):
    assert "no dataset at" in check_dataset(tmp_path).errors[0]


# ---- the writer ------------------------------------------------------------------------------------------------------


def writer_of(folder, **changes):
    return DatasetWriter(folder, **{"fps": 30, "features": layout.features(30, (32, 48), {}), "robot": "x", **changes})


def frame(**changes):
    return {layout.STATE: [0.0, 0.0, 0.0], ACTION: [0.0, 0.0], **changes}


GREY = np.full((32, 48, 3), 90, np.uint8)
BAD_FRAMES = {
    "lacks \\['action'\\]": ({layout.STATE: [0, 0, 0]}, GREY),
    "has unknown \\['lane'\\]": (frame(lane=1), GREY),
    "no picture": (frame(), None),
    "expected \\(32, 48, 3\\) uint8": (frame(), GREY[:16]),
    "float64": (frame(), GREY.astype(float)),
    "do not fit": (frame(action=[0.0, 0.0, 0.0]), GREY),
    "not finite at row 0": (frame(action=[float("inf"), 0.0]), GREY),
}


@pytest.mark.parametrize("message", BAD_FRAMES)
def test_bad_frames_are_refused_and_leave_no_episode(tmp_path, message):
    row, image = BAD_FRAMES[message]
    with writer_of(tmp_path / "d") as writer:
        episode = writer.new_episode()
        with pytest.raises(DatasetError, match=message):
            episode.add(row, "go", image)
            episode.save()
        episode.drop()
        good = writer.new_episode()
        good.add(frame(), "go", GREY)
        good.save()
    report = check_dataset(tmp_path / "d")
    assert report.ok and report.episodes == 1


def test_an_episode_without_frames_is_refused(tmp_path):
    with writer_of(tmp_path / "d") as writer, pytest.raises(DatasetError, match="without frames"):
        writer.new_episode().save()


def test_folder_in_use_is_not_overwritten(folder, tmp_path):
    with pytest.raises(DatasetError, match="say --resume"):
        tiny.open_writer(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    with pytest.raises(DatasetError, match="not empty and holds no dataset"):
        tiny.open_writer(tmp_path / "other", resume=True)


def test_resume_with_other_features_or_rate_is_refused(folder):
    with pytest.raises(DatasetError, match="30 frames per second, not 20"):
        writer_of(folder, fps=20, resume=True)
    with pytest.raises(DatasetError, match="features that differ: .*truth.s_m"):
        writer_of(folder, resume=True)
    assert check_dataset(folder).ok


def test_odd_picture_sizes_are_refused():
    with pytest.raises(DatasetError, match="both must be even"):
        layout.features(30, (33, 48), {})

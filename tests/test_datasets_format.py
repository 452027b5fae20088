"""The LeRobot v3.0 format: what is written is read back, by us and by the libraries that the format is made for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_dataset as tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.names import UnknownName
from training.datasets import layout, stats
from training.datasets.check import check_dataset
from training.datasets.layout import ACTION, CAMERA, STATE, DatasetError
from training.datasets.read import Dataset, read_episodes
from training.datasets.write import DatasetWriter


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "tiny"
    tiny.make(path, 4)
    return path


def test_files_stand_where_the_format_has_them(folder):
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {".lock"}
    numbered = [f"{k:03d}" for k in range(4)]
    wanted = {"meta/info.json", "meta/stats.json", "meta/tasks.parquet"}
    wanted |= {f"data/chunk-000/file-{k}.parquet" for k in numbered}
    wanted |= {f"meta/episodes/chunk-000/file-{k}.parquet" for k in numbered}
    wanted |= {f"videos/observation.images.front/chunk-000/file-{k}.mp4" for k in numbered}
    assert found == wanted


def test_info_counts_and_describes(folder):
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == tiny.FPS
    assert info["total_episodes"] == 4 and info["total_frames"] == sum(map(tiny.length_of, range(4)))
    assert info["total_tasks"] == 5 and info["splits"] == {"train": "0:4"}
    assert info["features"][CAMERA]["shape"] == [tiny.HEIGHT, tiny.WIDTH, 3]
    assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": ["steering", "acceleration"]}


def test_what_was_written_is_read_back(folder):
    for number, episode in enumerate(read_episodes(folder)):
        n = tiny.length_of(number)
        rows = [tiny.row_of(number, k) for k in range(n)]
        assert len(episode) == n and episode.tasks == tiny.tasks_of(number)
        assert np.allclose(episode.actions, [r[ACTION] for r in rows], atol=1e-6)
        assert np.allclose(episode.state, [r[STATE] for r in rows], atol=1e-6)
        assert episode.column("scenario").tolist() == [r["scenario"] for r in rows]
        assert episode.column("truth.collision").tolist() == [r["truth.collision"] for r in rows]
        frames = episode.frames()
        wanted = np.stack([tiny.image_of(number, k) for k in range(n)])
        assert frames.shape == wanted.shape and frames.dtype == np.uint8
        assert np.abs(frames.astype(int) - wanted).mean() < 6  # lossy, but the same picture
        assert episode.about["pacenote/number"] == number
    assert number == 3


def test_columns_are_asked_for_by_name(folder):
    with pytest.raises(UnknownName, match="did you mean 'truth.lane'"):
        Dataset(folder).episode(0).column("truth.lan")
    with pytest.raises(DatasetError, match="no episode 4; there are 4"):
        Dataset(folder).episode(4)


def test_whole_dataset_passes_the_check(folder):
    report = check_dataset(folder)
    assert report.ok and report.notes == [] and report.episodes == 4 and report.pictures == report.frames == 19


def test_statistics_are_those_of_all_frames(folder):
    noted = json.loads((folder / "meta/stats.json").read_text())
    actions = np.concatenate([e.actions for e in read_episodes(folder)])
    assert np.allclose(noted["action"]["mean"], actions.mean(0), atol=1e-6)
    assert np.allclose(noted["action"]["std"], actions.std(0), atol=1e-6)
    assert noted["action"]["count"] == [19] and np.shape(noted[CAMERA]["mean"]) == (3, 1, 1)
    assert "scenario" not in noted


def test_pandas_reads_the_tasks_by_text(folder):
    pandas = pytest.importorskip("pandas")
    tasks = pandas.read_parquet(folder / layout.TASKS)
    assert tasks.loc[layout.NO_COMMAND].task_index == 0
    assert tasks.iloc[2].name == "drive at 1.1 m/s"


def test_hugging_face_datasets_reads_all_files_as_one(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    paths = sorted(map(str, (folder / "data").glob("*/*.parquet")))
    rows = datasets.Dataset.from_parquet(paths, cache_dir=str(tmp_path), keep_in_memory=True)
    assert rows["index"][:] == list(range(19)) and len(rows[3]["action"]) == 2
    paths = sorted(map(str, (folder / "meta/episodes").glob("*/*.parquet")))
    episodes = datasets.Dataset.from_parquet(paths, cache_dir=str(tmp_path), keep_in_memory=True)
    assert episodes["dataset_to_index"][:][-1] == 19


def test_lerobot_itself_reads_it(folder, tmp_path, monkeypatch):
    module = pytest.importorskip("lerobot.datasets.lerobot_dataset", reason="the lerobot package is not installed")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    found = module.LeRobotDataset("tiny/tiny", root=folder, video_backend="pyav")
    assert found.num_episodes == 4 and len(found) == 19
    item = found[5]
    assert item["task"] == Dataset(folder).episode(1).tasks[1]
    assert tuple(item[CAMERA].shape) == (3, tiny.HEIGHT, tiny.WIDTH)


def test_a_world_without_a_camera_has_no_videos(tmp_path):
    with DatasetWriter(tmp_path / "d", 30, layout.features(30, None, {}), "blind") as writer:
        episode = writer.new_episode()
        episode.add({STATE: [0, 0, 0], ACTION: [0, 0]}, "go")
        episode.save()
    assert check_dataset(tmp_path / "d").ok
    with pytest.raises(DatasetError, match="no pictures"):
        Dataset(tmp_path / "d").episode(0).frames()


def test_many_episodes_in_one_file_are_read_too(folder, tmp_path):
    """The layout of others: one data file, one meta file, one video for all episodes."""
    import av
    import pyarrow as pa

    from training.datasets.video import VideoWriter

    target = tmp_path / "one"
    (target / "meta").mkdir(parents=True)
    for name in ("info.json", "stats.json", "tasks.parquet"):
        (target / "meta" / name).write_bytes((folder / "meta" / name).read_bytes())
    for part in ("data", "meta/episodes"):
        table = pa.concat_tables([pq.read_table(p) for p in sorted((folder / part).glob("*/*.parquet"))])
        if part != "data":
            starts = [i / tiny.FPS for i in table["dataset_from_index"].to_pylist()]
            for name in table.column_names:
                if name.endswith("file_index"):
                    table = table.set_column(table.column_names.index(name), name, pa.array([0] * 4, pa.int64()))
            for name, shift in (("from", 0), ("to", 1)):
                key = f"videos/{CAMERA}/{name}_timestamp"
                ends = [s + shift * tiny.length_of(k) / tiny.FPS for k, s in enumerate(starts)]
                table = table.set_column(table.column_names.index(key), key, pa.array(ends, pa.float64()))
        (target / part / "chunk-000").mkdir(parents=True)
        pq.write_table(table, target / part / "chunk-000/file-000.parquet")
    video = target / layout.VIDEO_PATH.format(video_key=CAMERA, chunk_index=0, file_index=0)
    video.parent.mkdir(parents=True)
    writer = VideoWriter(video, tiny.FPS, tiny.HEIGHT, tiny.WIDTH)
    for episode in read_episodes(folder):
        for image in episode.images():
            writer.add(image)
    writer.close()
    assert isinstance(av.open(str(video)), av.container.InputContainer)
    assert check_dataset(target).errors == []
    frames = Dataset(target).episode(2).frames()
    assert np.abs(frames.astype(int) - Dataset(folder).episode(2).frames()).mean() < 8


@given(
    st.lists(
        st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None)
def test_statistics_of_parts_are_those_of_the_whole(parts):
    arrays = [np.array(p, dtype=np.float64) for p in parts]
    merged = stats.merge([stats.column_stats(a) for a in arrays])
    whole = stats.column_stats(np.concatenate(arrays))
    for key in ("min", "max", "mean", "std", "count"):
        assert np.allclose(merged[key], whole[key], atol=1e-6), key
    for key, q in zip(stats.QUANTILE_KEYS, stats.QUANTILES):  # bounds, on the outer side
        own = [stats.column_stats(a)[key] for a in arrays]
        assert merged[key] == (min(own) if q <= 0.5 else max(own))


def test_picture_statistics_are_exact():
    pictures = np.random.default_rng(0).integers(0, 256, (1, 20, 30, 3), dtype=np.uint8)
    gathered = stats.PictureStats()
    for picture in pictures:
        gathered.add(picture)
    found = gathered.result()
    shares = pictures.reshape(-1, 3) / 255.0
    assert np.allclose(found["mean"].ravel(), shares.mean(0)) and np.allclose(found["std"].ravel(), shares.std(0))
    assert np.allclose(found["q50"].ravel(), np.quantile(shares, 0.5, axis=0, method="inverted_cdf"))

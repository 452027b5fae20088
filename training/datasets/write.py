"""Writes a LeRobot v3.0 dataset so that a crash at any moment leaves it readable with every finished episode.

An episode is written aside (`.writing/`), then its files are renamed into place, last info.json, which counts it: the
one commit point. What a killed writer left before that is taken in (when it was whole) or removed by the next writer.
One writer at a time, held by a lock. Knows nothing of worlds and drivers.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.datasets import layout
from training.datasets.layout import CAMERA, COLLECT, DEFAULT_COLUMNS, INFO, STATS, TASKS, DatasetError
from training.datasets.read import load_episodes, load_info, load_tasks
from training.datasets.stats import PictureStats, column_stats, merge_all, stats_of_row, to_plain
from training.datasets.video import VideoWriter

ASIDE = ".writing"
LOCK = ".lock"


def _sync(path: Path) -> None:
    """The file's bytes are on the disk before its name is."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _into_place(source: Path, target: Path) -> None:
    """Sync and rename: a reader sees the whole file or none. Every change of a dataset goes through here."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(source)
    os.replace(source, target)


class EpisodeWriter:
    """One episode on its way. `add` every frame, then `save` or `drop`; nothing is in the dataset before `save`."""

    def __init__(self, dataset: DatasetWriter, folder: Path):
        self._dataset, self._folder = dataset, folder
        self._rows: list[dict[str, Any]] = []
        self._tasks: list[str] = []
        self._video: VideoWriter | None = None
        self._pictures = PictureStats()
        folder.mkdir(parents=True)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: dict[str, Any], task: str, image: np.ndarray | None = None) -> None:
        """The next frame: a value for every feature of the dataset but the video and the format's own, the task's text,
        and the picture (h, w, 3) uint8 RGB where the dataset has one. Raises DatasetError."""
        wanted = self._dataset.columns
        if row.keys() != wanted:
            raise DatasetError(
                f"frame {len(self)}: lacks {sorted(wanted - row.keys())}, has unknown {sorted(row.keys() - wanted)}"
            )
        if (image is not None) != self._dataset.has_camera:
            raise DatasetError(f"frame {len(self)}: {'a picture' if image is not None else 'no picture'}; not as begun")
        if image is not None:
            if self._video is None:
                height, width, _ = self._dataset.info["features"][CAMERA]["shape"]
                self._video = VideoWriter(self._folder / "front.mp4", self._dataset.info["fps"], height, width)
            self._video.add(image)
            self._pictures.add(image)
        self._rows.append(row)
        self._tasks.append(task)

    def save(self, about: dict[str, Any] | None = None) -> int:
        """Commit; returns the episode's index. `about`: plain values kept with the episode, under `pacenote/`. Raises
        DatasetError for an episode without frames."""
        if not self._rows:
            self.drop()
            raise DatasetError("an episode without frames cannot be saved")
        if self._video is not None:
            self._video.close()
        index = self._dataset._commit(self._folder, self._rows, self._tasks, self._pictures, about or {})
        shutil.rmtree(self._folder, ignore_errors=True)
        return index

    def drop(self) -> None:
        """Forget the episode."""
        if self._video is not None:
            self._video.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class DatasetWriter:
    """A dataset that episodes are added to. Use as a context manager. `info`: as in info.json; `episodes`: their rows
    of meta/episodes without the statistics."""

    def __init__(self, folder: str | Path, fps: int, features: dict[str, dict], robot: str, *, resume: bool = False):
        """Begin a dataset, or go on with one of the same features (`resume`). Raises DatasetError when the folder holds
        something already and `resume` was not said, when it holds another kind of dataset, or when it is in use."""
        self.folder = Path(folder)
        self._aside = self.folder / ASIDE
        self._opened = 0
        self._hold(resume)
        try:
            if (self.folder / INFO).is_file():
                self.info = self._take_up(fps, features)
            else:
                self.info = layout.empty_info(fps, features, robot)
                self.episodes: list[dict] = []
                self._tasks: list[str] = []
                self._stats: dict = {}
                self._put_json(INFO, self.info)
        except BaseException:
            self.close()
            raise
        self._schema = layout.data_schema(self.info["features"])
        self.columns = set(self._schema.names) - set(DEFAULT_COLUMNS)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.info["total_episodes"]

    @property
    def has_camera(self) -> bool:
        """Whether every frame comes with a picture."""
        return CAMERA in self.info["features"]

    def new_episode(self) -> EpisodeWriter:
        """Begin an episode, aside. Several may be under way at once; their order is that of `save`."""
        self._opened += 1
        return EpisodeWriter(self, self._aside / f"{self._opened:06d}")

    def note(self, about: dict) -> None:
        """Keep how the dataset was made (meta/collect.json)."""
        self._put_json(COLLECT, about)

    def close(self) -> None:
        """Let the folder go. Episodes not saved are gone."""
        shutil.rmtree(self._aside, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # ---- opening -------------------------------------------------------------------------------------------------

    def _hold(self, resume: bool) -> None:
        held = sorted(p.name for p in self.folder.iterdir()) if self.folder.is_dir() else []
        if (self.folder / INFO).is_file() and not resume:
            raise DatasetError(f"{self.folder} holds a dataset; say --resume to go on with it, or give another --out")
        if not (self.folder / INFO).is_file() and set(held) - {ASIDE, LOCK, "meta"}:
            raise DatasetError(f"{self.folder} is not empty and holds no dataset ({held[0]}, ...); give another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise DatasetError(f"{self.folder} is being written by another process; wait for it to end") from None
        shutil.rmtree(self._aside, ignore_errors=True)
        self._aside.mkdir()

    def _take_up(self, fps: int, features: dict[str, dict]) -> dict:
        """Read what is there; take in an episode that was whole and not yet counted, remove what was not whole."""
        info = load_info(self.folder)
        if parting := _parting(info, fps, features):
            raise DatasetError(f"{self.folder} holds a dataset of another kind ({parting}); give another --out")
        if info["data_path"] != layout.DATA_PATH:
            raise DatasetError(f"{self.folder}: files are named as {info['data_path']!r}, cannot add to that")
        self._tasks = load_tasks(self.folder)
        rows = load_episodes(self.folder)
        if len(rows) < info["total_episodes"]:
            raise DatasetError(f"{self.folder}: {info['total_episodes']} episodes counted, {len(rows)} found in meta")
        self._stats = merge_all([stats_of_row(row) for row in rows])
        self.episodes = [_about(row) for row in rows]
        counts = {"total_episodes": len(rows), "total_frames": rows[-1]["dataset_to_index"] if rows else 0}
        self._remove_from(len(rows), features)
        if rows:
            info.update(counts, total_tasks=len(self._tasks), splits={"train": f"0:{len(rows)}"})
            self._put_json(STATS, to_plain(self._stats))
            self._put_json(INFO, info)
        return info

    def _remove_from(self, first: int, features: dict[str, dict]) -> None:
        """Files that a killed writer had in place already of the episode after the last whole one."""
        for relative in layout.files_of(first, layout.video_keys(features)).values():
            (self.folder / relative).unlink(missing_ok=True)

    # ---- an episode ----------------------------------------------------------------------------------------------

    def _commit(self, aside: Path, rows: list, tasks: list[str], pictures: PictureStats, about: dict) -> int:
        episode, first = len(self), self.info["total_frames"]
        known = list(dict.fromkeys([*self._tasks, *tasks]))
        table = self._table(rows, [known.index(t) for t in tasks], episode, first)
        found = {f.name: column_stats(_plain(table[f.name])) for f in self._schema if f.type != pa.string()}
        if self.has_camera:
            found[CAMERA] = pictures.result()
        pq.write_table(table, aside / "data.parquet")
        row = _episode_row(episode, first, tasks, self.info, found, about)
        pq.write_table(row, aside / "episodes.parquet", use_dictionary=False, write_statistics=False)
        pq.write_table(layout.tasks_table(known), aside / "tasks.parquet")
        stats = merge_all([self._stats, found]) if self._stats else found
        info = dict(self.info, total_episodes=episode + 1, total_frames=first + len(rows), total_tasks=len(known))
        info["splits"] = {"train": f"0:{episode + 1}"}
        # Nothing of this counts before info.json; the row in meta/episodes stands only when all else of it does.
        target = layout.files_of(episode, layout.video_keys(self.info["features"]))
        _into_place(aside / "tasks.parquet", self.folder / TASKS)
        if self.has_camera:
            _into_place(aside / "front.mp4", self.folder / target[CAMERA])
        _into_place(aside / "data.parquet", self.folder / target["data"])
        _into_place(aside / "episodes.parquet", self.folder / target["episodes"])
        self._put_json(STATS, to_plain(stats))
        self._put_json(INFO, info)
        self._tasks, self._stats, self.info = known, stats, info
        self.episodes.append(_about(row.to_pylist()[0]))
        return episode

    def _table(self, rows: list[dict], task_indices: list[int], episode: int, first: int) -> pa.Table:
        n = len(rows)
        own = {
            "timestamp": np.arange(n, dtype=np.float64) / self.info["fps"],
            "frame_index": np.arange(n),
            "episode_index": np.full(n, episode),
            "index": np.arange(first, first + n),
            "task_index": np.array(task_indices),
        }
        columns = []
        for column in self._schema:
            values = own[column.name] if column.name in own else [_value(row[column.name], column.type) for row in rows]
            try:
                columns.append(pa.array(values, column.type, from_pandas=False))
            except (pa.ArrowException, TypeError) as error:
                raise DatasetError(f"column {column.name!r}: values do not fit {column.type}: {error}") from error
        table = pa.Table.from_arrays(columns, schema=self._schema)
        for name in self._schema.names:
            values = _plain(table[name]) if table[name].type != pa.string() else np.zeros(0)
            if not np.isfinite(values.astype(np.float64)).all():
                raise DatasetError(f"column {name!r}: not finite at row {int(np.argwhere(~np.isfinite(values))[0][0])}")
        return table

    def _put_json(self, relative: str, value: dict) -> None:
        aside = self._aside / Path(relative).name
        aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _into_place(aside, self.folder / relative)


def _value(value: Any, kind: pa.DataType) -> Any:
    """As a column holds it: a vector of one element is a number there."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    one = isinstance(value, list) and len(value) == 1 and not pa.types.is_fixed_size_list(kind)
    return value[0] if one else value


def _plain(column: pa.ChunkedArray) -> np.ndarray:
    """(n,) or (n, k) of a numeric column."""
    if pa.types.is_fixed_size_list(column.type):
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), column.type.list_size)
    return column.to_numpy()


def _about(row: dict) -> dict:
    """A row of meta/episodes without its statistics."""
    return {name: value for name, value in row.items() if not name.startswith("stats/")}


def _parting(info: dict, fps: int, features: dict[str, dict]) -> str | None:
    """In what a dataset differs from the one to be written."""
    if info["fps"] != fps:
        return f"{info['fps']} frames per second, not {fps}"
    there, here = (json.loads(json.dumps(f)) for f in (info["features"], features))
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return f"features that differ: {', '.join(names)}" if names else None


def _episode_row(episode: int, first: int, tasks: list[str], info: dict, stats: dict, about: dict) -> pa.Table:
    """The episode's row in meta/episodes. Types are said, because files of one dataset must agree in them."""
    chunk, file = layout.place(episode)
    frames, unique = len(tasks), list(dict.fromkeys(tasks))
    whole = {
        "episode_index": episode,
        "length": frames,
        "dataset_from_index": first,
        "dataset_to_index": first + frames,
    }
    for at in ("data", "meta/episodes", *(f"videos/{key}" for key in layout.video_keys(info["features"]))):
        whole |= {f"{at}/chunk_index": chunk, f"{at}/file_index": file}
    columns = {name: pa.array([value], pa.int64()) for name, value in whole.items()}
    columns["tasks"] = pa.array([unique], pa.list_(pa.string()))
    for key in layout.video_keys(info["features"]):
        columns[f"videos/{key}/from_timestamp"] = pa.array([0.0], pa.float64())
        columns[f"videos/{key}/to_timestamp"] = pa.array([frames / info["fps"]], pa.float64())
    for name, statistics in to_plain(stats).items():
        for key, value in statistics.items():
            columns[f"stats/{name}/{key}"] = pa.array(
                [value], _nested(pa.int64() if key == "count" else pa.float64(), value)
            )
    columns |= {f"pacenote/{name}": pa.array([value]) for name, value in about.items()}
    return pa.table(columns)


def _nested(kind: pa.DataType, value: Any) -> pa.DataType:
    return pa.list_(_nested(kind, value[0])) if isinstance(value, list) else kind

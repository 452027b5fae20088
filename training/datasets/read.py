"""A LeRobot v3.0 dataset read back, episode by episode, as numpy arrays: for training, for the check, for the curious.

Reads ours and those of others (many episodes in a file, several cameras), as long as their pictures are kept as video.
Knows nothing of how a dataset is written. What a killed writer left beyond the counts of info.json is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bridge.names import choose
from training.datasets.layout import (
    ACTION,
    COLLECT,
    EPISODES_PATH,
    INFO,
    STATE,
    TASKS,
    VERSION,
    DatasetError,
    inside,
    video_keys,
)
from training.datasets.video import decode

NEEDED = ("codebase_version", "fps", "features", "total_episodes", "total_frames", "data_path")


def load_json(path: Path) -> dict:
    """An object from a JSON file. Raises DatasetError."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(plain, dict):
        raise DatasetError(f"{path}: expected an object, got {type(plain).__name__}")
    return plain


def load_table(path: Path) -> pa.Table:
    """A Parquet file. Raises DatasetError."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: cannot be read as Parquet: {error}") from error


def load_info(folder: Path) -> dict:
    """info.json. Raises DatasetError where there is none, where it lacks something, or for another version."""
    path = folder / INFO
    if not path.is_file():
        raise DatasetError(f"no dataset at {folder} (no {INFO} in it); `pacenote collect` makes one")
    info = load_json(path)
    if lacking := [key for key in NEEDED if key not in info]:
        raise DatasetError(f"{path}: lacks {', '.join(lacking)}")
    if info["codebase_version"] != VERSION:
        raise DatasetError(f"{path}: format {info['codebase_version']!r}, can read {VERSION!r} only")
    if not isinstance(info["features"], dict) or not isinstance(info["fps"], int) or info["fps"] < 1:
        raise DatasetError(f"{path}: fps must be a positive whole number, and features an object")
    return info


def load_tasks(folder: Path) -> list[str]:
    """Task texts by task_index; empty where none was written yet. Raises DatasetError."""
    path = folder / TASKS
    if not path.is_file():
        return []
    table = load_table(path)
    names = [n for n in table.column_names if n != "task_index"]
    if "task_index" not in table.column_names or len(names) != 1:
        raise DatasetError(f"{path}: expected task_index and one column of texts, got {table.column_names}")
    texts = dict(zip(table["task_index"].to_pylist(), table[names[0]].to_pylist()))
    if sorted(texts) != list(range(len(table))):
        raise DatasetError(f"{path}: task_index is not 0 to {len(table) - 1}, each once")
    return [texts[k] for k in range(len(table))]


def load_episodes(folder: Path) -> list[dict]:
    """Rows of meta/episodes in order, also those that info.json does not count yet. Raises DatasetError."""
    rows: list[dict] = []
    for path in sorted((folder / EPISODES_PATH).parent.parent.glob("*/*.parquet")):
        rows += load_table(path).to_pylist()
    if [row.get("episode_index") for row in rows] != list(range(len(rows))):
        raise DatasetError(f"{folder}/meta/episodes: episode_index is not 0 to {len(rows) - 1}, each once and in order")
    return rows


def load_collect(folder: Path) -> dict:
    """How the dataset was made, from meta/collect.json; empty where there is none. Raises DatasetError."""
    path = folder / COLLECT
    return load_json(path) if path.is_file() else {}


@dataclass(frozen=True)
class Episode:
    """One episode of n frames. `columns`: (n,) or (n, k) arrays; `tasks`: the text in force at each frame; `about`: its
    row of meta/episodes without the statistics; `videos`: feature -> (file, time of the first frame in it [s])."""

    index: int
    fps: int
    columns: dict[str, np.ndarray] = field(repr=False)
    tasks: list[str] = field(repr=False)
    about: dict = field(repr=False)
    videos: dict[str, tuple[Path, float]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.tasks)

    def column(self, name: str) -> np.ndarray:
        """A column by name. Raises UnknownName with "did you mean"."""
        return self.columns[choose(name, self.columns, "column")]

    @property
    def actions(self) -> np.ndarray:
        """(n, 2) float32: steering (positive left) and acceleration, in [-1, 1]."""
        return self.column(ACTION)

    @property
    def state(self) -> np.ndarray:
        """(n, k) float32; the names of its elements stand in info.json."""
        return self.column(STATE).reshape(len(self), -1)

    def images(self, camera: str | None = None) -> Iterator[np.ndarray]:
        """The pictures one by one, (h, w, 3) uint8 RGB. Raises DatasetError where the video ends too early."""
        for _, image in self.timed_images(camera):
            yield image

    def timed_images(self, camera: str | None = None) -> Iterator[tuple[float, np.ndarray]]:
        """(seconds since the start of the episode as the video has it, picture). Raises DatasetError."""
        if not self.videos:
            raise DatasetError(f"episode {self.index} has no pictures: the world had no camera")
        path, from_s = self.videos[choose(camera or next(iter(self.videos)), self.videos, "camera")]
        count = 0
        for at_s, image in decode(path, from_s, len(self)):
            count += 1
            yield at_s - from_s, image
        if count != len(self):
            raise DatasetError(f"{path}: episode {self.index} has {len(self)} rows and {count} pictures")

    def frames(self, camera: str | None = None) -> np.ndarray:
        """All pictures, (n, h, w, 3) uint8 RGB."""
        return np.stack(list(self.images(camera)))


class Dataset:
    """A dataset folder, opened. Iterate over it, or ask for `episode(i)`. Raises DatasetError."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.info = load_info(self.folder)
        self.fps: int = self.info["fps"]
        self.features: dict[str, dict] = self.info["features"]
        self.tasks = load_tasks(self.folder)
        self.episodes = load_episodes(self.folder)[: self.info["total_episodes"]]
        if len(self.episodes) < self.info["total_episodes"]:
            raise DatasetError(
                f"{self.folder}: info.json counts {self.info['total_episodes']} episodes, meta/episodes has "
                f"{len(self.episodes)}; a file is missing"
            )
        self._file: tuple[Path, pa.Table] | None = None

    def __len__(self) -> int:
        return len(self.episodes)

    def __iter__(self) -> Iterator[Episode]:
        return (self.episode(i) for i in range(len(self)))

    def episode(self, index: int) -> Episode:
        """Rows of one episode; its pictures are decoded when they are asked for. Raises DatasetError."""
        if not 0 <= index < len(self):
            raise DatasetError(f"{self.folder}: no episode {index}; there are {len(self)}, from 0 on")
        row = self.episodes[index]
        table = self._rows(row, index)
        texts = table["task_index"].to_pylist()
        if bad := [k for k in set(texts) if not 0 <= k < len(self.tasks)]:
            raise DatasetError(f"{self.folder}: episode {index} names task {bad[0]}, of {len(self.tasks)}")
        return Episode(
            index=index,
            fps=self.fps,
            columns={name: _array(table[name]) for name in table.column_names},
            tasks=[self.tasks[k] for k in texts],
            about={k: v for k, v in row.items() if not k.startswith("stats/")},
            videos={key: self._video(row, key) for key in video_keys(self.features)},
        )

    def _rows(self, row: dict, index: int) -> pa.Table:
        where = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        path = inside(self.folder, self.info["data_path"].format(**where))
        if self._file is None or self._file[0] != path:
            self._file = (path, load_table(path))
        table = self._file[1]
        if lacking := [name for name in ("episode_index", "task_index") if name not in table.column_names]:
            raise DatasetError(f"{path}: lacks {', '.join(lacking)}")
        return table.filter(pc.equal(table["episode_index"], index))

    def _video(self, row: dict, key: str) -> tuple[Path, float]:
        at = f"videos/{key}/"
        where = {"chunk_index": row[at + "chunk_index"], "file_index": row[at + "file_index"]}
        path = inside(self.folder, self.info["video_path"].format(video_key=key, **where))
        return path, float(row[at + "from_timestamp"])


def _array(column: pa.ChunkedArray) -> np.ndarray:
    """(n,) or, from lists, (n, k)."""
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        return np.array(column.to_pylist(), dtype=column.type.value_type.to_pandas_dtype())
    return column.to_numpy()


def read_episodes(folder: str | Path) -> Iterator[Episode]:
    """Every episode of a dataset in order. Raises DatasetError."""
    yield from Dataset(folder)

"""Where things stand in a LeRobot v3.0 dataset, and which columns ours have. Knows names and types, opens no file.

    meta/info.json                                        features, counts, rate, path templates
    meta/stats.json                                       min, max, mean, std, count, quantiles of every feature
    meta/tasks.parquet                                    task text (index) -> task_index
    meta/episodes/chunk-000/file-000.parquet              one row an episode: length, files, statistics
    meta/collect.json                                     ours: the settings of the recording, and what was left out
    data/chunk-000/file-000.parquet                       one row a frame
    videos/observation.images.front/chunk-000/file-000.mp4

The format lets a file hold one episode or many. We write one, so that an episode is committed by renames.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

VERSION = "v3.0"
CHUNK_SIZE = 1000  # files in a chunk folder
CAMERA = "observation.images.front"
STATE = "observation.state"
ACTION = "action"

INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
COLLECT = "meta/collect.json"
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_PATH = f"meta/episodes/{_FILE}.parquet"
DATA_PATH = f"data/{_FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{_FILE}.mp4"

NO_COMMAND = "follow the lane"  # task text while no command is in force
STATE_NAMES = ("speed_mps", "yaw_rate_radps", "steering")
ACTION_NAMES = ("steering", "acceleration")
# Written for every frame by the format itself.
DEFAULT_COLUMNS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
# Truth of a world: for teachers, judges and analysis. The names keep it apart from `observation`, so that nothing that
# trains on observations takes it for one.
TRUTH_COLUMNS = {
    "truth.s_m": "float32",
    "truth.d_m": "float32",
    "truth.lane": "int64",
    "truth.heading_error_rad": "float32",
    "truth.x_m": "float32",
    "truth.y_m": "float32",
    "truth.yaw_rad": "float32",
    "truth.collision": "bool",
    "truth.off_road": "bool",
    "scenario": "string",
    "seed": "int64",
    "intent": "string",
    "verdict": "string",
}
# What a Donkey tub knows besides pictures and the human's hands.
TUB_COLUMNS = {"source.index": "int64", "source.time_s": "float64"}
_ARROW = {
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}


class DatasetError(RuntimeError):
    """A dataset that cannot be written, read or gone on with; the message says where, why and what to do."""


def vector(names: tuple[str, ...]) -> dict:
    """Feature of a float32 vector with named elements."""
    return {"dtype": "float32", "shape": [len(names)], "names": list(names)}


def camera(height: int, width: int, fps: int) -> dict:
    """Feature of a video. Raises DatasetError for sizes that its pixel format cannot hold."""
    if height % 2 or width % 2:
        raise DatasetError(f"pictures of {width} x {height} px cannot be kept as video: both must be even")
    about = {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.fps": fps,
        "video.channels": 3,
        "is_depth_map": False,
        "has_audio": False,
    }
    return {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"], "info": about}


def features(
    fps: int,
    picture: tuple[int, int] | None,
    extra: dict[str, str],
    state_names: tuple[str, ...] = STATE_NAMES,
) -> dict[str, dict]:
    """All features of a dataset of ours. `picture` (height, width) or None for a world without a camera; `extra` are
    columns of one value each, name -> type."""
    found = {CAMERA: camera(*picture, fps)} if picture else {}
    found |= {STATE: vector(state_names), ACTION: vector(ACTION_NAMES)}
    scalars = {**extra, **DEFAULT_COLUMNS}
    return found | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in scalars.items()}


def empty_info(fps: int, found: dict[str, dict], robot: str) -> dict:
    """info.json of a dataset without episodes."""
    return {
        "codebase_version": VERSION,
        "robot_type": robot,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": CHUNK_SIZE,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if video_keys(found) else None,
        "features": found,
    }


def video_keys(found: dict[str, dict]) -> list[str]:
    """Names of the features kept as video."""
    return [name for name, feature in found.items() if feature["dtype"] == "video"]


def data_schema(found: dict[str, dict]) -> pa.Schema:
    """Columns of a data file: every feature that is not a video. Raises DatasetError for a type that we cannot hold."""
    return pa.schema([(name, _arrow_type(name, f)) for name, f in found.items() if f["dtype"] != "video"])


def _arrow_type(name: str, feature: dict) -> pa.DataType:
    kind, shape = _ARROW.get(feature["dtype"]), list(feature["shape"])
    if kind is None or len(shape) != 1:
        raise DatasetError(f"feature {name!r}: type {feature['dtype']!r} of shape {shape} is not supported")
    return kind if shape == [1] else pa.list_(kind, shape[0])


def place(episode: int) -> tuple[int, int]:
    """(chunk_index, file_index) of the file that holds an episode of ours."""
    return episode // CHUNK_SIZE, episode % CHUNK_SIZE


def files_of(episode: int, keys: list[str]) -> dict[str, str]:
    """Relative paths of an episode of ours: "episodes", "data", and one for each video key."""
    chunk, file = place(episode)
    paths = {key: VIDEO_PATH.format(video_key=key, chunk_index=chunk, file_index=file) for key in keys}
    where = {"chunk_index": chunk, "file_index": file}
    return {**paths, "data": DATA_PATH.format(**where), "episodes": EPISODES_PATH.format(**where)}


def tasks_table(tasks: list[str]) -> pa.Table:
    """tasks.parquet: the text is the index of a pandas frame, `task_index` its one column."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    column = {"metadata": None, "pandas_type": "int64", "numpy_type": "int64"}
    text = {"metadata": None, "pandas_type": "unicode", "numpy_type": "object"}
    about = {
        "index_columns": ["task"],
        "column_indexes": [{"name": None, "field_name": None, **text, "metadata": {"encoding": "UTF-8"}}],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **column},
            {"name": "task", "field_name": "task", **text},
        ],
        "pandas_version": "2.2.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(about)})


def inside(folder: Path, relative: str) -> Path:
    """A path of a dataset's own. Raises DatasetError when it leads out of the folder."""
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DatasetError(f"{folder}: the path {relative!r} leads out of the dataset")
    return path

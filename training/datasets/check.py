"""Is a dataset whole? Counts, indices, times, types, tasks, statistics and every picture, read back from the files.

Errors are what would mislead a reader; notes are what a killed writer left, which counts for nothing. Knows nothing
of how a dataset is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from training.datasets.layout import ACTION, STATS, DatasetError, data_schema
from training.datasets.read import Dataset, Episode, load_episodes, load_json
from training.datasets.stats import PictureStats, column_stats, differences, from_plain, merge_all, stats_of_row

TIME_TOLERANCE_S = 1e-4  # as strict as the format's own reader
STATS_TOLERANCE = 1e-4
PICTURE_TOLERANCE = 0.04  # of full brightness: video is lossy
SAMPLE_TOLERANCE = 0.15  # where the statistics are of other pictures of the episode than ours would be
MAX_ERRORS = 50
_NUMPY = {"float32": "float32", "float64": "float64", "int64": "int64", "bool": "bool"}


@dataclass
class CheckReport:
    """What was found. `ok` when there is no error."""

    folder: str
    episodes: int = 0
    frames: int = 0
    pictures: int = 0
    tasks: int = 0
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.errors

    def to_dict(self) -> dict:
        """JSON-ready."""
        return {"ok": self.ok, **self.__dict__}


def check_dataset(
    folder: str | Path, *, pictures: bool = True, on_episode: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Read all of a dataset. `pictures` False leaves the videos closed. `on_episode(done, total)` tells of progress.
    Raises nothing for a dataset that is broken: the report says what is."""
    report = CheckReport(str(folder))
    try:
        dataset = Dataset(folder)
        schema = data_schema(dataset.features)
    except DatasetError as error:
        report.errors.append(str(error))
        return report
    report.tasks, first = len(dataset.tasks), 0
    for index in range(len(dataset)):
        row = dataset.episodes[index]
        try:
            first = _check_episode(dataset, row, index, first, schema, report, pictures)
        except (DatasetError, KeyError, ValueError, TypeError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            report.errors.append(f"episode {index}: {what}")
            first = row.get("dataset_to_index", first)
        if on_episode:
            on_episode(index + 1, len(dataset))
        if len(report.errors) >= MAX_ERRORS:
            report.notes.append("more errors may follow; ended here")
            return report
    _check_counts(dataset, report)
    _check_stats(dataset, report)
    return report


def _check_counts(dataset: Dataset, report: CheckReport) -> None:
    info = dataset.info
    for name, counted, found in (
        ("total_episodes", info["total_episodes"], report.episodes),
        ("total_frames", info["total_frames"], report.frames),
    ):
        if counted != found:
            report.errors.append(f"info.json: {name} is {counted}, found {found}")
    if len(dataset.tasks) < info.get("total_tasks", 0):
        report.errors.append(f"info.json: total_tasks is {info['total_tasks']}, tasks.parquet has {len(dataset.tasks)}")
    elif len(dataset.tasks) > info.get("total_tasks", 0):
        report.notes.append("tasks.parquet holds a task of an episode that was not finished")
    if left := len(load_episodes(dataset.folder)) - len(dataset):
        report.notes.append(
            f"{left} episode written whole but not counted yet: `pacenote collect --resume` takes it in"
        )


def _check_stats(dataset: Dataset, report: CheckReport) -> None:
    """stats.json against the episodes' own; one that is an uncounted episode ahead is as good."""
    if not len(dataset) or report.errors:
        return
    try:
        plain = from_plain(load_json(dataset.folder / STATS))
    except DatasetError as error:
        report.errors.append(str(error))
        return
    rows = load_episodes(dataset.folder)
    parting = []
    for count in range(len(dataset), len(rows) + 1):
        merged = merge_all([stats_of_row(row) for row in rows[:count]])
        parting = [
            f"stats.json: {name}: {', '.join(keys)} {'differ' if name in plain else 'missing'}"
            for name, own in merged.items()
            if (keys := differences(own, plain.get(name, {}), STATS_TOLERANCE))
        ]
        if not parting:
            return
    report.errors += parting


def _check_episode(
    dataset: Dataset, row: dict, index: int, first: int, schema: pa.Schema, report: CheckReport, pictures: bool
) -> int:
    """Returns the dataset index after this episode's last frame."""
    episode = dataset.episode(index)
    errors = [*_row_errors(row, len(episode), first), *_column_errors(episode, schema, dataset.features, first)]
    if sorted(set(episode.tasks)) != sorted(row["tasks"]):
        errors.append(f"meta names tasks {sorted(row['tasks'])}, its rows {sorted(set(episode.tasks))}")
    errors += _stats_errors(episode, row, schema)
    if pictures:
        for camera in episode.videos:
            errors += _picture_errors(episode, camera, row, dataset.features[camera]["shape"])
            report.pictures += len(episode)
    report.errors += [f"episode {index}: {error}" for error in errors]
    report.episodes += 1
    report.frames += len(episode)
    return first + len(episode)


def _row_errors(row: dict, frames: int, first: int) -> list[str]:
    wanted = {"length": frames, "dataset_from_index": first, "dataset_to_index": first + frames}
    return [f"meta says {name} {row[name]}, found {value}" for name, value in wanted.items() if row[name] != value]


def _column_errors(episode: Episode, schema: pa.Schema, features: dict, first: int) -> list[str]:
    if lacking := sorted(set(schema.names) ^ set(episode.columns)):
        return [f"columns of the data file and of info.json differ: {', '.join(lacking)}"]
    n, errors = len(episode), []
    for name, values in episode.columns.items():
        dtype, shape = features[name]["dtype"], list(features[name]["shape"])
        if values.shape != (n, *(() if shape == [1] else shape)) or (dtype in _NUMPY and values.dtype != _NUMPY[dtype]):
            errors.append(f"{name} is {values.dtype} {values.shape}, info.json says {dtype} {shape}")
        elif dtype in ("float32", "float64") and not np.isfinite(values).all():
            errors.append(f"{name} is not finite at frame {int(np.argwhere(~np.isfinite(values))[0][0])}")
    if errors:
        return errors
    counted = {"frame_index": np.arange(n), "index": np.arange(first, first + n)}
    counted["episode_index"] = np.full(n, episode.index)
    errors += [f"{name} does not count on" for name, own in counted.items() if (episode.columns[name] != own).any()]
    late = np.abs(episode.columns["timestamp"] - np.arange(n) / episode.fps) > TIME_TOLERANCE_S
    if late.any():
        errors.append(f"timestamp of frame {int(np.argmax(late))} is not its number / {episode.fps}")
    if ACTION in episode.columns and (np.abs(episode.actions) > 1.0).any():
        errors.append(f"action beyond [-1, 1] at frame {int(np.argwhere(np.abs(episode.actions) > 1.0)[0][0])}")
    return errors


def _stats_errors(episode: Episode, row: dict, schema: pa.Schema) -> list[str]:
    noted, errors = stats_of_row(row), []
    for column in schema:
        if column.type == pa.string() or column.name not in episode.columns or not len(episode):
            continue
        if column.name not in noted:
            errors.append(f"no statistics of {column.name}")
        elif parting := differences(column_stats(episode.columns[column.name]), noted[column.name], STATS_TOLERANCE):
            errors.append(f"statistics of {column.name} differ: {', '.join(parting)}")
    return errors


def _picture_errors(episode: Episode, camera: str, row: dict, shape: list[int]) -> list[str]:
    """Number, times, size, and the mean brightness of the pictures against the statistics."""
    again, errors = PictureStats(), []
    for number, (at_s, image) in enumerate(episode.timed_images(camera)):
        if list(image.shape) != list(shape):
            return [f"{camera}: picture {number} is {image.shape}, info.json says {shape}"]
        if abs(at_s - number / episode.fps) > TIME_TOLERANCE_S:
            return [f"{camera}: picture {number} stands at {at_s:.4f} s, its row at {number / episode.fps:.4f} s"]
        again.add(image)
    noted = stats_of_row(row).get(camera)
    if noted is None:
        return [f"no statistics of {camera}"]
    ours = again.result()
    off = np.abs(noted["mean"] - ours["mean"])
    if off.max() > (PICTURE_TOLERANCE if noted["count"] == ours["count"] else SAMPLE_TOLERANCE):
        errors.append(f"{camera}: mean brightness is {off.max():.2f} off its statistics; other pictures?")
    at = f"videos/{camera}/"
    if abs(row[at + "to_timestamp"] - row[at + "from_timestamp"] - len(episode) / episode.fps) > 0.5 / episode.fps:
        errors.append(f"{camera}: meta's times do not hold {len(episode)} pictures")
    return errors

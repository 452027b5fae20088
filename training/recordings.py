"""Recorded camera frames from elsewhere: a run folder of ours, a Donkey tub (v2), or records.jsonl beside images.

Knows file layouts only. Steering comes out in our sign (positive left); Donkey writes positive right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cockpit.runs import Run, RunError

MAX_IMAGE_BYTES = 4_000_000


class RecordingError(RuntimeError):
    """A source that cannot be read; the message says where and why."""


@dataclass(frozen=True)
class RecordedFrame:
    """One frame. `steering` in [-1, 1], positive left, and `throttle` in [-1, 1] of whoever drove, where known;
    `speed_mps` where it was measured; `time_s` (of the recorder's clock) and `session` where they were written down."""

    index: int
    image: Path
    steering: float | None = None
    throttle: float | None = None
    speed_mps: float | None = None
    time_s: float | None = None
    session: str | None = None

    def jpeg(self) -> bytes:
        """The encoded picture. Raises RecordingError when it is missing or implausibly large."""
        if not self.image.is_file():
            raise RecordingError(f"frame {self.index}: no picture at {self.image}")
        if self.image.stat().st_size > MAX_IMAGE_BYTES:
            raise RecordingError(f"frame {self.index}: {self.image} is larger than {MAX_IMAGE_BYTES} bytes")
        return self.image.read_bytes()


def open_recording(source: str | Path) -> list[RecordedFrame]:
    """Frames of a source in order of time. Raises RecordingError for a source of none of the three kinds."""
    folder = Path(source)
    if folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        raise RecordingError(f"no recording at {source}")
    if (folder / "records.jsonl").is_file():
        frames = list(_records(folder))
    elif (folder / "manifest.json").is_file():
        frames = list(_tub(folder))
    elif (folder / "run.json").is_file():
        frames = list(_run(folder))
    else:
        raise RecordingError(
            f"{folder} holds no recording: expected records.jsonl and images/, or manifest.json and catalogs of a "
            "Donkey tub (v2), or run.json and frames/ (`pacenote drive --keep-frames`)"
        )
    if not frames:
        raise RecordingError(f"{folder}: the recording has no frames")
    return frames


def _json_lines(path: Path) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise RecordingError(f"{path}, line {number}: not JSON: {error}") from error


def _inside(folder: Path, name: object, where: str) -> Path:
    """Path of a picture, which must lie in the recording's own folder."""
    path = (folder / str(name)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise RecordingError(f"{where}: picture {name!r} lies outside {folder}")
    return path


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _donkey_frame(folder: Path, record: object, where: str, keys: tuple[str, str, str, str]) -> RecordedFrame:
    index_key, image_key, angle_key, throttle_key = keys
    if not isinstance(record, dict) or image_key not in record:
        raise RecordingError(f"{where}: expected an object with {image_key!r}")
    angle, time_ms = _number(record.get(angle_key)), _number(record.get("_timestamp_ms"))
    session = record.get("_session_id")
    return RecordedFrame(
        index=int(record.get(index_key, 0)),
        image=_inside(folder, record[image_key], where),
        steering=None if angle is None else -angle,
        throttle=_number(record.get(throttle_key)),
        time_s=None if time_ms is None else time_ms / 1000.0,
        session=None if session is None else str(session),
    )


def _records(folder: Path) -> Iterator[RecordedFrame]:
    path = folder / "records.jsonl"
    for number, record in _json_lines(path):
        yield _donkey_frame(folder, record, f"{path}, line {number}", ("index", "image", "user_angle", "user_throttle"))


def _tub(folder: Path) -> Iterator[RecordedFrame]:
    """Tub v2: the last line of manifest.json names the catalogs and the deleted records."""
    lines = [value for _, value in _json_lines(folder / "manifest.json")]
    tail = lines[-1] if lines else None
    if not isinstance(tail, dict) or not isinstance(tail.get("paths"), list):
        raise RecordingError(f"{folder / 'manifest.json'}: no list of catalogs in its last line; is this a tub v2?")
    deleted = set(tail.get("deleted_indexes", ()))
    images = folder / "images"
    for name in tail["paths"]:
        catalog = _inside(folder, name, "manifest.json")
        if not catalog.is_file():
            raise RecordingError(f"{folder}: catalog {name} is missing")
        for number, record in _json_lines(catalog):
            keys = ("_index", "cam/image_array", "user/angle", "user/throttle")
            frame = _donkey_frame(images, record, f"{catalog}, line {number}", keys)
            if frame.index not in deleted:
                yield frame


def _run(folder: Path) -> Iterator[RecordedFrame]:
    pictures = sorted((folder / "frames").glob("*.jpg"))
    if not pictures:
        raise RecordingError(f"{folder} kept no frames; drive with --keep-frames to be able to replay it")
    try:
        columns = Run(folder).telemetry()
    except RunError as error:
        raise RecordingError(str(error)) from error
    rows = {tick: i for i, tick in enumerate(columns.get("tick", ()))}
    for picture in pictures:
        tick = int(picture.stem)
        row = rows.get(tick)
        if row is None:
            yield RecordedFrame(tick, picture)
            continue
        yield RecordedFrame(
            tick, picture, columns["steering"][row], columns["throttle"][row], columns["speed_mps"][row]
        )

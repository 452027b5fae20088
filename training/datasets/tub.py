"""Donkey tubs (v2), and records.jsonl beside images, made into a LeRobot v3.0 dataset.

A tub is one long row of records; here an episode ends where the session does, where records were deleted, where time
jumps, and where a picture cannot be read. Steering is turned round (a tub's positive is right). A tub's throttle is
taken as our acceleration, whose positive half is the throttle. Speed is not in a tub and not made up: the state is the
steering of the frame before.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from training.datasets import layout
from training.datasets.layout import ACTION, STATE, DatasetError
from training.datasets.write import DatasetWriter
from training.recordings import RecordedFrame, RecordingError, open_recording
from training.replay import decode

DEFAULT_RATE_HZ = 20  # the drive loop of a Donkey car, unless its configuration says otherwise
GAP_S = 1.0
SHORTEST = 2  # frames


def import_tub(
    source: str | Path,
    out: str | Path,
    *,
    task: str = layout.NO_COMMAND,
    rate_hz: int | None = None,
    resume: bool = False,
    on_frame: Callable[[int, int], None] | None = None,
) -> dict:
    """Returns {"folder", "episodes", "frames", "fps", "notes"}. `rate_hz`: frames per second; by default from the
    record's own times, or 20. Goes on where an import was killed (`resume`). Raises RecordingError for a source that
    cannot be read, DatasetError for a dataset that cannot be written."""
    if (Path(source) / "run.json").is_file():
        raise RecordingError(
            f"{source} is a run folder, not a tub; `pacenote collect` records driving in a world itself"
        )
    frames = open_recording(source)
    notes: list[str] = []
    driven = [f for f in frames if f.steering is not None and f.throttle is not None]
    if len(driven) < len(frames):
        notes.append(f"{len(frames) - len(driven)} records without steering and throttle left out")
    if not driven:
        raise RecordingError(f"{source}: no record has user/angle and user/throttle")
    fps = _rate(driven, rate_hz, notes)
    timed = all(f.time_s is not None for f in driven)
    image, _ = decode(driven[0])
    extra = {name: kind for name, kind in layout.TUB_COLUMNS.items() if timed or name != "source.time_s"}
    features = layout.features(fps, image.shape[:2], extra, state_names=("steering",))
    done, unread = 0, 0
    with DatasetWriter(out, fps, features, "donkey", resume=resume) as writer:
        ends = [e["pacenote/last_index"] for e in writer.episodes]
        position = next((k + 1 for k, f in enumerate(driven) if ends and f.index == ends[-1]), 0)
        if ends and not position:
            raise DatasetError(f"{out} was not made from {source}: it ends at record {ends[-1]}, which is not there")
        for part in _parts(driven[position:]):
            unread += _write(writer, part, task, timed)
            done += len(part)
            if on_frame:
                on_frame(position + done, len(driven))
        result = {"folder": str(out), "episodes": len(writer), "frames": writer.info["total_frames"], "fps": fps}
    if not result["episodes"]:
        raise RecordingError(f"{source}: no stretch of {SHORTEST} records in a row with pictures that can be read")
    if unread:
        notes.append(f"{unread} pictures that could not be read left out")
    return result | {"notes": notes}


def _rate(frames: list[RecordedFrame], rate_hz: int | None, notes: list[str]) -> int:
    """Frames per second. Raises RecordingError for a rate that cannot be."""
    times = [f.time_s for f in frames if f.time_s is not None]
    steps = np.diff(times)
    steps = steps[(steps > 0.0) & (steps < GAP_S)]
    if rate_hz is None and len(steps):
        rate_hz = round(1.0 / float(np.median(steps)))
        notes.append(f"rate from the records' times: {rate_hz} Hz (median step {1000 * np.median(steps):.1f} ms)")
    elif rate_hz is None:
        rate_hz = DEFAULT_RATE_HZ
        notes.append(f"the records have no times; taken as {rate_hz} Hz (say --rate where that is wrong)")
    if not 1 <= rate_hz <= 200:
        raise RecordingError(f"{rate_hz} frames per second cannot be; give --rate between 1 and 200")
    return rate_hz


def _parts(frames: list[RecordedFrame]) -> list[list[RecordedFrame]]:
    """Stretches without a gap."""
    parts: list[list[RecordedFrame]] = []
    for frame in frames:
        before = parts[-1][-1] if parts else None
        if before is None or _parted(before, frame):
            parts.append([])
        parts[-1].append(frame)
    return parts


def _parted(before: RecordedFrame, frame: RecordedFrame) -> bool:
    jump_s = 0.0 if frame.time_s is None or before.time_s is None else frame.time_s - before.time_s
    return frame.index != before.index + 1 or frame.session != before.session or not 0.0 <= jump_s <= GAP_S


def _write(writer: DatasetWriter, frames: list[RecordedFrame], task: str, timed: bool) -> int:
    """Episodes of a stretch without a gap; returns the number of pictures that could not be read."""
    episode, torn, steering, first, last = writer.new_episode(), 0, None, 0, 0

    def end():
        if len(episode) < SHORTEST:
            episode.drop()
            return
        episode.save({"driver": "human", "world": "real", "first_index": first, "last_index": last})

    for frame in frames:
        try:
            image, _ = decode(frame)
        except RecordingError:
            torn += 1
            end()
            episode, steering = writer.new_episode(), None
            continue
        action = [float(np.clip(value, -1.0, 1.0)) for value in (frame.steering, frame.throttle)]
        steering = action[0] if steering is None else steering
        row = {STATE: [steering], ACTION: action, "source.index": frame.index}
        if timed:
            row["source.time_s"] = frame.time_s
        first, last = (frame.index if not len(episode) else first), frame.index
        episode.add(row, task, image)
        steering = action[0]
    end()
    return torn

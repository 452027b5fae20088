"""Pictures for the README from a run's film: `python -m training.figures [RUN]` (the latest run by default)."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import cv2
import numpy as np

from cockpit.runs import Run, find_run

TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "drive.jpg"
WIDTH_PX = 960


def moments(run: Run, count: int = 3) -> list[float]:
    """Times [s] worth a picture: some seconds after each command of the run, and the middle where there is none."""
    at = [event["t_s"] + 3.0 for event in run.events() if event["event"] == "command"]
    return (at or [run.meta.get("duration_s", 10.0) / 2])[:count]


def pictures(run: Run, times_s: list[float]) -> list[np.ndarray]:
    """Frames (h, w, 3) RGB of front.mp4 at the given times since the car began to drive."""
    rows = run.telemetry()
    start = next((k for k, t in enumerate(rows["t_s"]) if t > 0.0), 0)
    with av.open(str(run.folder / "front.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    per_tick = len(frames) / len(rows["t_s"])
    ticks = [start + int(np.searchsorted(rows["t_s"][start:], t)) for t in times_s]
    return [frames[min(int(tick * per_tick), len(frames) - 1)] for tick in ticks]


def main() -> None:
    """Write docs/images/drive.jpg."""
    run = find_run(sys.argv[1] if len(sys.argv) > 1 else None)
    strip = np.vstack(pictures(run, moments(run)))
    scale = WIDTH_PX / strip.shape[1]
    small = cv2.resize(strip, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(TARGET), small[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 88))
    print(f"written: {TARGET} from {run.folder}")


if __name__ == "__main__":
    main()

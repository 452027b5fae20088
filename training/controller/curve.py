"""Draws the training curve from the log. Knows the log's columns only."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np

PANELS = ("flow", "steer_mae", "accel_mae", "lane_m")
SIZE = (640, 200)  # pixels of one panel
MARGIN = 50


def write_curve(log: str | Path, folder: str | Path, name: str = "controller-flow") -> Path:
    """Copy the log to `folder`/`name`.csv and draw it as `name`.png; returns the picture's path.

    Raises FileNotFoundError without a log."""
    log, folder = Path(log), Path(folder)
    with log.open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log, folder / f"{name}.csv")
    minutes = np.array([row["minutes"] for row in rows])
    picture = np.vstack([_panel(minutes, np.array([row[key] for row in rows]), key) for key in PANELS])
    path = folder / f"{name}.png"
    cv2.imwrite(str(path), picture)
    return path


def _panel(x: np.ndarray, y: np.ndarray, title: str) -> np.ndarray:
    width, height = SIZE
    image = np.full((height, width, 3), 255, np.uint8)
    if len(x) == 0:
        return image
    logs = np.log10(np.maximum(y, 1e-6))
    low, high = logs.min(), max(logs.max(), logs.min() + 1e-3)
    px = MARGIN + (x - x[0]) / max(x[-1] - x[0], 1e-6) * (width - 2 * MARGIN)
    py = 30 + (high - logs) / (high - low) * (height - 60)
    points = np.column_stack([px, py]).round().astype(np.int32)
    cv2.polylines(image, [points[:, None]], False, (160, 70, 20), 1, cv2.LINE_AA)
    text = f"{title} (log): {y[0]:.3g} -> {y[-1]:.3g} in {x[-1]:.0f} min, lowest {y.min():.3g}"
    cv2.putText(image, text, (MARGIN, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.rectangle(image, (MARGIN, 30), (width - MARGIN, height - 30), (200, 200, 200), 1)
    return image

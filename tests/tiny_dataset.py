"""Episodes so small that a test can write many; what is in each follows from its number. Also a process that writes
them without end, to be killed: `python tests/tiny_dataset.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.datasets import layout, write

FPS, HEIGHT, WIDTH = 30, 32, 48
COLUMNS = {"truth.s_m": "float32", "truth.lane": "int64", "truth.collision": "bool", "scenario": "string"}


def length_of(number: int) -> int:
    return 4 + number % 3


def tasks_of(number: int) -> list[str]:
    return [layout.NO_COMMAND if k < 2 else f"drive at 1.{number % 4} m/s" for k in range(length_of(number))]


def row_of(number: int, k: int) -> dict:
    return {
        layout.STATE: [1.0 + number, 0.1 * k, -0.5],
        layout.ACTION: [round(np.sin(number + k), 4), 0.25],
        "truth.s_m": number + k / 10,
        "truth.lane": number % 2,
        "truth.collision": k == 3,
        "scenario": f"scene {number}",
    }


def image_of(number: int, k: int) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), (40 + 10 * (number % 10), 80, 120), np.uint8)
    image[:, 4 * k : 4 * k + 8] = 220
    return image


def open_writer(folder, resume: bool = False) -> write.DatasetWriter:
    features = layout.features(FPS, (HEIGHT, WIDTH), COLUMNS)
    return write.DatasetWriter(folder, FPS, features, "tiny", resume=resume)


def add_episode(writer: write.DatasetWriter) -> int:
    """The next episode; its number is its index."""
    number, episode = len(writer), writer.new_episode()
    for k, task in enumerate(tasks_of(number)):
        episode.add(row_of(number, k), task, image_of(number, k))
    return episode.save({"number": number})


def make(folder, episodes: int) -> None:
    with open_writer(folder) as writer:
        for _ in range(episodes):
            add_episode(writer)


def main(folder: str) -> None:
    """A line before and after every file that goes into place, and after every episode."""
    into_place = write._into_place

    def told(source, target):
        print("placing", target.name, flush=True)
        into_place(source, target)
        print("placed", target.name, flush=True)

    write._into_place = told
    with open_writer(folder, resume=True) as writer:
        print("opened", len(writer), flush=True)
        while True:
            print("saved", add_episode(writer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

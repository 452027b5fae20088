"""Speed of world `track` beside Gymnasium's CarRacing-v3, interleaved in the same run.

    python -m benchmarks.bench_world [--json FILE] [--rounds 3] [--quick]

Both sides run as their users run them: CarRacing-v3 in one process with its 96 x 96 pixels, `track` batched on all
cores.
Times are the best of the rounds, so that other load on the machine hurts both alike.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from sims.random_road import random_road
from sims.track import TrackVectorEnv

# name, camera, environments
CASES = (("160x120 camera", (160, 120), 256), ("64x48 camera", (64, 48), 1024), ("no camera", None, 4096))


def _actions(count):
    return np.random.default_rng(0).uniform(-1, 1, (count, 2)) * [0.3, 0.4] + [0.0, 0.3]


def _timed(step, steps):
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


class _CarRacing:
    """The peer: 96 x 96 state pixels in every step."""

    def __init__(self):
        import gymnasium as gym

        self.env = gym.make("CarRacing-v3")
        self.env.reset(seed=0)
        self.action = np.array([0.0, 0.3, 0.0], dtype=np.float32)

    def step(self):
        _, _, terminated, truncated, _ = self.env.step(self.action)
        if terminated or truncated:
            self.env.reset()


def _world(size, count, roads):
    env = TrackVectorEnv(count, roads, camera_size=size, randomize=1.0)
    actions = _actions(count)
    env.step(actions)
    return lambda: env.step(actions)


def against_peer(rounds: int, seconds: float = 1.0) -> list[dict]:
    """Environment steps per second of each camera size, ours and the peer's, best of interleaved rounds."""
    roads = [random_road(k) for k in range(16)]
    peer = _CarRacing()
    _timed(peer.step, 20)
    worlds = [_world(size, count, roads) for _, size, count in CASES]
    repeats = [max(1, int(seconds / max(_timed(step, 2), 1e-4))) for step in worlds]
    best, best_peer = [np.inf] * len(CASES), np.inf
    for _ in range(rounds):
        for k, step in enumerate(worlds):
            best_peer = min(best_peer, _timed(peer.step, 100))
            best[k] = min(best[k], _timed(step, repeats[k]))
    rows = []
    for (name, _, count), seconds_per_step in zip(CASES, best, strict=True):
        ours, theirs = count / seconds_per_step, 1.0 / best_peer
        rows.append(
            {"name": f"track {name}", "ours": ours, "peer": theirs, "unit": "env steps/s", "ratio": ours / theirs}
        )
    return rows


def by_number(sizes=(None, (64, 48)), counts=(1, 8, 64, 512, 4096), rounds: int = 3) -> list[dict]:
    """Microseconds per environment and step over the number of environments; ratio against the largest number."""
    roads = [random_road(k) for k in range(16)]
    rows = []
    for size in sizes:
        cost = []
        for count in counts:
            step = _world(size, count, roads)
            repeats = max(2, int(0.2 / max(_timed(step, 1), 1e-5)))
            cost.append(min(_timed(step, repeats) for _ in range(rounds)) / count * 1e6)
        label = "no camera" if size is None else f"{size[0]}x{size[1]}"
        for n, us in zip(counts, cost, strict=True):
            name = f"track {label}, {n} envs"
            rows.append({"name": name, "ours": us, "peer": cost[-1], "unit": "us per env step", "ratio": us / cost[-1]})
    return rows


def placed_scenes(count: int = 256) -> dict:
    """Fresh scenes per second on one thread: new look and camera, new place, picture of 160 x 120."""
    env = TrackVectorEnv(count, [random_road(k) for k in range(16)], parallel=False)
    rng = np.random.default_rng(0)
    which = np.arange(count)

    def scenes():
        env.randomize_look()
        road = rng.integers(0, 16, count)
        env.place_many(which, road, rng.uniform(0, 1, count) * env.bank.meta["length"][road], 0.0, 0.0, 1.0)
        env.render()

    scenes()
    rate = count / min(_timed(scenes, 1) for _ in range(4))
    name = "fresh placed scenes, 1 thread, against the aim"
    return {"name": name, "ours": rate, "peer": 1500.0, "unit": "scenes/s", "ratio": rate / 1500.0}


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="write the list of results to this file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="only against the peer")
    arguments = parser.parse_args()
    rows = against_peer(arguments.rounds)
    if not arguments.quick:
        rows += [placed_scenes(), *by_number()]
    for row in rows:
        figures = f"{row['ours']:12.1f} {row['unit']:16s} peer {row['peer']:10.1f}  ratio {row['ratio']:9.2f}"
        print(f"{row['name']:48s} {figures}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()

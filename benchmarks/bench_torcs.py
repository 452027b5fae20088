"""Speed of the world `torcs`: steps a second without a camera, pictures a second with one, several games side by side.

    python -m benchmarks.bench_torcs [--json FILE] [--track NAME ...] [--seconds 2]

`cpu_ms` is the processor time of game and Python together for one step; on a machine that does other work beside, it
tells more than the rate. The camera is the profile's (fisheye, resampled from a wider picture) and TORCS's own pinhole.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import psutil

from bridge.messages import CameraModel
from sims.scenarios import make_scenario
from sims.torcs.batch import TorcsBatch
from sims.torcs.spec import PROFILE, SPEC
from sims.worlds import find_world

SIZE = (160, 120)
PINHOLE = CameraModel(lens="pinhole", hfov_rad=1.4, x_m=2.1, z_m=1.2, pitch_rad=0.05)


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(p.cpu_times()[:2]) for p in processes)


def measure(name: str, track: str, games: int, camera: CameraModel | None, seconds: float) -> dict:
    """Steps a second of `games` side by side."""
    size = SIZE if camera else None
    profile = PROFILE.model_copy(update={"camera": camera}) if camera else None
    batch = TorcsBatch(camera_size=size, randomize=0.0, profile=profile)
    try:
        road = SPEC.road(track, 0)
        batch.start([make_scenario("follow_lane", road, k, profile=PROFILE) for k in range(games)], list(range(games)))
        actions, which = np.tile([0.0, 0.05], (games, 1)), list(range(games))
        for _ in range(5):
            batch.step(actions, which)
        processes = [psutil.Process(), *psutil.Process().children()]
        begin, cpu, steps = time.perf_counter(), _cpu_s(processes), 0
        while time.perf_counter() - begin < seconds:
            for _ in range(5):
                batch.step(actions, which)
            steps += 5 * games
        wall, cpu = time.perf_counter() - begin, _cpu_s(processes) - cpu
    finally:
        batch.close()
    return {
        "name": f"{name}, {track}, {games} game{'s' * (games > 1)}",
        "per_s": round(steps / wall, 1),
        "cpu_ms": round(1e3 * cpu / steps, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--track", nargs="*", default=["g-track-1", "aalborg", "forza"])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--json", help="write the results to this file")
    arguments = parser.parse_args()
    find_world("torcs")
    cases = [("no camera", arguments.track[0], 1, None)]
    for track in arguments.track:
        cases += [("160x120 fisheye", track, 1, PROFILE.camera), ("160x120 pinhole", track, 1, PINHOLE)]
    cases.append(("160x120 fisheye", arguments.track[0], 2, PROFILE.camera))
    results = []
    for case in cases:
        results.append(measure(*case, arguments.seconds))
        print("{name:40s} {per_s:9.1f} /s   {cpu_ms:7.3f} ms of CPU".format(**results[-1]), flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()

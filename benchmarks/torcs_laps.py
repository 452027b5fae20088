"""Laps of TORCS's tracks by the expert with pursuit: clean ones, their times, how well the lane was kept.

    python -m benchmarks.torcs_laps [--json FILE] [--track NAME ...] [--longest 8000]

A lap is clean when it is driven to its end without a wheel off the road and without a contact. No other cars, no
camera; lock-step, so that the figures (but the last) do not depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import numpy as np

from controller.policies import load_policy
from sims.scenarios import make_scenario
from sims.torcs.tracks import ROAD_TRACKS
from sims.world import WorldBatch
from sims.worlds import find_world
from training.backends import load_backend
from training.evaluate import EvaluateSettings, run_one


class _Watch:
    """Speeds and distances from the lane's centre, every step."""

    needs_image = False

    def __init__(self):
        self.speeds_mps, self.offsets_m = [], []

    def __call__(self, tick, episode, world, slot):
        truth = world.truth(slot)
        self.speeds_mps.append(truth.speed_mps)
        self.offsets_m.append(abs(truth.d_m - truth.lane_center_d_m(truth.lane)))


def lap(track: str, seed: int = 0) -> dict:
    """One lap from a standing point of the track chosen by the seed, back to it."""
    spec = find_world("torcs")
    road = spec.road(track, seed)
    scenario = make_scenario("follow_lane", road, seed, profile=spec.profile)
    params = {**scenario.params, "distance_m": road.length_m}
    scenario = replace(
        scenario, actors=(), params=params, duration_s=10.0 + road.length_m / (0.3 * scenario.cruise_mps)
    )
    settings = EvaluateSettings(world="torcs", suite="follow_lane", episodes=1)
    world, watch, begin = WorldBatch(spec, camera_size=None, randomize=0.0), _Watch(), time.perf_counter()
    try:
        policy = load_policy("pursuit", spec.profile)
        case = (scenario, seed)
        entry = run_one(
            case, settings, load_backend("expert"), policy, world, profile=spec.profile, sees=False, watch=watch
        )
    finally:
        world.close()
    return {
        "track": track,
        "clean": entry["success"],
        "reason": entry["reason"],
        "length_m": round(road.length_m, 1),
        "driven": round(entry["route_completion"], 4),
        "lap_s": round(entry["duration_s"], 2),
        "speed_mps": round(float(np.mean(watch.speeds_mps)), 2),
        "offset_mean_m": round(float(np.mean(watch.offsets_m)), 3),
        "offset_max_m": round(float(np.max(watch.offsets_m)), 3),
        "wall_s": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--track", nargs="*", help="TORCS tracks; all road tracks by default")
    parser.add_argument("--longest", type=float, default=8000.0, help="leave longer tracks out [m]")
    parser.add_argument("--json", help="write the results to this file")
    arguments = parser.parse_args()
    spec, laps = find_world("torcs"), []
    for track in arguments.track or ROAD_TRACKS:
        if not arguments.track and spec.road(track, 0).length_m > arguments.longest:
            print(f"{track:12s} left out: longer than {arguments.longest:.0f} m")
            continue
        laps.append(lap(track))
        print("{track:12s} {reason:24s} {lap_s:7.1f} s  {speed_mps:5.1f} m/s  off the middle of the lane "
              "{offset_mean_m:.2f} m in the mean, {offset_max_m:.2f} m at most  ({wall_s:.0f} s)".format(**laps[-1]),
              flush=True)  # fmt: skip
    print(f"clean: {sum(one['clean'] for one in laps)} of {len(laps)}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(laps, file, indent=1)


if __name__ == "__main__":
    main()

"""Speed of world `mujoco`: steps and pictures a second, pictures beside those of MuJoCo's own `Renderer` as it comes.

    python -m benchmarks.bench_mujoco [--json FILE] [--rounds 3]

The peer draws the same model from the same place at 160 x 120 with its defaults (one pinhole picture, shadows and
multisampling on, no lens); one without them is given too. Times are the best of interleaved rounds, one process.
"""

from __future__ import annotations

import argparse
import json
import os
import time

import numpy as np

from sims.mujoco.graphics import choose_backend
from sims.random_road import UNSEEN_ROADS, random_road
from sims.scenarios import make_scenario


def _rate(call, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return count / (time.perf_counter() - start)


def _peer(world, plain: bool):
    """MuJoCo's renderer on a fresh copy of the world's model, at the place of our camera."""
    import mujoco

    model, data = world._drive.model, world._drive.data
    kept = model.vis.quality.shadowsize, model.vis.quality.offsamples
    if not plain:
        model.vis.quality.shadowsize, model.vis.quality.offsamples = 4096, 4
    size = model.vis.global_.offwidth, model.vis.global_.offheight
    renderer = mujoco.Renderer(model, 120, 160)
    model.vis.quality.shadowsize, model.vis.quality.offsamples = kept
    model.vis.global_.offwidth, model.vis.global_.offheight = size
    if plain:
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    else:
        model.light_castshadow[:] = True
    camera = mujoco.MjvCamera()
    camera.lookat, camera.distance = data.xpos[1] + [3.0, 0.0, 0.0], 3.0
    camera.azimuth, camera.elevation = np.degrees(world._drive.yaw_rad), -5.0

    def draw():
        renderer.update_scene(data, camera)
        renderer.render()

    return draw


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="write the list of results to this file")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["MUJOCO_GL"] = choose_backend()  # before MuJoCo's own Renderer is imported
    from sims.mujoco.world import MujocoWorld

    scenario = make_scenario("overtake_left", random_road(UNSEEN_ROADS + 1, lanes=2), 0)
    blind, seeing = MujocoWorld(camera_size=None, randomize=0.5), MujocoWorld(randomize=0.5)
    blind.start(scenario, 0), seeing.start(scenario, 0)
    action = np.array([0.0, 0.05], np.float32)
    cases = {
        "steps": (lambda: blind.step(action), 300),
        "pictures": (seeing.render, 60),
        "plain": (_peer(seeing, True), 60),
        "default": (_peer(seeing, False), 20),
    }
    best = dict.fromkeys(cases, 0.0)
    for call, _ in cases.values():
        call()
    for _ in range(arguments.rounds):
        for name, (call, count) in cases.items():
            best[name] = max(best[name], _rate(call, count))
    times = best["steps"] / 30
    rows = [{"name": "mujoco no camera", "ours": times, "peer": 1.0, "unit": "x real time", "ratio": times}]
    for key, peer in (("default", "by default"), ("plain", "without shadows")):
        ours, theirs = best["pictures"], best[key]
        name = f"mujoco 160x120 fisheye, against its Renderer {peer}"
        rows.append({"name": name, "ours": ours, "peer": theirs, "unit": "pictures/s", "ratio": ours / theirs})
    for row in rows:
        figures = f"{row['ours']:10.1f} {row['unit']:12s} peer {row['peer']:8.1f}  ratio {row['ratio']:7.2f}"
        print(f"{row['name']:64s} {figures}")
    seeing.close()
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()

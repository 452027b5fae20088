"""The same scenes through the cameras of `track` (left) and `mujoco` (right), for eyes.

python -m sims.mujoco.compare --out docs/worlds
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import typer

from sims.mujoco.world import MujocoWorld
from sims.random_road import UNSEEN_ROADS, random_road
from sims.scenarios import Scenario, ScenarioError, make_scenario
from sims.track import TrackEnv

NAMES = ("overtake_left", "avoid_obstacle", "follow_lane", "keep_left", "follow_vehicle", "overtake_blocked")
COLUMNS = 2


def scenario(name: str, seed: int) -> Scenario:
    """One of that name on the first random road that can host it."""
    for k in range(50):
        try:
            return make_scenario(name, random_road(UNSEEN_ROADS + 100 * seed + k), seed)
        except ScenarioError:
            continue
    raise ScenarioError(f"{name}: none of 50 roads can host it")


def pairs(randomize: float, steps: int = 30) -> list[np.ndarray]:
    """Pictures (h, 2 w, 3) of each scenario after `steps` of driving straight on."""
    world, found = MujocoWorld(randomize=randomize), []
    for seed, name in enumerate(NAMES):
        begun = scenario(name, seed)
        track = TrackEnv([begun.road], randomize=randomize)
        views = [each.start(begun, seed)[0] for each in (track, world)]
        for _ in range(steps):
            views = [each.step(np.array([0.0, 0.05], np.float32))[0] for each in (track, world)]
        found.append(np.hstack([view["image"] for view in views]))
        track.close()
    world.close()
    return found


def main(out: Path = typer.Option(Path("docs/worlds"), help="folder for mujoco-pictures.jpg")) -> None:
    """Nominal looks above, randomised ones below."""
    pictures = [*pairs(0.0), *pairs(0.5)]
    rows = [np.hstack(pictures[k : k + COLUMNS]) for k in range(0, len(pictures), COLUMNS)]
    out.mkdir(parents=True, exist_ok=True)
    path = out / "mujoco-pictures.jpg"
    aside = path.with_name("." + path.name)
    done = cv2.imwrite(str(aside), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise OSError(f"cannot write {aside}")
    aside.replace(path)
    typer.echo(f"written: {path}")


if __name__ == "__main__":
    typer.run(main)

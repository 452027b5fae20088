"""One episode of every scenario as a strip of pictures, to look at: `python -m training.filmstrip [OUT.jpg]`.

The camera above, the road from above below it, intent and verdict written in. Knows evaluation and drawing only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from bridge.messages import VehicleProfile
from bridge.scale import scale_of
from sims.birdseye import draw_birdseye
from sims.scenarios import SCENARIOS
from sims.truth import Truth
from sims.worlds import find_world
from training.backends import load_backend
from training.evaluate import Episode, EvaluateSettings, evaluate
from training.video import to_world

PICTURES = 6
TILE_PX = 240
OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "scenarios.jpg"


class Strip:
    """Pictures of one episode, kept about every half second and thinned out at the end."""

    def __init__(self, profile: VehicleProfile):
        self._profile = profile
        self.tiles: list[np.ndarray] = []
        self._poses: dict[int, dict] = {}

    def take(self, tick: int, episode: Episode, picture: np.ndarray, truth: Truth) -> None:
        """One moment."""
        self._poses[round(tick * 1e9 / 30)] = {"x_m": truth.x_m, "y_m": truth.y_m, "yaw_rad": truth.yaw_rad}
        if tick % 15:
            return
        plan, path = episode.controller.plan, None
        captured = self._poses.get(plan.t_capture_ns) if plan else None
        if plan and captured:
            points = np.array([(w.x_m, w.y_m) for w in plan.waypoints])
            path = np.column_stack([to_world(points, captured), [w.v_mps for w in plan.waypoints]])
        above = draw_birdseye(truth, path, TILE_PX, 8.0 * scale_of(self._profile).length, self._profile)
        top = cv2.resize(picture, (TILE_PX, TILE_PX * 3 // 4), interpolation=cv2.INTER_AREA)
        tile = np.vstack([top, above])
        words = [f"{tick / 30:.1f} s {truth.speed_mps:.2f} m/s", str(plan.intent) if plan else "-"]
        if episode.last_verdict:
            words.append(": ".join(str(w) for w in episode.last_verdict if w)[:38])
        for k, line in enumerate(words):
            text = line if line.isascii() else line.encode("ascii", "replace").decode()
            cv2.putText(tile, text, (5, 194 + 15 * k), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
        self.tiles.append(tile)

    def picture(self, title: str) -> np.ndarray:
        """The strip, RGB, with `PICTURES` moments and a title above."""
        picks = np.linspace(0, len(self.tiles) - 1, PICTURES).round().astype(int)
        row = np.hstack([self.tiles[k] for k in picks])
        head = np.zeros((24, row.shape[1], 3), np.uint8)
        cv2.putText(head, title, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (120, 230, 230), 1, cv2.LINE_AA)
        return np.vstack([head, row])


def film(
    name: str, planner: str, controller: str, delay_ms: float, seed: int, world: str = "track", track: str = "random"
) -> np.ndarray:
    """The strip of one episode of a scenario."""
    strip = Strip(find_world(world).profile)

    def watch(tick, episode, env, slot):
        strip.take(tick, episode, env.render([slot])[0], env.truth(slot))

    settings = EvaluateSettings(
        world=world, track=(track,), suite=name, planner=planner, controller=controller, delay_ms=delay_ms, episodes=1,
        seed=seed, randomize=0.5,
    )  # fmt: skip
    report = evaluate(settings, load_backend(planner), watch=watch)
    entry = report["episodes"][0]
    return strip.picture(
        f"{name} on {entry['track']}: {'success' if entry['success'] else 'FAILED'}, {entry['reason']}"
    )


def main(
    out: Annotated[Path, typer.Argument()] = OUT,
    planner: Annotated[str, typer.Option()] = "expert",
    controller: Annotated[str, typer.Option()] = "pursuit",
    delay_ms: Annotated[float, typer.Option()] = 200.0,
    only: Annotated[str, typer.Option(help="Names with commas between them.")] = "",
    seed: Annotated[int, typer.Option()] = 0,
    world: Annotated[str, typer.Option()] = "track",
    track: Annotated[str, typer.Option()] = "random",
) -> None:
    """Write the strips of all scenarios into one picture."""
    names = only.split(",") if only else SCENARIOS
    strips = [film(name, planner, controller, delay_ms, seed + k, world, track) for k, name in enumerate(names)]
    out.parent.mkdir(parents=True, exist_ok=True)
    small = cv2.resize(np.vstack(strips), None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(out), small[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 85))
    typer.echo(f"written: {out}")


if __name__ == "__main__":
    typer.run(main)

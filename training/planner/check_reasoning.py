"""Is the reasoning about this picture? Compares what the model says of lanes and cars with the truth, on unseen frames.

The same questions are asked with a blank picture in place of the real one: a model that only knows what is likely does
as well there. Decoding is constrained to the grammar, as in service. Frames come from roads with seeds that training
never uses, half from driving, half from anywhere on the road. Looks, cameras and physics are randomised at half
strength as in `pacenote evaluate`, then as many frames at "full_strength". "specks_asked_too" counts cars within 6 m of
any size in the picture as there, which nothing that is 160 pixels wide can show.
Run: `python -m training.planner.check_reasoning [--model DIR] [--frames 200] [--json FILE]`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from bridge.messages import Doing, EgoState, VehicleProfile
from bridge.planning import CommandInForce, PlanError, PlanRequest
from planner.phrasebook import sample_phrasing
from sims.facts import LEAST_PX, visible_facts
from sims.track import Randomization
from training.planner.driving import DrivenSource
from training.planner.scenes import LOOKS, Scene, SceneSource, Task
from training.planner.score import compare_facts

SEED = 8_000_000
BATCH = 16


def unseen_scenes(count: int, look: Randomization, seed: int = SEED) -> list[Scene]:
    """`count` scenes that look like one of LOOKS, half of them from driving."""
    profile = VehicleProfile()
    shares = tuple(float(look == other) for other in LOOKS)
    driven = DrivenSource(seed, profile, evaluation=True, look_shares=shares).take(count // 2)
    anywhere = SceneSource(seed + 1, count - len(driven), profile, evaluation=True, look_shares=shares)
    return [*driven, *anywhere.scenes()]


def request_of(scene: Scene, profile: VehicleProfile, rng: np.random.Generator, blank: bool) -> PlanRequest:
    """The question that the planner would be asked about a scene; `blank`: about a grey picture."""
    task = scene.task or Task(None, 0.8 * profile.reference_speed_mps, 0.0, None, Doing())
    command = None
    if task.instruction is not None:
        command = CommandInForce("check", str(sample_phrasing(rng, task.instruction)), task.age_s, task.start_lane)
    frames = np.full_like(scene.frames, 128) if blank else scene.frames
    ego = EgoState(speed_mps=scene.truth.speed_mps)
    return PlanRequest((frames[0], frames[1]), ego, task.doing, profile, task.cruise_mps, command)


def check_reasoning(
    backend, scenes: list[Scene], *, blank: bool = False, seed: int = 0, least_px: float = LEAST_PX
) -> dict:
    """{"statements", "agree", "by_statement": {name: share}} of `backend`'s reasoning over `scenes`; a plan that could
    not be made or is not in the grammar's sentences counts as one wrong statement. `least_px`: how wide in the picture
    another car must be to be asked for."""
    profile, rng = VehicleProfile(), np.random.default_rng(seed)
    requests = [request_of(scene, profile, rng, blank) for scene in scenes]
    answers = [a for k in range(0, len(requests), BATCH) for a in backend.plan(requests[k : k + BATCH])]
    marks: dict[str, list[bool]] = {}
    for scene, answer in zip(scenes, answers, strict=True):
        said = None if isinstance(answer, PlanError) else answer.extra.get("facts")
        right = visible_facts(scene.truth, profile, least_px)
        for name, good in compare_facts(said, right).items():
            marks.setdefault(name, []).append(good)
    everything = [good for goods in marks.values() for good in goods]
    return {
        "frames": len(scenes),
        "statements": len(everything),
        "agree": float(np.mean(everything)),
        "by_statement": {name: float(np.mean(goods)) for name, goods in sorted(marks.items())},
    }


def main() -> None:
    """Command line."""
    from planner.backends.transformers_backend import TransformersBackend

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="models/planner-nano")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    scenes = unseen_scenes(given.frames, LOOKS[0], given.seed)
    backend = TransformersBackend(given.model)
    driven = [s for s in scenes if s.task is not None]
    result = {
        "model": given.model,
        "seed": given.seed,
        "picture": check_reasoning(backend, scenes),
        "picture_driving": check_reasoning(backend, driven),
        "full_strength": check_reasoning(backend, unseen_scenes(given.frames, LOOKS[1], given.seed + 10)),
        "specks_asked_too": check_reasoning(backend, scenes, least_px=0.0),
        "blank": check_reasoning(backend, scenes, blank=True),
    }
    columns = ("picture", "picture_driving", "full_strength", "specks_asked_too", "blank")
    print(f"{'statement':18}" + "".join(f"{c:>17}" for c in columns))
    for name in result["picture"]["by_statement"]:
        print(f"{name:18}" + "".join(f"{100 * result[c]['by_statement'].get(name, 0):16.1f}%" for c in columns))
    print(f"{'all statements':18}" + "".join(f"{100 * result[c]['agree']:16.1f}%" for c in columns))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

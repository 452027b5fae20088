"""Planners side by side on tracks that none was trained on: driving, reasoning and paths, as one table.

Scenarios run in lock-step as in `pacenote evaluate`, one at a time, the planner's answers at once; where the controller
does not look at the camera, a picture is drawn only when the planner looks. Reasoning and paths are compared with truth
and expert on frames of disturbed expert driving. Intervals are Wilson's, 95 %.
Run: `python -m training.planner.compare_adapters --world torcs --planners nano,models/planner-nano-torcs --json FILE`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np

from bridge.planning import PlanError, PlannerBackend
from bridge.scale import model_profile
from controller.policies import load_policy
from planner.grammar import parse_answer
from sims.facts import visible_facts
from sims.world import WorldBatch, WorldSpec
from sims.worlds import find_world
from training.backends import load_backend
from training.evaluate import TICK_HZ, run_one, summarise
from training.planner.adapt_settings import load_adapt_settings
from training.planner.check_reasoning import BATCH, request_of
from training.planner.dreams import dream_of
from training.planner.elsewhere import ElsewhereSource
from training.planner.scenes import Scene, Task
from training.planner.score import compare_facts
from training.suite import EvaluateSettings, build_scenarios

SUITE = "follow_lane,overtake_left,overtake_right,follow_vehicle,stop,change_left,change_right,avoid_obstacle"
FRAMES_SEED = 6_000_000
PATH = "error of the path's headings"


class GlancingBatch(WorldBatch):
    """One world whose picture is drawn at every `every`-th step only; between them the last one stays."""

    def __init__(self, spec: WorldSpec, *, every: int, **looks):
        super().__init__(spec, **looks)
        self._every, self._steps, self._image = every, 0, None

    def start(self, scenarios, seeds):
        """As the base class does."""
        self._steps = 0
        observation = super().start(scenarios, seeds)
        self._image = observation["image"]
        return observation

    def step(self, actions, running):
        """As the base class does."""
        self._steps += 1
        world = self.worlds[0]
        move = world.advance if self._steps % self._every else world.step
        seen, _, _, _, info = move(np.asarray(actions[0], np.float32))
        self._truths[0] = info["truth"]
        observation = {name: np.asarray(value)[None] for name, value in seen.items() if name != "image"}
        if self._steps % self._every == 0:
            self._image = seen["image"][None]
        return {**observation, "image": self._image}


def drive(planner: str, backend: PlannerBackend, settings: EvaluateSettings, say=print) -> list[dict]:
    """Entries of the evaluation's episodes with one planner."""
    spec = find_world(settings.world)
    policy = load_policy(settings.controller, spec.profile, simulated=True)
    every = 1 if policy.needs_image else max(round(TICK_HZ / backend.rate_hz), 1)
    size = (spec.profile.camera.width_px, spec.profile.camera.height_px)
    world = GlancingBatch(spec, every=every, camera_size=size, randomize=settings.randomize)
    entries = []
    cases = build_scenarios(settings, spec.profile, eyes=True)
    cases.sort(key=lambda case: case[0].road.name)  # a simulator is slow to change the track
    try:
        for case in cases:
            entry = run_one(case, settings, backend, policy, world, profile=spec.profile, sees=True)
            entries.append(entry)
            result = "success" if entry["success"] else entry["reason"]
            say(f"{planner} {len(entries)}/{len(cases)} {entry['track']} {entry['scenario']}: {result}")
    finally:
        world.close()
    return entries


def frames_of(spec: WorldSpec, tracks: list[str], per_track: int, randomize: float) -> list[Scene]:
    """Scenes of disturbed expert driving, `per_track` on each, drawn from four times as many."""
    source, scenes = ElsewhereSource(spec, FRAMES_SEED, randomize=randomize), []
    try:
        for track in tracks:
            some = source.take(track, 4 * per_track)
            scenes += [some[k] for k in source.rng.permutation(len(some))[:per_track]]
    finally:
        source.close()
    return scenes


def read_frames(backend: PlannerBackend, scenes: list[Scene], spec: WorldSpec) -> dict:
    """{"statements", "agree", "by_statement", "intent", "path_deg", "speed_mps"} of answers about `scenes`, against
    truth and expert; `path_deg` is the mean error of a path's eight headings, at model scale like the speed."""
    profile, rng = model_profile(spec.profile), np.random.default_rng(FRAMES_SEED)
    requests = [request_of(scene, profile, rng, False) for scene in scenes]
    answers = [a for k in range(0, len(requests), BATCH) for a in backend.plan(requests[k : k + BATCH])]
    marks: dict[str, list[bool]] = {}
    others: dict[str, list[float]] = {"intent": [], "path_deg": [], "speed_mps": []}
    for scene, answer in zip(scenes, answers, strict=True):
        said = None if isinstance(answer, PlanError) else answer.extra.get("facts")
        for name, good in compare_facts(said, visible_facts(scene.truth, profile)).items():
            marks.setdefault(name, []).append(good)
        if isinstance(answer, PlanError):
            continue
        right = parse_answer(_right(scene.task, scene, profile, rng), profile)
        a, b = answer.extra["chain"], right.extra["chain"]
        others["intent"].append(float(answer.intent == right.intent))
        others["path_deg"].append(float(np.abs(np.subtract(a.headings_deg, b.headings_deg)).mean()))
        others["speed_mps"].append(abs(a.first_mps - b.first_mps))
    everything = [good for goods in marks.values() for good in goods]
    return {
        "frames": len(scenes),
        "statements": len(everything),
        "agree": float(np.mean(everything)),
        "by_statement": {name: float(np.mean(goods)) for name, goods in sorted(marks.items())},
        **{name: float(np.mean(values)) if values else math.nan for name, values in others.items()},
    }


def _right(task: Task, scene: Scene, profile, rng) -> str:
    return dream_of(
        rng,
        scene.truth,
        profile,
        task.instruction,
        cruise_mps=task.cruise_mps,
        age_s=task.age_s,
        start_lane=task.start_lane,
        doing=task.doing,
    ).text


def wilson(good: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson's score)."""
    if not count:
        return 0.0, 1.0
    z, share = 1.96, good / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - reach, middle + reach


def markdown(report: dict) -> str:
    """The report as tables: planners in columns."""
    names = list(report["planners"])
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    driven = [report["planners"][n].get("episodes", []) for n in names]
    scenarios = list(dict.fromkeys(e["scenario"] for entries in driven for e in entries))
    if scenarios:
        for scenario in [*scenarios, None]:
            cells = [_success([e for e in es if scenario in (None, e["scenario"])]) for es in driven]
            lines.append(f"| {scenario or 'all scenarios'} | {' | '.join(cells)} |")
        for track in dict.fromkeys(e["track"] for entries in driven for e in entries):
            cells = [_success([e for e in es if e["track"] == track]) for es in driven]
            lines.append(f"| all scenarios on {track} | {' | '.join(cells)} |")
        for bad, words in (("off_road", "left the road"), ("collision", "collided")):
            lines.append(f"| {words} | {' | '.join(str(sum(e[bad] for e in es)) for es in driven)} |")
    frames = [report["planners"][n].get("frames") for n in names]
    if all(frames):
        for name in frames[0]["by_statement"]:
            cells = [f"{100 * f['by_statement'].get(name, math.nan):.0f} %" for f in frames]
            lines.append(f"| says right: {name.replace('_', ' ')} | {' | '.join(cells)} |")
        for words, name, unit in (("says right: all", "agree", 100), ("intent", "intent", 100), (PATH, "path_deg", 1)):
            cells = [f"{unit * f[name]:.1f}{' %' if unit == 100 else '°'}" for f in frames]
            lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _success(entries: list[dict]) -> str:
    good, count = sum(e["success"] for e in entries), len(entries)
    low, high = wilson(good, count)
    return f"{100 * good / max(count, 1):.0f} % ({good}/{count}; {100 * low:.0f}-{100 * high:.0f})"


def compare(given: argparse.Namespace) -> dict:
    """The report."""
    spec = find_world(given.world)
    tracks = given.tracks.split(",") if given.tracks else list(load_adapt_settings(world=given.world).held_out_tracks)
    report = {"world": given.world, "tracks": tracks, "controller": given.controller, "seed": given.seed}
    report["planners"] = {}
    scenes = frames_of(spec, tracks, given.frames, given.randomize) if given.frames else []
    for planner in given.planners.split(","):
        begin = time.monotonic()
        backend = load_backend(planner)
        part = report["planners"][planner] = {}
        if scenes and not backend.wants_truth:
            part["frames"] = read_frames(backend, scenes, spec)
            print(planner, json.dumps(part["frames"]), flush=True)
        if given.episodes:
            settings = EvaluateSettings(
                world=given.world,
                suite=given.suite,
                track=tuple(tracks),
                planner=planner,
                controller=given.controller,
                episodes=given.episodes,
                seed=given.seed,
                randomize=given.randomize,
            )
            part["episodes"] = drive(planner, backend, settings, say=lambda text: print(text, flush=True))
            part["summary"] = summarise(part["episodes"])
        print(f"{planner}: {time.monotonic() - begin:.0f} s", flush=True)
    return report


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", default="torcs")
    parser.add_argument("--tracks", help="with commas between; those that the world's preset holds out by default")
    parser.add_argument("--suite", default=SUITE)
    parser.add_argument("--episodes", type=int, default=72, help="with each planner; 0: frames only")
    parser.add_argument("--frames", type=int, default=25, help="of each track; 0: driving only")
    parser.add_argument("--planners", default="nano,models/planner-nano-torcs")
    parser.add_argument("--controller", default="pursuit")
    parser.add_argument("--randomize", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    report = compare(given)
    table = markdown(report)
    print(table)
    for path, text in ((given.json, json.dumps(report, indent=2) + "\n"), (given.markdown, table)):
        if path is not None:
            aside = path.with_name(path.name + ".new")
            aside.write_text(text)
            aside.replace(path)


if __name__ == "__main__":
    main()

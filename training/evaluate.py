"""Scenarios in lock-step virtual time: planner, link delay, controller and world on one clock that nobody waits for.

A planner that is busy for `delay` answers that much later, about the frame that it was given; the next frame it gets is
the newest one when it is free again. Episodes run side by side in batches so that a model can answer several cars at
once; what happens in one episode does not depend on the others. Nothing here reads a wall clock, except `--delay-ms
measured`, which times the backend before the first episode. Which episodes there are stands in `suite.py`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from bridge.messages import Command, Doing, EgoState, Frame, Hello, VehicleProfile
from bridge.planning import PlanAnswer, PlanError, PlannerBackend, PlanRequest
from bridge.vehicle import Sensors
from controller.core import Controller
from controller.policies import load_policy
from controller.policy import Policy
from controller.settings import ControllerSettings
from planner.session import PlannerSession
from sims.judge import EpisodeResult, Judge
from sims.scenarios import SCENARIOS, Scenario
from sims.world import WorldBatch, WorldSpec
from sims.worlds import find_world
from training.suite import EvaluateSettings, EvaluationError, build_scenarios, choose_scenarios

__all__ = [
    "EvaluateSettings",
    "EvaluationError",
    "build_scenarios",
    "choose_scenarios",
    "evaluate",
    "run_one",
    "summarise",
]
TICK_HZ = 30


@dataclass
class Episode:
    """One car in one world slot. Times are ticks of 1 / TICK_HZ s since the reset."""

    scenario: Scenario
    seed: int
    controller: Controller
    session: PlannerSession
    judge: Judge
    commands: list = field(default_factory=list)
    plans: int = 0
    unsent: int = 0
    verdicts: list[str] = field(default_factory=list)
    seq: int = 0
    free_at: int = 0
    pending: list = field(default_factory=list)  # (tick at which it arrives, plan)
    last_verdict: tuple[str, str] | None = None


def evaluate(
    settings: EvaluateSettings,
    backend: PlannerBackend,
    *,
    profile: VehicleProfile | None = None,
    on_episode: Callable[[dict], None] | None = None,
    on_plan: Callable[[Episode, PlanRequest, PlanAnswer | PlanError, Sequence[str]], None] | None = None,
    watch: Callable[[int, Episode, WorldBatch, int], None] | None = None,
) -> dict:
    """Run the suite; returns the report of DESIGN 9. `profile`: another car than the world's, in worlds with a native
    batch. `on_episode` is called with each finished episode's entry, `on_plan` with each request, its answer and what
    kept it from being sent, `watch(tick, episode, batch, slot)` after each step (for pictures: `batch.render([slot])`;
    one that says `needs_image = False` takes none). Raises EvaluationError, WorldError, RoadError, and what a policy
    raises that is unfit for the car."""
    spec = find_world(settings.world)
    if profile is not None and profile != spec.profile and spec.batch is None:
        raise EvaluationError(f"world {spec.name!r} drives its own car; another profile cannot be put into it")
    car = profile or spec.profile
    policies = [load_policy(settings.controller, car, simulated=True)]
    looked_at = bool(policies[0].needs_image) or not backend.wants_truth
    skipped: dict[str, str] = {}
    cases = build_scenarios(settings, car, eyes=looked_at, skipped=skipped)
    cases.sort(key=lambda case: -case[0].duration_s)  # a batch lasts as long as its longest episode
    shown = watch is not None and getattr(watch, "needs_image", True)  # drawing takes most of an evaluation's time
    sees = looked_at or (shown and spec.camera)
    world = _make_batch(spec, settings, profile, (car.camera.width_px, car.camera.height_px) if sees else None)
    entries = []
    try:
        delay_s = _delay_s(settings, backend, car, spec, cases[0])
        for start in range(0, len(cases), spec.side_by_side):
            some = cases[start : start + spec.side_by_side]
            while len(policies) < len(some):
                policies.append(load_policy(settings.controller, car, simulated=True))
            batch = [_episode(*case, settings, backend, car, policy) for case, policy in zip(some, policies)]
            for episode in _run_batch(batch, world, backend, delay_s, sees, on_plan, watch):
                entries.append(_entry(episode))
                if on_episode:
                    on_episode(entries[-1])
    finally:
        world.close()
    entries.sort(key=lambda e: (SCENARIOS.index(e["scenario"]), e["seed"]))
    return {
        "world": settings.world,
        "suite": settings.suite,
        "planner": settings.planner,
        "controller": settings.controller,
        "delay_ms": round(delay_s * 1000, 1),
        "seed": settings.seed,
        "commit": _commit(),
        "reprojection": settings.reprojection,
        "track": list(settings.track),
        "skipped": skipped,
        "episodes": entries,
        "summary": summarise(entries),
    }


def run_one(
    case: tuple[Scenario, int],
    settings: EvaluateSettings,
    backend: PlannerBackend,
    policy: Policy,
    world: WorldBatch,
    *,
    profile: VehicleProfile,
    sees: bool,
    on_start: Callable[[Episode], None] | None = None,
    watch: Callable[[int, Episode, WorldBatch, int], None] | None = None,
) -> dict:
    """One episode alone, for a recorder; returns its entry. The planner answers at once. `world` is a batch made by the
    caller, who closes it; `sees`: it has a camera; `on_start` is called before the first tick. What `watch` raises ends
    the episode and is passed on."""
    episode = _episode(*case, settings, backend, profile, policy)
    if on_start:
        on_start(episode)
    for done in _run_batch([episode], world, backend, 0.0, sees, None, watch):
        return _entry(done)
    raise AssertionError("an episode always ends")


def _make_batch(
    spec: WorldSpec, settings: EvaluateSettings, profile: VehicleProfile | None, camera_size: tuple[int, int] | None
) -> WorldBatch:
    looks = {"camera_size": camera_size, "randomize": settings.randomize}
    if spec.batch is None:
        return WorldBatch(spec, **looks)
    return spec.batch(**looks, **({} if profile is None else {"profile": profile}))


def _episode(
    scenario: Scenario,
    seed: int,
    settings: EvaluateSettings,
    backend: PlannerBackend,
    profile: VehicleProfile,
    policy: Policy,
) -> Episode:
    """A fresh episode. `policy` is this slot's own: policies keep state between ticks."""
    policy.reset()
    controller = Controller(profile, policy, ControllerSettings(reprojection=settings.reprojection))
    hello = Hello(car_id=f"car-{seed}", session_id=f"episode-{seed}", profile=profile)
    session = PlannerSession(hello, cruise_mps=scenario.cruise_mps, confirm=not backend.wants_truth)
    return Episode(
        scenario, seed, controller, session, Judge(scenario, profile), sorted(scenario.commands, key=lambda c: c.t_s)
    )


def _run_batch(batch, world: WorldBatch, backend, delay_s, sees, on_plan, watch) -> Iterator[Episode]:
    """Step all cars of a batch together until each one's judge has decided."""
    observation = world.start([episode.scenario for episode in batch], [episode.seed for episode in batch])
    running = set(range(len(batch)))
    actions = np.zeros((len(batch), 2), dtype=np.float32)
    tick = 0
    while running:
        now_ns = round(tick * 1e9 / TICK_HZ)
        asked: list[tuple[int, PlanRequest, Frame]] = []
        for i in running:
            request = _sense_and_ask(batch[i], world, i, observation, tick, now_ns, sees, backend.wants_truth)
            if request is not None:
                asked.append((i, *request))
        if asked:
            _answer(batch, asked, backend, delay_s, tick, on_plan)
        for i in running:
            actions[i] = _drive(batch[i], observation, i, tick, now_ns, sees)
        observation = world.step(actions, sorted(running))
        tick += 1
        for i in sorted(running):
            episode = batch[i]
            episode.judge.observe(world.truth(i), *(episode.last_verdict or (None, None)))
            if watch:
                watch(tick, episode, world, i)
            if episode.judge.finished:
                running.discard(i)
                yield episode


def _sense_and_ask(episode, world, i, observation, tick, now_ns, sees, wants_truth):
    """Say the commands that are due; if the planner is free, make its request from the newest frame."""
    while episode.commands and episode.commands[0].t_s * TICK_HZ <= tick:
        command = episode.commands.pop(0)
        message = Command(id=f"c{episode.seq}", car_id=episode.session.car_id, text=command.text)
        episode.session.take_command(message, now_ns)
    if tick < episode.free_at:
        return None
    frame = Frame(
        session_id=episode.session.session_id,
        seq=episode.seq,
        t_capture_ns=now_ns,
        ego=_ego(observation, i),
        doing=episode.controller.doing(now_ns),
        truth=world.truth(i).to_dict() if wants_truth else None,
    )
    episode.seq += 1
    image = observation["image"][i] if sees else np.zeros((2, 2, 3), np.uint8)
    return episode.session.request(frame, image, now_ns), frame


def _answer(batch, asked, backend, delay_s, tick, on_plan) -> None:
    """Ask the backend for all cars that are free at this tick; each answer arrives `delay_s` after its frame."""
    answers = backend.plan([request for _, request, _ in asked])
    delay_ticks = round(delay_s * TICK_HZ)
    busy_ticks = max(delay_ticks, round(TICK_HZ / backend.rate_hz), 1)
    for (i, request, frame), answer in zip(asked, answers, strict=True):
        episode = batch[i]
        episode.free_at = tick + busy_ticks
        outcome = episode.session.finish(request, answer, frame, model=backend.name)
        if on_plan:
            on_plan(episode, request, answer, outcome.problems)
        if outcome.plan is None:
            episode.unsent += 1
            continue
        # An episode begins in mid-drive, so the plan for its very first frame is there at once.
        episode.pending.append((tick + delay_ticks if tick else 0, outcome.plan))
        episode.plans += 1


def _drive(episode: Episode, observation, i: int, tick: int, now_ns: int, sees: bool) -> tuple[float, float]:
    """Deliver what has arrived, tick the controller; returns [steering, acceleration]."""
    sensors = Sensors(observation["image"][i] if sees else None, _ego(observation, i), now_ns)
    while episode.pending and episode.pending[0][0] <= tick:
        plan = episode.pending.pop(0)[1]
        if plan.t_capture_ns == now_ns:
            episode.controller.sense(now_ns, sensors)  # a plan for this very instant
        episode.controller.on_plan(plan, now_ns)
        if plan.verdict is not None:
            episode.last_verdict = (str(plan.verdict.verdict), plan.verdict.reason)
            if not episode.verdicts or episode.verdicts[-1] != episode.last_verdict[0]:
                episode.verdicts.append(episode.last_verdict[0])
    control = episode.controller.tick(now_ns, sensors)
    return control.steering, control.acceleration


def _ego(observation, i: int) -> EgoState:
    return EgoState(
        speed_mps=float(observation["speed"][i]),
        yaw_rate_radps=float(observation["yaw_rate"][i]),
        steering=float(np.clip(observation["steering"][i], -1.0, 1.0)),
    )


def _delay_s(
    settings: EvaluateSettings,
    backend: PlannerBackend,
    profile: VehicleProfile,
    spec: WorldSpec,
    case: tuple[Scenario, int],
) -> float:
    """The planner's answer time: as set, or the median of ten single answers of this backend on this machine."""
    if settings.delay_ms != "measured":
        return settings.delay_ms / 1000.0
    size = (profile.camera.width_px, profile.camera.height_px) if spec.camera else None
    scenario, seed = case
    world = _make_batch(spec, settings, None if profile == spec.profile else profile, size)
    try:
        observation = world.start([scenario], [seed])
        truth = world.truth(0).to_dict() if backend.wants_truth else None
        images = (observation["image"][0],) * 2 if spec.camera else ()
        ego = EgoState(speed_mps=scenario.start_speed_mps)
        request = PlanRequest(images, ego, Doing(), profile, scenario.cruise_mps, truth=truth)
        times = []
        for _ in range(12):
            begin = time.perf_counter()
            backend.plan([request])
            times.append(time.perf_counter() - begin)
    finally:
        world.close()
    return median(times[2:])  # the first answers warm caches up


def _entry(episode: Episode) -> dict:
    result: EpisodeResult = episode.judge.result()
    return {
        "scenario": episode.scenario.name,
        "track": episode.scenario.road.name,
        "seed": episode.seed,
        **asdict(result),
        "plans": episode.plans,
        "unsent": episode.unsent,
        "verdicts": episode.verdicts,
    }


def summarise(entries: Sequence[dict]) -> dict:
    """Success and driving score over all episodes. Driving score as in CARLA's leaderboard: 100 x route completion x
    penalty (0.6 for a collision, 0.8 for leaving the road), averaged."""
    by_scenario = {
        name: float(np.mean([e["success"] for e in entries if e["scenario"] == name]))
        for name in SCENARIOS
        if any(e["scenario"] == name for e in entries)
    }
    score = [
        e["route_completion"] * (0.6 if e["collision"] else 1.0) * (0.8 if e["off_road"] else 1.0) for e in entries
    ]
    return {
        "success_rate": float(np.mean([e["success"] for e in entries])),
        "by_scenario": by_scenario,
        "collisions": sum(e["collision"] for e in entries),
        "off_road": sum(e["off_road"] for e in entries),
        "route_completion": float(np.mean([e["route_completion"] for e in entries])),
        "driving_score": float(100.0 * np.mean(score)),
    }


def _commit() -> str:
    try:
        where = Path(__file__).parent
        return subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=where, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

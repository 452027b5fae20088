"""Scenarios in lock-step virtual time: planner, link delay, controller and world on one clock that nobody waits for.

A planner that is busy for `delay` answers that much later, about the frame that it was given; the next frame it gets is
the newest one when it is free again. Episodes run side by side in batches so that a model can answer several cars at
once; what happens in one episode does not depend on the others. Nothing here reads a wall clock, except `--delay-ms
measured`, which times the backend before the first episode.
"""

from __future__ import annotations

import difflib
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bridge.messages import Command, Doing, EgoState, Frame, Hello, VehicleProfile
from bridge.planning import Instruction, PlanAnswer, PlanError, PlannerBackend, PlanRequest
from bridge.vehicle import Sensors
from controller.core import Controller
from controller.policies import load_policy
from controller.settings import ControllerSettings
from planner.session import PlannerSession
from sims.judge import EpisodeResult, Judge
from sims.random_road import random_road
from sims.road import Road, road_from_csv
from sims.scenarios import SCENARIOS, Scenario, ScenarioError, make_scenario
from sims.track import TrackVectorEnv

TICK_HZ = 30
BATCH = 16
UNSEEN_ROADS = 1_000_000  # road seeds from here on are never trained on
NUMBER = re.compile(r"\d+(?:\.\d+)?")


class EvaluationError(ValueError):
    """Settings that cannot be carried out; the message says which and what to do."""


class EvaluateSettings(BaseModel):
    """What to evaluate. `track`: "random" or racetrack files. `delay_ms`: the planner's whole answer time, or
    "measured". `phrasings`: scenario -> texts that replace the built-in commands. `episodes` is the total. `randomize`:
    strength of the world's randomisation of look, camera and physics, 0 nominal, 1 as hard as training at its hardest
    (where some pictures hardly show the lines)."""

    model_config = ConfigDict(extra="forbid")

    world: str = "track"
    suite: str = "all"
    track: tuple[str, ...] = ("random",)
    planner: str = "expert"
    controller: str = "pursuit"
    delay_ms: float | str = 0.0
    reprojection: bool = True
    phrasings: dict[str, list[str]] | None = None
    episodes: int = Field(default=60, ge=1)
    seed: int = 0
    randomize: float = Field(default=0.5, ge=0.0, le=1.0)


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


def choose_scenarios(suite: str) -> tuple[str, ...]:
    """Names in a `--suite`. Raises EvaluationError for an unknown one."""
    names = SCENARIOS if suite == "all" else tuple(n.strip() for n in suite.split(","))
    for name in names:
        if name not in SCENARIOS:
            near = difflib.get_close_matches(name, SCENARIOS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise EvaluationError(f"unknown scenario {name!r}{hint} (all: {', '.join(SCENARIOS)})")
    return names


def build_scenarios(settings: EvaluateSettings, profile: VehicleProfile) -> list[tuple[Scenario, int]]:
    """(scenario, seed) for every episode, spread evenly over the suite and over the tracks."""
    names = choose_scenarios(settings.suite)
    files = [t for t in settings.track if t != "random"]
    roads: list[Road | None] = [road_from_csv(f) for f in files]
    if "random" in settings.track:
        roads.append(None)
    episodes, skipped = [], []
    for k in range(settings.episodes):
        name, road = names[k % len(names)], roads[(k // len(names)) % len(roads)]
        try:
            episodes.append(_one_scenario(name, road, settings.seed * 100_003 + k, profile, settings.phrasings))
        except ScenarioError as error:
            skipped.append(f"{name}: {error}")
    if not episodes:
        raise EvaluationError("no episode is possible: " + "; ".join(sorted(set(skipped))))
    return episodes


def _one_scenario(name, road, seed, profile, phrasings) -> tuple[Scenario, int]:
    error = None
    for attempt in range(20):
        where = road or random_road(UNSEEN_ROADS + seed * 20 + attempt)
        try:
            scenario = make_scenario(name, where, seed + 7919 * attempt, profile=profile)
            return _rephrase(scenario, phrasings, seed), seed
        except ScenarioError as reason:
            error = reason
    assert error is not None
    raise error


def _rephrase(scenario: Scenario, phrasings: dict[str, list[str]] | None, seed: int) -> Scenario:
    """Replace the command's text. A number in a `target_speed` text becomes the target; `{speed}` takes the target."""
    texts = (phrasings or {}).get(scenario.name)
    if not texts or not scenario.commands:
        return scenario
    text, command, params = texts[(seed // len(SCENARIOS)) % len(texts)], scenario.commands[0], scenario.params
    instruction = command.instruction
    if instruction.speed_mps is not None:
        text = text.replace("{speed}", f"{instruction.speed_mps:g}")
        if number := NUMBER.search(text):
            instruction = Instruction("target_speed", float(number.group()))
            params = {**params, "speed_mps": instruction.speed_mps}
    return replace(scenario, commands=(replace(command, text=text, instruction=instruction),), params=params)


def evaluate(
    settings: EvaluateSettings,
    backend: PlannerBackend,
    *,
    profile: VehicleProfile | None = None,
    on_episode: Callable[[dict], None] | None = None,
    on_plan: Callable[[Episode, PlanRequest, PlanAnswer | PlanError, Sequence[str]], None] | None = None,
    watch: Callable[[int, Episode, TrackVectorEnv, int], None] | None = None,
) -> dict:
    """Run the suite; returns the report of DESIGN 9. `on_episode` is called with each finished episode's entry,
    `on_plan` with each request, its answer and what kept it from being sent, `watch(tick, episode, env, slot)` after
    each step (for pictures)."""
    profile = profile or VehicleProfile()
    if settings.world != "track":
        raise EvaluationError(f"world {settings.world!r} cannot be evaluated; there is 'track'")
    policy = load_policy(settings.controller, profile)
    cases = build_scenarios(settings, profile)
    cases.sort(key=lambda case: -case[0].duration_s)  # a batch lasts as long as its longest episode
    delay_s = _delay_s(settings, backend, profile)
    entries = []
    for start in range(0, len(cases), BATCH):
        batch = [_episode(*case, settings, backend, profile) for case in cases[start : start + BATCH]]
        sees = bool(policy.needs_image) or not backend.wants_truth or watch is not None
        for episode in _run_batch(batch, backend, delay_s, settings, profile, sees, on_plan, watch):
            entries.append(_entry(episode))
            if on_episode:
                on_episode(entries[-1])
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
        "episodes": entries,
        "summary": summarise(entries),
    }


def _episode(
    scenario: Scenario, seed: int, settings: EvaluateSettings, backend: PlannerBackend, profile: VehicleProfile
) -> Episode:
    # Policies keep state between ticks (chunks), so every car has its own.
    policy = load_policy(settings.controller, profile)
    controller = Controller(profile, policy, ControllerSettings(reprojection=settings.reprojection))
    hello = Hello(car_id=f"car-{seed}", session_id=f"episode-{seed}", profile=profile)
    session = PlannerSession(hello, cruise_mps=scenario.cruise_mps, confirm=not backend.wants_truth)
    return Episode(
        scenario, seed, controller, session, Judge(scenario, profile), sorted(scenario.commands, key=lambda c: c.t_s)
    )


def _run_batch(batch, backend, delay_s, settings, profile, sees, on_plan, watch) -> Iterator[Episode]:
    """Step all cars of a batch together until each one's judge has decided."""
    seeds = [episode.seed for episode in batch]
    roads = [episode.scenario.road for episode in batch]
    env = TrackVectorEnv(
        len(batch),
        roads,
        profile=profile,
        camera_size=(profile.camera.width_px, profile.camera.height_px) if sees else None,
        randomize=settings.randomize,
        seed=seeds,
    )
    env.reset(seed=seeds)
    for i, episode in enumerate(batch):
        scenario = episode.scenario
        env.place(i, i, scenario.start_s_m, scenario.start_d_m, 0.0, scenario.start_speed_mps)
        env.set_actors(i, scenario.actors)
    observation = env.observe()
    running = set(range(len(batch)))
    actions = np.zeros((len(batch), 2), dtype=np.float32)
    tick = 0
    while running:
        now_ns = round(tick * 1e9 / TICK_HZ)
        asked: list[tuple[int, PlanRequest, Frame]] = []
        for i in running:
            request = _sense_and_ask(batch[i], env, i, observation, tick, now_ns, sees, backend.wants_truth)
            if request is not None:
                asked.append((i, *request))
        if asked:
            _answer(batch, asked, backend, delay_s, tick, on_plan)
        actions[:] = (0.0, -1.0)
        for i in running:
            actions[i] = _drive(batch[i], observation, i, tick, now_ns, sees)
        observation, *_ = env.step(actions)
        tick += 1
        for i in sorted(running):
            episode = batch[i]
            episode.judge.observe(env.truth(i), *(episode.last_verdict or (None, None)))
            if watch:
                watch(tick, episode, env, i)
            if episode.judge.finished:
                running.discard(i)
                yield episode
    env.close()


def _sense_and_ask(episode, env, i, observation, tick, now_ns, sees, wants_truth):
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
        truth=env.truth(i).to_dict() if wants_truth else None,
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


def _delay_s(settings: EvaluateSettings, backend: PlannerBackend, profile: VehicleProfile) -> float:
    """The planner's answer time: as set, or the median of ten single answers of this backend on this machine."""
    if settings.delay_ms != "measured":
        try:
            delay_s = float(settings.delay_ms) / 1000.0
        except ValueError:
            raise EvaluationError(f"delay_ms must be a number or 'measured', got {settings.delay_ms!r}") from None
        if not 0.0 <= delay_s <= 10.0:
            raise EvaluationError(f"delay_ms must be between 0 and 10000, got {settings.delay_ms}")
        return delay_s
    env = TrackVectorEnv(1, [random_road(UNSEEN_ROADS + settings.seed)], profile=profile, seed=settings.seed)
    observation, _ = env.reset(seed=settings.seed)
    truth = env.truth(0).to_dict() if backend.wants_truth else None
    images = (observation["image"][0], observation["image"][0])
    request = PlanRequest(images, EgoState(speed_mps=1.0), Doing(), profile, 1.2, truth=truth)
    times = []
    for _ in range(12):
        begin = time.perf_counter()
        backend.plan([request])
        times.append(time.perf_counter() - begin)
    env.close()
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

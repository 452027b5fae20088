"""Which episodes an evaluation runs: settings, and the scenarios that they make in the world asked for.

Knows the registry of worlds and scenarios; nothing of planners, controllers and time.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bridge.messages import VehicleProfile
from bridge.names import UnknownName, choose
from bridge.planning import Instruction
from sims.road import Road
from sims.scenarios import SCENARIOS, Scenario, ScenarioError, make_scenario
from sims.world import WorldSpec
from sims.worlds import find_world

ATTEMPTS = 20  # roads and seeds tried for one episode
NUMBER = re.compile(r"\d+(?:\.\d+)?")
LONGEST_DELAY_MS = 10_000.0


class EvaluationError(RuntimeError):
    """Settings that cannot be carried out; the message says which and what to do."""


def parse_delay(delay: float | str) -> float | str:
    """Milliseconds, or "measured". Raises EvaluationError."""
    if delay == "measured":
        return delay
    try:
        delay_ms = float(delay)
    except (TypeError, ValueError):
        delay_ms = math.nan
    if not 0.0 <= delay_ms <= LONGEST_DELAY_MS:
        raise EvaluationError(f"delay_ms {delay!r}: give milliseconds (0 to {LONGEST_DELAY_MS:.0f}) or: measured")
    return delay_ms


class EvaluateSettings(BaseModel):
    """What to evaluate. `track`: "random", names of the world's own tracks, or racetrack files. `delay_ms`: the
    planner's whole answer time, or "measured". `phrasings`: scenario -> texts that replace the built-in commands.
    `episodes` is the total. `randomize`: strength of the world's randomisation of look, camera and physics, 0 nominal,
    1 as hard as training at its hardest (where some pictures hardly show the lines)."""

    model_config = ConfigDict(extra="forbid")

    world: str = "track"
    suite: str = "all"
    track: tuple[str, ...] = ("random",)
    planner: str = "expert"
    controller: str = "pursuit"
    delay_ms: Annotated[float | Literal["measured"], BeforeValidator(parse_delay)] = 0.0
    reprojection: bool = True
    phrasings: dict[str, list[str]] | None = None
    episodes: int = Field(default=60, ge=1)
    seed: int = 0
    randomize: float = Field(default=0.5, ge=0.0, le=1.0)


def choose_scenarios(suite: str) -> tuple[str, ...]:
    """Names in a `--suite`. Raises EvaluationError for an unknown one."""
    names = SCENARIOS if suite == "all" else tuple(n.strip() for n in suite.split(","))
    try:
        return tuple(choose(name, SCENARIOS, "scenario") for name in names)
    except UnknownName as error:
        raise EvaluationError(f"{error} (all: {', '.join(SCENARIOS)})") from None


def build_scenarios(
    settings: EvaluateSettings,
    profile: VehicleProfile,
    *,
    eyes: bool = False,
    skipped: dict[str, str] | None = None,
) -> list[tuple[Scenario, int]]:
    """(scenario, seed) for every episode, spread evenly over the suite and over the tracks. What the world cannot show
    is left out and named in `skipped` with the reason; `eyes`: someone looks at the camera. Raises EvaluationError
    where nothing is left, RoadError for an unknown track."""
    spec = find_world(settings.world)
    skipped = {} if skipped is None else skipped
    asked = choose_scenarios(settings.suite)
    skipped |= {name: reason for name in asked if (reason := spec.objection(name, eyes=eyes))}
    names = [name for name in asked if name not in skipped]
    roads: list[Road | None] = [spec.road(track, 0) for track in settings.track if track != "random"]
    if "random" in settings.track:
        roads.append(None)
    episodes = []
    for k in range(settings.episodes if names else 0):
        name, road = names[k % len(names)], roads[(k // len(names)) % len(roads)]
        seed = settings.seed * 100_003 + k
        try:
            scenario = _one_scenario(name, spec, road, seed, profile)
            episodes.append((_rephrase(scenario, settings.phrasings, seed), seed))
        except ScenarioError as error:
            skipped.setdefault(name, f"some or all episodes: {error}")
    if not episodes:
        reasons = sorted({f"{name}: {reason}" for name, reason in skipped.items()})
        raise EvaluationError("no episode is possible: " + "; ".join(reasons))
    return episodes


def _one_scenario(name: str, spec: WorldSpec, road: Road | None, seed: int, profile: VehicleProfile) -> Scenario:
    """On `road`, or on a random one; a world without traffic shows the scenario without those who only pass by."""
    error = None
    for attempt in range(ATTEMPTS):
        where = road or spec.road("random", seed * ATTEMPTS + attempt)
        try:
            scenario = make_scenario(name, where, seed + 7919 * attempt, profile=profile)
            return scenario if spec.traffic else replace(scenario, actors=())
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

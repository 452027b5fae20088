"""A model that was taught on the default car plans for another one: what it is told is brought to its scale, what it
answers back from it. See `bridge.scale`. Knows the plan grammar and the words of speed commands; no model.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bridge.messages import VehicleProfile, Waypoint
from bridge.planning import PlanAnswer, PlanRequest
from bridge.scale import model_profile, scale_of
from planner.grammar import Chain, GrammarError, parse_answer, render_facts
from planner.phrasebook import understand

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def request_at_model_scale(request: PlanRequest) -> PlanRequest:
    """The request as the default car would make it: profile, speeds, ages, and the speed in a command's text."""
    scale = scale_of(request.profile)
    if scale.is_one:
        return request
    command = request.command
    if command is not None:
        command = replace(command, text=_text_scaled(command.text, scale.speed), age_s=command.age_s / scale.time)
    return replace(
        request,
        profile=model_profile(request.profile),
        ego=request.ego.model_copy(
            update={
                "speed_mps": request.ego.speed_mps / scale.speed,
                "yaw_rate_radps": request.ego.yaw_rate_radps * scale.time,
            }
        ),
        cruise_mps=request.cruise_mps / scale.speed,
        command=command,
    )


def _text_scaled(text: str, factor: float) -> str:
    """A command that asks for a speed with its number divided by `factor`; any other text as it is."""
    meaning = understand(text)
    if meaning is None or meaning.speed_mps is None:
        return text
    said = next((m for m in _NUMBER.finditer(text) if float(m.group()) == meaning.speed_mps), None)
    return text if said is None else f"{text[: said.start()]}{meaning.speed_mps / factor:.1f}{text[said.end() :]}"


def parse_at_full_scale(text: str, profile: VehicleProfile) -> PlanAnswer:
    """`parse_answer` of a text at model scale, as a plan for the car `profile`: waypoints and speeds in real metres and
    m/s, and so the distances that are told. `raw` keeps the model's own words. Raises GrammarError."""
    answer = parse_answer(text, model_profile(profile))
    scale = scale_of(profile)
    if scale.is_one:
        return answer
    extra, reasoning = dict(answer.extra), answer.reasoning
    chain: Chain = extra["chain"]
    extra["chain"] = replace(chain, first_mps=chain.first_mps * scale.speed, last_mps=chain.last_mps * scale.speed)
    if "facts" in extra:
        actors = [{**a, "distance_m": round(a["distance_m"] * scale.length, 1)} for a in extra["facts"]["actors"]]
        extra["facts"] = {**extra["facts"], "actors": actors}
        reasoning = _told(extra, reasoning)
    points = tuple(
        Waypoint(x_m=w.x_m * scale.length, y_m=w.y_m * scale.length, v_mps=w.v_mps * scale.speed)
        for w in answer.waypoints
    )
    return replace(answer, waypoints=points, reasoning=reasoning, extra=extra)


def _told(extra: dict, otherwise: str) -> str:
    """The facts as sentences; a distance that the sentences have no room for leaves the model's own words."""
    try:
        return render_facts(extra["facts"], extra["action"])
    except GrammarError:
        return otherwise

"""Action dreaming: many instructions for one picture, each with the prompt that the planner would see and the answer
that the expert gives, the impossible and the unsafe ones among them.

Knows truth, expert, prompt and grammar; knows no tokenizer, no tensors, no pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bridge.messages import Doing, EgoState, Intent, VehicleProfile, Verdict
from bridge.planning import INSTRUCTIONS, CommandInForce, Instruction, PlanAnswer, PlanRequest
from planner.grammar import BENDS, REASONS, render_answer
from planner.phrasebook import sample_phrasing
from planner.prompt import render_prompt
from sims.expert import expert_answer
from sims.facts import without_specks
from sims.truth import Truth

NO_COMMAND_SHARE = 0.25
CLOSE_M = 1.6  # from rear axle to the other's middle
_BENDS = {**{k: k for k in BENDS}, **{k.replace("gentle", "gently").replace("sharp ", "sharply "): k for k in BENDS}}
_REASONS = {"no other lane": "no free lane", "I do not understand": "command not understood"}
_BASE_WEIGHT = {
    "follow_lane": 0.5,
    "faster": 1.0,
    "slower": 1.0,
    "target_speed": 1.2,
    "stop": 0.8,
    "change_left": 1.5,
    "change_right": 1.5,
    "overtake_left": 1.5,
    "overtake_right": 1.5,
    "follow_vehicle": 0.8,
    "keep_left": 1.2,
    "keep_right": 1.2,
    "avoid_obstacle": 1.0,
    "pull_over": 1.3,
}


@dataclass(frozen=True)
class Dream:
    """One training pair: prompt and answer text, and what the answer means (for evaluation)."""

    prompt: str
    text: str
    answer: PlanAnswer
    instruction: Instruction | None


def sample_dreams(rng: np.random.Generator, truth: Truth, profile: VehicleProfile, count: int) -> list[Dream]:
    """`count` different instructions (or none) for one moment."""
    weights = _weights(truth, profile)
    kinds = rng.choice(len(INSTRUCTIONS), size=count, replace=False, p=weights)
    cruise = _sample_cruise(rng, truth, profile)
    dreams = []
    silent = rng.random() < NO_COMMAND_SHARE * count
    for j, k in enumerate(kinds):
        instruction = None if silent and j == 0 else _instruction(rng, INSTRUCTIONS[k])
        dreams.append(_dream(rng, truth, profile, instruction, cruise))
    return dreams


def dream_of(
    rng: np.random.Generator,
    truth: Truth,
    profile: VehicleProfile,
    instruction: Instruction | None,
    *,
    cruise_mps: float,
    age_s: float = 0.0,
    start_lane: int | None = None,
    doing: Doing | None = None,
    language: str | None = None,
) -> Dream:
    """The pair for a known situation; the words of the command are drawn from the phrasebook."""
    answer = expert_answer(without_specks(truth, profile), profile, instruction, cruise_mps, age_s, start_lane)
    command = None
    if instruction is not None:
        words = str(sample_phrasing(rng, instruction, language))
        command = CommandInForce(id="c", text=words, age_s=age_s, start_lane=start_lane)
    ego = EgoState(speed_mps=truth.speed_mps, yaw_rate_radps=truth.yaw_rate_radps)
    request = PlanRequest(
        images=(), ego=ego, doing=doing or Doing(), profile=profile, cruise_mps=cruise_mps, command=command
    )
    answer = sayable(answer)
    return Dream(render_prompt(request), render_answer(answer, profile), answer, instruction)


def sayable(answer: PlanAnswer) -> PlanAnswer:
    """The expert's answer in the words of the plan grammar: its names of bends, its list of reasons; a reason only
    where something is not done."""
    facts = dict(answer.extra["facts"])
    facts["bend"] = _BENDS[facts["bend"]]
    facts.setdefault("action", answer.extra.get("action", "keeping my lane"))
    reason = ""
    if answer.verdict in (Verdict.WAITING, Verdict.REFUSED):
        reason = _REASONS.get(answer.verdict_reason, answer.verdict_reason)
        if reason not in REASONS:
            reason = ""
    return replace(answer, verdict_reason=reason, extra={**answer.extra, "facts": facts})


def _weights(truth: Truth, profile: VehicleProfile) -> np.ndarray:
    weight = dict(_BASE_WEIGHT)
    ahead = [a for a in truth.actors if 0.2 < a.s_ahead_m < 6.0]
    if any(a.lane == truth.lane for a in ahead):
        weight["overtake_left"] *= 3.0
        weight["overtake_right"] *= 3.0
        weight["follow_vehicle"] *= 2.5
    if any(a.lane == truth.lane and a.s_ahead_m < CLOSE_M for a in ahead):
        # Out of its lane so close behind another is where speed matters most, and expert driving is seldom there.
        for kind, lane in (("overtake_left", truth.lane + 1), ("overtake_right", truth.lane - 1)):
            weight[kind] *= 2.5 if 0 <= lane < truth.lane_count else 1.0
    if any(a.kind != "car" for a in ahead):
        weight["avoid_obstacle"] *= 4.0
    table = np.array([weight[k] for k in INSTRUCTIONS])
    return table / table.sum()


def _instruction(rng: np.random.Generator, kind: str) -> Instruction:
    if kind != "target_speed":
        return Instruction(kind)
    return Instruction(kind, float(np.clip(round(rng.normal(1.3, 0.5), 1), 0.3, 2.6)))


def _sample_cruise(rng: np.random.Generator, truth: Truth, profile: VehicleProfile) -> float:
    usual = 0.8 * profile.reference_speed_mps
    pick = rng.random()
    if pick < 0.5:
        return usual
    if pick < 0.7:
        return float(np.clip(truth.speed_mps + rng.normal(0, 0.1), 0.3, 2.4))
    return float(np.clip(usual * rng.choice([0.6, 0.75, 1.25, 1.4, 1.0]) + rng.normal(0, 0.1), 0.3, 2.4))


def _start_lane(rng: np.random.Generator, truth: Truth, instruction: Instruction | None) -> int:
    """Mostly the present lane, else the one that a manoeuvre of this kind would have begun in."""
    lane, last = truth.lane, truth.lane_count - 1
    if instruction is None or rng.random() < 0.6:
        return lane
    step = {"left": -1, "right": 1}.get(instruction.kind.rpartition("_")[2], int(rng.choice([-1, 1])))
    return int(np.clip(lane + step, 0, last))


def _dream(rng, truth: Truth, profile: VehicleProfile, instruction: Instruction | None, cruise: float) -> Dream:
    fresh = rng.random() < 0.35
    age = float(rng.uniform(0.0, 0.5)) if fresh else float(min(rng.exponential(3.5) + 0.3, 15.0))
    start = None if fresh and rng.random() < 0.5 else truth.lane if fresh else _start_lane(rng, truth, instruction)
    answer = expert_answer(without_specks(truth, profile), profile, instruction, cruise, age, start)
    since = float(rng.exponential(3.0))
    pick = rng.random()
    if fresh or pick < 0.35:
        doing = Doing(intent=Intent.FOLLOW_LANE, since_s=since)
    elif pick < 0.92:
        doing = Doing(intent=answer.intent, since_s=min(since, age))
    else:
        doing = Doing(intent=list(Intent)[int(rng.integers(len(Intent)))], since_s=since)
    return dream_of(rng, truth, profile, instruction, cruise_mps=cruise, age_s=age, start_lane=start, doing=doing)

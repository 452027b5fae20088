"""The plan grammar: one text form of a plan, for training targets, constrained decoding and parsing.

An answer is a few sentences about the picture, then three lines:

    2 lanes, I am in lane 0, centre. Road bends gently left. Car in lane 0 at 2.5 m. Left lane is free, overtaking.
    intent overtake_left accepted
    path 3 5 8 12 15 18 20 22
    speed 1.6 1.6

`path` holds the headings, in whole degrees in the ego frame at capture, of SEGMENTS straight segments that start at the
rear axle, each SEGMENT_WHEELBASES wheelbases long; `speed` the speeds in m/s at the first and at the last waypoint
(linear in between). After the intent stands the verdict on the command in force (`none` without one); `waiting` and
`refused` are followed by `: reason`. The text knows nothing of any model or tokenizer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.messages import Intent, VehicleProfile, Verdict, Waypoint
from bridge.planning import PlanAnswer

SEGMENTS = 8
SEGMENT_WHEELBASES = 2.0
MAX_SPEED_MPS = 99.9
MAX_ACTORS = 2
POSITIONS = ("left", "centre", "right")
BENDS = ("straight", "gently left", "gently right", "sharply left", "sharply right")
ACTOR_KINDS = ("car", "cone", "box")
# The phrases that the small planner may use; larger models find their own words.
REASONS = (
    "no lane on the left",
    "no lane on the right",
    "no car ahead",
    "no obstacle ahead",
    "left lane is occupied",
    "right lane is occupied",
    "no other lane",
    "no free lane",
    "I do not understand",
)
ACTIONS = (
    "keeping my lane",
    "slowing for the bend",
    "following the slower car",
    "following the car",
    *(f"stopping before the {kind}" for kind in ACTOR_KINDS),
    "stopping",
    "speeding up",
    "slowing down",
    "taking the asked speed",
    *(f"{side} lane is {what}" for side in ("left", "right") for what in ("free, changing lane", "free, overtaking")),
    *(f"{side} lane is {what}" for side in ("left", "right") for what in ("free, going around", "occupied, waiting")),
    *(f"{what} {side} lane" for side in ("left", "right") for what in ("keeping to the", "moving to the")),
    *(f"no {what}" for what in ("lane on the left", "lane on the right", "car ahead", "obstacle ahead")),
    "no other lane, stopping",
    "no free lane, waiting",
    "lane change complete",
    "passing the car",
    "past the car",
    "passing the obstacle",
    "past the obstacle",
    "pulling over",
    "standing at the right",
)

# Named groups serve the parser; `_plain` turns them into plain ones for the decoding engines.
_ACTOR = r"(?:{kinds}) in lane [0-9] at [0-9]{{1,2}}\.[0-9] m"
_ACTORS = (
    r"(?P<actors>Nothing ahead|"
    + _ACTOR.format(kinds="|".join(k.capitalize() for k in ACTOR_KINDS))
    + r"(?:, "
    + _ACTOR.format(kinds="|".join(ACTOR_KINDS))
    + r")?)"
)
_FACTS = (
    r"(?P<lane_count>1 lane|[2-9] lanes), I am in lane (?P<lane>[0-9]), (?P<position>" + "|".join(POSITIONS) + r")\. "
    r"Road (?P<bend>is straight|bends (?:" + "|".join(BENDS[1:]) + r"))\. " + _ACTORS + r"\. "
)
_ACTION = r"(?P<action>[A-Z][a-z0-9 ,'_-]{1,58}[a-z0-9])"
_HEADING = r"(?:0|-?(?:[1-9][0-9]?|1[0-7][0-9])|180|-180)"
_SPEED = r"(?:0|[1-9][0-9]?)\.[0-9]"
_INTENT = r"\nintent (?P<intent>" + "|".join(Intent) + ") "
_VERDICT = r"(?P<verdict>none|" + "|".join(Verdict) + r")(?:: (?P<reason>[^\n]{1,120}))?"
_PATH = r"\npath (?P<path>" + " ".join([_HEADING] * SEGMENTS) + ")"
_SPEEDS = r"\nspeed (?P<speed>" + _SPEED + " " + _SPEED + ")"
_FACTS_RE = re.compile(_FACTS + _ACTION + r"\.")
_ANSWER_RE = re.compile(r"(?P<reasoning>.*?)" + _INTENT + _VERDICT + _PATH + _SPEEDS + r"\s*", re.DOTALL)
_ACTOR_RE = re.compile(r"(?P<kind>\w+) in lane (?P<lane>[0-9]) at (?P<distance>[0-9.]+) m")


class GrammarError(ValueError):
    """The text is not a plan, or the plan cannot be written; the message names the place and what was expected."""


@dataclass(frozen=True)
class Chain:
    """A path as the text carries it: SEGMENTS headings in whole degrees (-180..180, ego frame, 0 ahead, positive left)
    and the speeds in m/s at the first and the last waypoint, to one decimal."""

    headings_deg: tuple[int, ...]
    first_mps: float
    last_mps: float


def waypoints_from_chain(chain: Chain, profile: VehicleProfile) -> tuple[Waypoint, ...]:
    """Waypoints (m, m/s, ego frame at capture) of a chain; the k-th lies k segments along, none at the origin."""
    step = SEGMENT_WHEELBASES * profile.wheelbase_m
    x = y = 0.0
    points = []
    for k, heading in enumerate(chain.headings_deg):
        x += step * math.cos(math.radians(heading))
        y += step * math.sin(math.radians(heading))
        share = k / (len(chain.headings_deg) - 1)
        points.append(Waypoint(x_m=x, y_m=y, v_mps=chain.first_mps + share * (chain.last_mps - chain.first_mps)))
    return tuple(points)


def chain_from_waypoints(waypoints: Sequence[Waypoint], profile: VehicleProfile) -> Chain:
    """The chain nearest to a path that starts at the rear axle (the origin is added in front). A path that is not cut
    into segments already is walked in chords of one segment, its last piece prolonged. Raises GrammarError for a path
    without length or speeds beyond MAX_SPEED_MPS."""
    if not waypoints:
        raise GrammarError("path: no waypoints")
    step = SEGMENT_WHEELBASES * profile.wheelbase_m
    points = [(0.0, 0.0), *((w.x_m, w.y_m) for w in waypoints)]
    if not _is_chain(points, step):
        points = _chords(points, step)
    headings = tuple(
        round(math.degrees(math.atan2(b[1] - a[1], b[0] - a[0]))) for a, b in zip(points, points[1:], strict=False)
    )
    return Chain(headings, _one_decimal(waypoints[0].v_mps), _one_decimal(waypoints[-1].v_mps))


def render_answer(answer: PlanAnswer, profile: VehicleProfile) -> str:
    """The text of an answer. The reasoning is made from `extra["facts"]` and `extra["action"]` where present, else
    `reasoning` as it is; a reason is written where the command is not obeyed. Raises GrammarError when something cannot
    be written."""
    facts, action = answer.extra.get("facts"), answer.extra.get("action")
    reasoning = render_facts(facts, action) if facts and action else " ".join(answer.reasoning.split())
    chain = chain_from_waypoints(answer.waypoints, profile)
    verdict = str(answer.verdict) if answer.verdict is not None else "none"
    said = answer.verdict_reason if answer.verdict in (Verdict.WAITING, Verdict.REFUSED) else ""
    reason = f": {' '.join(said.split())}" if said else ""
    path = " ".join(str(h) for h in chain.headings_deg)
    return (
        f"{reasoning}\nintent {answer.intent} {verdict}{reason}\npath {path}"
        f"\nspeed {chain.first_mps:.1f} {chain.last_mps:.1f}"
    )


def parse_answer(text: str, profile: VehicleProfile) -> PlanAnswer:
    """Read an answer; `extra` holds "chain" and, when the reasoning is in the grammar's sentences, "facts" and "action"
    (the lane then also stands in `lane`). Any reasoning in words is taken. Raises GrammarError naming the first wrong
    place."""
    if len(text) > 4000:
        raise GrammarError(f"answer: {len(text)} characters, at most 4000 are read")
    match = _ANSWER_RE.fullmatch(text)
    if match is None:
        raise GrammarError(_first_fault(text))
    headings = tuple(int(h) for h in match["path"].split())
    first, last = (float(v) for v in match["speed"].split())
    chain = Chain(headings, first, last)
    reasoning = match["reasoning"].strip()
    said = parse_facts(reasoning)
    extra = {"chain": chain} | ({"facts": said[0], "action": said[1]} if said else {})
    verdict = None if match["verdict"] == "none" else Verdict(match["verdict"])
    return PlanAnswer(
        intent=Intent(match["intent"]),
        waypoints=waypoints_from_chain(chain, profile),
        reasoning=reasoning[:2000],
        verdict=verdict,
        verdict_reason=(match["reason"] or "").strip() if verdict else "",
        lane=said[0]["lane"] if said else None,
        raw=text,
        extra=extra,
    )


def render_facts(facts: dict, action: str) -> str:
    """Sentences of a facts dict: lane_count, lane, position (POSITIONS), bend (BENDS), actors (the nearest MAX_ACTORS:
    kind, lane, distance_m); then the action phrase. Raises GrammarError for facts that cannot be said."""
    try:
        count, bend = int(facts["lane_count"]), facts["bend"]
        actors = [
            f"{a['kind']} in lane {int(a['lane'])} at {float(a['distance_m']):.1f} m"
            for a in facts["actors"][:MAX_ACTORS]
        ]
        text = (
            f"{count} {'lane' if count == 1 else 'lanes'}, I am in lane {int(facts['lane'])}, {facts['position']}. "
            f"Road {'is' if bend == 'straight' else 'bends'} {bend}. {_capital(', '.join(actors) or 'nothing ahead')}. "
            f"{_capital(action)}."
        )
    except KeyError as error:
        raise GrammarError(f"facts: missing {error}") from None
    if not _FACTS_RE.fullmatch(text):
        raise GrammarError(f"facts: cannot be said in the grammar: {text!r}")
    return text


def parse_facts(reasoning: str) -> tuple[dict, str] | None:
    """The facts dict and the action phrase that the sentences state, or None when they are other sentences."""
    match = _FACTS_RE.fullmatch(reasoning)
    if match is None:
        return None
    actors = [
        {"kind": m["kind"].lower(), "lane": int(m["lane"]), "distance_m": float(m["distance"])}
        for m in _ACTOR_RE.finditer(match["actors"])
    ]
    facts = {
        "lane_count": int(match["lane_count"][0]),
        "lane": int(match["lane"]),
        "position": match["position"],
        "bend": match["bend"].split(" ", 1)[1],
        "actors": actors,
    }
    return facts, match["action"][0].lower() + match["action"][1:]


def answer_regex(*, free: bool = False) -> str:
    """Regular expression (common subset of Rust and Python, no named groups) of the answers allowed in constrained
    decoding: our sentences with ACTIONS and REASONS; `free`: any one line of reasoning and any reason, for models that
    were not trained on our sentences. A verdict `waiting` or `refused` always gives its reason."""
    words = r"[^\n]{1,400}" if free else _FACTS + "(?:" + "|".join(_capital(a) for a in ACTIONS) + r")\."
    reason = r"[^\n]{1,120}" if free else "|".join(REASONS)
    return _plain(words + _INTENT + f"(?:none|accepted|done|(?:waiting|refused): (?:{reason}))" + _PATH + _SPEEDS)


def _plain(pattern: str) -> str:
    return re.sub(r"\?P<\w+>", "?:", pattern)


def _one_decimal(speed_mps: float) -> float:
    if not 0.0 <= speed_mps <= MAX_SPEED_MPS:
        raise GrammarError(f"speed: {speed_mps} m/s cannot be written, 0 to {MAX_SPEED_MPS} can")
    return round(speed_mps, 1) + 0.0


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _is_chain(points: list[tuple[float, float]], step: float) -> bool:
    return len(points) == SEGMENTS + 1 and all(
        abs(math.dist(a, b) - step) < 1e-3 * step for a, b in zip(points, points[1:], strict=False)
    )


def _chords(points: list[tuple[float, float]], step: float) -> list[tuple[float, float]]:
    """Points on the polyline, each one chord of length `step` from the one before."""
    points = [p for i, p in enumerate(points) if i == 0 or math.dist(p, points[i - 1]) > 1e-6]
    if len(points) < 2:
        raise GrammarError("path: all waypoints lie at the rear axle, it has no direction")
    out, leg = [points[0]], 1
    while len(out) <= SEGMENTS:
        while leg < len(points) and math.dist(out[-1], points[leg]) <= step:
            leg += 1
        if leg == len(points):
            (ax, ay), (bx, by) = points[-2], points[-1]
            reach = SEGMENTS * step * 2 / math.dist((ax, ay), (bx, by))
            points.append((bx + (bx - ax) * reach, by + (by - ay) * reach))
        out.append(_on_circle(out[-1], points[leg - 1], points[leg], step))
    return out


def _on_circle(centre, a, b, radius):
    """The point of segment a-b (b outside the circle) where it leaves the circle around `centre`."""
    dx, dy, fx, fy = b[0] - a[0], b[1] - a[1], a[0] - centre[0], a[1] - centre[1]
    qa, qb, qc = dx * dx + dy * dy, 2 * (fx * dx + fy * dy), fx * fx + fy * fy - radius * radius
    t = (-qb + math.sqrt(max(qb * qb - 4 * qa * qc, 0.0))) / (2 * qa)
    return a[0] + t * dx, a[1] + t * dy


def _first_fault(text: str) -> str:
    """Name the first line of the plan that is wrong."""
    lines = text.rstrip().split("\n")
    at = next((i for i, line in enumerate(lines) if i and line.startswith("intent ")), None)
    if at is None:
        return f"answer: no line 'intent <intent> <verdict>' after the reasoning in {text[:120]!r}"
    for name, pattern, line in zip(
        ("intent", "path", "speed"), (_INTENT + _VERDICT, _PATH, _SPEEDS), lines[at:], strict=False
    ):
        if not re.fullmatch(pattern, "\n" + line):
            return f"{name} line: {line[:120]!r} does not match {_plain(pattern)[:160]}"
    missing = ("path", "speed", "end")[min(len(lines) - at - 1, 2)]
    return f"answer: expected {missing} after line {len(lines)}" if missing != "end" else "answer: text after the plan"

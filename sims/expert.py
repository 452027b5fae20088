"""The expert: rules that turn a world's truth and an instruction into a plan; data engine and upper baseline.

Knows truth, profile and the meaning of a command; knows no world, no camera, no model, and keeps no state: what it does
depends only on its arguments (so that a model that sees one moment can imitate it). What it *says* (see `sims.facts`)
comes only from what the camera could see. Its rules are written for the default car; another car's truth is brought to
that scale first and the plan back from it (`bridge.scale`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bridge.messages import Intent, VehicleProfile, Verdict, Waypoint
from bridge.planning import Instruction, PlanAnswer, PlanError, PlanRequest
from bridge.scale import Scale, model_profile, scale_of
from sims.expert_path import LanePath, lane_path, plan_speeds, waypoints_of
from sims.facts import describe, visible_facts
from sims.scale import instruction_scaled, truth_at_model_scale
from sims.truth import ActorTruth, Truth

VIEW_M = 6.0  # nothing farther ahead is reacted to
STANDSTILL_GAP_M = 0.35  # bumper to bumper, at rest behind something
HEADWAY_S = 1.3
MERGING_HEADWAY_S = 0.7
BRAKE_USED = 0.8  # of the full brake, most that keeping a distance may ask for
FASTER, SLOWER = 1.4, 0.6  # times the cruise speed
SPEED_DONE_S = 3.0  # age at which a speed command counts as carried out
GAP_BEHIND_M, GAP_AHEAD_M = 0.7, 1.2  # free space that a lane change needs
TO_PASS_M = 4.0  # a car that is being overtaken may still be this far ahead
BEYOND_LEAD_M = 2.4  # an overtaking needs the other lane free up to this far beyond the lead
NEAR_CENTER = 0.15  # lane widths
SIDE_MARGIN_M = 0.06


@dataclass(frozen=True)
class _Scene:
    """Arguments of one call and what is derived from them at once."""

    truth: Truth
    profile: VehicleProfile
    cruise_mps: float
    age_s: float
    start_lane: int

    def gap_ahead(self, actor: ActorTruth) -> float:
        """From the front bumper to the actor's rear, along the road; negative when beside or behind."""
        nose = self.profile.length_m - self.profile.rear_overhang_m
        return actor.s_ahead_m - actor.length_m / 2 - nose

    @property
    def patience(self) -> float:
        """Factor on headways, above 1 for a car whose brake is weak for its speed."""
        return max(1.0, self.cruise_mps / (BRAKE_USED * self.profile.max_brake_mps2 * HEADWAY_S))

    def gap_behind(self, actor: ActorTruth) -> float:
        """From the actor's front to the rear bumper; negative when it is beside or ahead."""
        return -actor.s_ahead_m - actor.length_m / 2 - self.profile.rear_overhang_m

    def lead(self, lane: int) -> ActorTruth | None:
        """The nearest actor in `lane` that is not yet beside or behind, within view."""
        ahead = [a for a in self.truth.actors if a.lane == lane and -0.2 < self.gap_ahead(a) < VIEW_M]
        return min(ahead, key=lambda a: a.s_ahead_m, default=None)

    def occupied(self, lane: int, until_m: float = 0.0) -> bool:
        """Whether an actor in `lane` stands in the way of going there; `until_m`: s ahead that must be free, too."""
        for actor in self.truth.actors:
            if actor.lane != lane or self.gap_behind(actor) > GAP_BEHIND_M:
                continue
            if self.gap_ahead(actor) < GAP_AHEAD_M or actor.s_ahead_m < until_m:
                return True
        return False

    def centered_in(self, lane: int) -> bool:
        return abs(self.truth.d_m - self.truth.lane_center_d_m(lane)) < NEAR_CENTER * self.truth.lane_width_m


@dataclass(frozen=True)
class _Choice:
    """What to do: where to (lane), how fast, and what to say of it. `merging`: the path leaves the lane of the lead."""

    lane: int
    speed_mps: float
    action: str
    intent: Intent = Intent.FOLLOW_LANE
    verdict: Verdict | None = None
    reason: str = ""
    merging: bool = False


def expert_answer(
    truth: Truth,
    profile: VehicleProfile,
    instruction: Instruction | None,
    cruise_mps: float,
    age_s: float = 0.0,
    start_lane: int | None = None,
) -> PlanAnswer:
    """The plan for one moment.

    Args: `age_s` of the command [s]; `start_lane` in which the car was when the command came (None: the present one).
    Returns a PlanAnswer with 8 waypoints (ego frame, a chain of segments of two wheelbases from the rear axle) and
    `extra`: `facts` (visible ones, see `sims.facts`), `action` (the last phrase of the reasoning), `headings_rad` (8,)
    of the segments and `speeds_mps` (first, last). All in real metres and m/s of the car `profile`.
    """
    scale = scale_of(profile)
    if scale.is_one:
        return _answer(truth, profile, instruction, cruise_mps, age_s, start_lane)
    small = truth_at_model_scale(truth, profile)
    instruction = instruction_scaled(instruction, 1.0 / scale.speed)
    answer = _answer(
        small, model_profile(profile), instruction, cruise_mps / scale.speed, age_s / scale.time, start_lane
    )
    return _at_full_scale(answer, scale)


def _at_full_scale(answer: PlanAnswer, scale: Scale) -> PlanAnswer:
    """The default car's plan as that of a car at `scale`: waypoints, speeds, and the distances that are told."""
    facts, action = answer.extra["facts"], answer.extra["action"]
    actors = [{**a, "distance_m": round(a["distance_m"] * scale.length, 1)} for a in facts["actors"]]
    facts = {**facts, "actors": actors}
    speeds = tuple(v * scale.speed for v in answer.extra["speeds_mps"])
    return replace(
        answer,
        waypoints=tuple(
            Waypoint(x_m=w.x_m * scale.length, y_m=w.y_m * scale.length, v_mps=w.v_mps * scale.speed)
            for w in answer.waypoints
        ),
        reasoning=describe(facts, action),
        extra={**answer.extra, "facts": facts, "speeds_mps": speeds},
    )


def _answer(
    truth: Truth,
    profile: VehicleProfile,
    instruction: Instruction | None,
    cruise_mps: float,
    age_s: float,
    start_lane: int | None,
) -> PlanAnswer:
    """`expert_answer` for a car of the default scale."""
    begin = time.perf_counter()
    lane = truth.lane if start_lane is None else min(max(start_lane, 0), truth.lane_count - 1)
    scene = _Scene(truth, profile, cruise_mps, age_s, lane)
    choice = _follow(scene) if instruction is None else _RULES[instruction.kind](scene, instruction)
    path = lane_path(truth, profile, truth.lane_center_d_m(choice.lane), max(choice.speed_mps, truth.speed_mps))
    wanted, obstacle = _heed_traffic(scene, path, choice)
    first, last = plan_speeds(truth, profile, path, min(wanted, profile.max_speed_mps), obstacle)
    facts = visible_facts(truth, profile)
    bending = facts["bend"] != "straight"
    action = _follow_phrase(choice, obstacle, bending and first < 0.9 * cruise_mps)
    return PlanAnswer(
        intent=choice.intent,
        waypoints=waypoints_of(path, first, last),
        reasoning=describe(facts, action),
        verdict=choice.verdict,
        verdict_reason=choice.reason,
        lane=truth.lane,
        model_s=time.perf_counter() - begin,
        extra={"facts": facts, "action": action, "headings_rad": path.headings_rad, "speeds_mps": (first, last)},
    )


def _heed_traffic(scene: _Scene, path: LanePath, choice: _Choice) -> tuple[float, ActorTruth | None]:
    """(speed, what limits it): nothing that stands or drives in the path is run into."""
    speed, cause = choice.speed_mps, None
    for actor in scene.truth.actors:
        gap = scene.gap_ahead(actor)
        if not -0.2 < gap < VIEW_M:
            continue
        clearance = (actor.width_m + scene.profile.width_m) / 2 + SIDE_MARGIN_M
        if path.lateral_distance(actor.s_ahead_m, actor.length_m, actor.d_m) > clearance:
            continue
        if choice.merging and actor.lane != choice.lane:  # close to it on purpose, about to leave its lane
            limit = actor.speed_mps + (gap - 0.15) / (MERGING_HEADWAY_S * scene.patience)
            limit = max(limit, 0.25) if gap > 0.12 else min(limit, 0.8 * actor.speed_mps)
        else:
            limit = (gap - STANDSTILL_GAP_M) / (HEADWAY_S * scene.patience)
        if limit < speed:
            speed, cause = max(limit, 0.0), actor
    return speed, cause


def _follow_phrase(choice: _Choice, obstacle: ActorTruth | None, braking: bool) -> str:
    """The action phrase; plain lane keeping says what it slows down for."""
    if choice.action != "keeping my lane":
        return choice.action
    if obstacle is not None:
        return "following the slower car" if obstacle.speed_mps > 0.05 else f"stopping before the {obstacle.kind}"
    return "slowing for the bend" if braking else choice.action


def _follow(scene: _Scene, **said) -> _Choice:
    said = {"action": "keeping my lane", **said}
    return _Choice(scene.truth.lane, scene.cruise_mps, **said)


def _speed(scene: _Scene, instruction: Instruction) -> _Choice:
    factor = {"faster": FASTER, "slower": SLOWER}.get(instruction.kind)
    speed = instruction.speed_mps if factor is None else factor * scene.cruise_mps
    action = {"faster": "speeding up", "slower": "slowing down"}.get(instruction.kind, "taking the asked speed")
    verdict, reason = (Verdict.DONE, "speed reached") if scene.age_s >= SPEED_DONE_S else (Verdict.ACCEPTED, "on it")
    return _Choice(scene.truth.lane, min(speed, scene.profile.max_speed_mps), action, verdict=verdict, reason=reason)


def _stop(scene: _Scene, instruction: Instruction) -> _Choice:
    return _Choice(scene.truth.lane, 0.0, "stopping", Intent.STOP, Verdict.ACCEPTED, "on it")


def _side(instruction: Instruction) -> tuple[str, int]:
    return ("left", 1) if instruction.kind.endswith("left") else ("right", -1)


def _change(scene: _Scene, instruction: Instruction) -> _Choice:
    side, step = _side(instruction)
    target = scene.start_lane + step
    if not 0 <= target < scene.truth.lane_count:
        return _follow(scene, action=f"no lane on the {side}", verdict=Verdict.REFUSED, reason=f"no lane on the {side}")
    intent = instruction.intent
    if scene.truth.lane == target and scene.centered_in(target):
        return _Choice(target, scene.cruise_mps, "lane change complete", intent, Verdict.DONE, "in the new lane")
    if scene.truth.lane != target and scene.occupied(target):
        return _follow(scene, action=f"{side} lane is occupied, waiting", verdict=Verdict.WAITING, reason=_busy(side))
    action = f"{side} lane is free, changing lane"
    return _Choice(target, scene.cruise_mps, action, intent, Verdict.ACCEPTED, "lane is free", merging=True)


def _busy(side: str) -> str:
    return f"{side} lane is occupied"


def _keep(scene: _Scene, instruction: Instruction) -> _Choice:
    side, step = _side(instruction)
    target = scene.truth.lane_count - 1 if step > 0 else 0
    lane = scene.truth.lane
    if lane == target:
        action = f"keeping to the {side} lane"
        return _Choice(target, scene.cruise_mps, action, instruction.intent, Verdict.ACCEPTED, "on it")
    if any(scene.occupied(k) for k in range(lane + step, target + step, step)):
        return _follow(scene, action=f"{side} lane is occupied, waiting", verdict=Verdict.WAITING, reason=_busy(side))
    action = f"moving to the {side} lane"
    return _Choice(target, scene.cruise_mps, action, instruction.intent, Verdict.ACCEPTED, "on it", merging=True)


def _overtake(scene: _Scene, instruction: Instruction) -> _Choice:
    side, step = _side(instruction)
    target = scene.start_lane + step
    if not 0 <= target < scene.truth.lane_count:
        return _follow(scene, action=f"no lane on the {side}", verdict=Verdict.REFUSED, reason=f"no lane on the {side}")
    away = scene.truth.lane != scene.start_lane  # already on the other lane
    lead = _to_pass(scene) if away else scene.lead(scene.start_lane)
    if lead is None:
        if away:
            intent = instruction.intent
            return _Choice(scene.truth.lane, scene.cruise_mps, "past the car", intent, Verdict.DONE, "past the car")
        return _follow(scene, action="no car ahead", verdict=Verdict.REFUSED, reason="no car ahead")
    if not away and scene.occupied(target, lead.s_ahead_m + BEYOND_LEAD_M):
        return _follow(scene, action=f"{side} lane is occupied, waiting", verdict=Verdict.WAITING, reason=_busy(side))
    speed = max(FASTER * scene.cruise_mps, lead.speed_mps + 0.5)
    action = "passing the car" if away else f"{side} lane is free, overtaking"
    return _Choice(target, speed, action, instruction.intent, Verdict.ACCEPTED, "lane is free", merging=True)


def _to_pass(scene: _Scene) -> ActorTruth | None:
    """The nearest actor of the start lane that is not yet a car length behind."""
    clear = scene.profile.length_m * 1.3
    left = [a for a in scene.truth.actors if a.lane == scene.start_lane]
    left = [a for a in left if scene.gap_behind(a) < clear and scene.gap_ahead(a) < TO_PASS_M]
    return min(left, key=lambda a: a.s_ahead_m, default=None)


def _follow_vehicle(scene: _Scene, instruction: Instruction) -> _Choice:
    if scene.lead(scene.truth.lane) is None:
        return _follow(scene, action="no car ahead", verdict=Verdict.REFUSED, reason="no car ahead")
    speed = FASTER * scene.cruise_mps
    return _Choice(scene.truth.lane, speed, "following the car", instruction.intent, Verdict.ACCEPTED, "on it")


def _avoid(scene: _Scene, instruction: Instruction) -> _Choice:
    truth, intent, start = scene.truth, instruction.intent, scene.start_lane
    obstacle = scene.lead(start)
    if truth.lane != start:
        beside = [a for a in truth.actors if a.lane == start and -1.0 < scene.gap_ahead(a) < VIEW_M]
        beside = [a for a in beside if scene.gap_behind(a) < 0.15]
        if not beside:
            return _Choice(truth.lane, scene.cruise_mps, "past the obstacle", intent, Verdict.DONE, "past the obstacle")
        action = "passing the obstacle"
        return _Choice(truth.lane, scene.cruise_mps, action, intent, Verdict.ACCEPTED, "on it", merging=True)
    if obstacle is None:
        return _follow(scene, action="no obstacle ahead", verdict=Verdict.REFUSED, reason="no obstacle ahead")
    if truth.lane_count == 1:
        return _follow(scene, action="no other lane, stopping", verdict=Verdict.REFUSED, reason="no other lane")
    drift = (truth.d_m - truth.lane_center_d_m(start)) / truth.lane_width_m
    for step in (-1, 1) if drift < -0.2 else (1, -1):
        target = start + step
        if 0 <= target < truth.lane_count and not scene.occupied(target, obstacle.s_ahead_m + GAP_AHEAD_M):
            action = f"{'left' if step > 0 else 'right'} lane is free, going around"
            return _Choice(target, scene.cruise_mps, action, intent, Verdict.ACCEPTED, "lane is free", merging=True)
    return _follow(scene, action="no free lane, waiting", verdict=Verdict.WAITING, reason="no free lane")


def _pull_over(scene: _Scene, instruction: Instruction) -> _Choice:
    intent, lane = instruction.intent, scene.truth.lane
    if lane == 0 and scene.centered_in(0):
        return _Choice(0, 0.0, "standing at the right", intent, Verdict.ACCEPTED, "on it")
    speed = min(scene.cruise_mps, 0.4 * scene.profile.reference_speed_mps)
    if any(scene.occupied(k) for k in range(lane)):
        said = {"action": "right lane is occupied, waiting", "verdict": Verdict.WAITING, "reason": _busy("right")}
        return _Choice(lane, speed, **said)
    return _Choice(0, speed, "pulling over", intent, Verdict.ACCEPTED, "on it", merging=lane != 0)


_RULES: dict[str, Callable[[_Scene, Instruction], _Choice]] = {
    "faster": _speed,
    "slower": _speed,
    "target_speed": _speed,
    "stop": _stop,
    "change_left": _change,
    "change_right": _change,
    "keep_left": _keep,
    "keep_right": _keep,
    "overtake_left": _overtake,
    "overtake_right": _overtake,
    "follow_vehicle": _follow_vehicle,
    "avoid_obstacle": _avoid,
    "pull_over": _pull_over,
    "follow_lane": lambda scene, _: _follow(scene, verdict=Verdict.DONE, reason="on it"),
}


class ExpertBackend:
    """`bridge.planning.PlannerBackend` on truth. `understand` turns a command's text into an Instruction or None."""

    name = "expert"
    wants_truth = True

    def __init__(self, understand: Callable[[str], Instruction | None], rate_hz: float = 10.0):
        self._understand = understand
        self.rate_hz = rate_hz

    def plan(self, requests: Sequence[PlanRequest]) -> list[PlanAnswer | PlanError]:
        """One answer per request, in order; a request without a usable truth yields a PlanError."""
        return [self._plan_one(request) for request in requests]

    def _plan_one(self, request: PlanRequest) -> PlanAnswer | PlanError:
        if request.truth is None:
            return PlanError("the expert plans from the world's truth and this frame carries none")
        try:
            truth = Truth.from_dict(request.truth)
        except (TypeError, ValueError, KeyError) as error:
            return PlanError(f"the frame's truth is malformed: {error}")
        command = request.command
        if command is None:
            return expert_answer(truth, request.profile, None, request.cruise_mps)
        instruction = self._understand(command.text)
        if instruction is None:
            return _not_understood(truth, request)
        return expert_answer(truth, request.profile, instruction, request.cruise_mps, command.age_s, command.start_lane)


def _not_understood(truth: Truth, request: PlanRequest) -> PlanAnswer:
    plain = expert_answer(truth, request.profile, None, request.cruise_mps)
    return replace(plain, verdict=Verdict.REFUSED, verdict_reason="I do not understand")

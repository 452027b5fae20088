"""What the planner remembers of one car between two plans: the command in force, the cruising speed, the last frame.

Pure: time comes in as ns of any one monotonic clock (the planner's own when serving, virtual when evaluating). One
thread at a time. Knows nothing of models and sockets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridge.clock import NS_PER_S
from bridge.messages import Command, CommandVerdict, Frame, Hello, Intent, Plan, Timings, Verdict
from bridge.planning import CommandInForce, PlanAnswer, PlanError, PlanRequest
from planner.guard import check_plan, slowed_for_lead
from planner.lookout import Lookout

TTL_S = 2.0
CRUISE_FRACTION = 0.8  # of the reference speed, until a command has changed it
REFUSED_FOR_S = 2.0  # a model must refuse for so long; pictures a quarter of a second apart err alike
HELD_S = 1.0  # a command whose plan would go into an occupied lane is not asked about for so long
_UNTIL_CONFIRMED = {Verdict.DONE: Verdict.ACCEPTED, Verdict.REFUSED: Verdict.WAITING}
PAIR_MAX_S = 1.0  # an older previous frame tells nothing of motion


@dataclass
class _Order:
    """The command in force. `ending`: the last answer's verdict, where it ends a command, said since the command was
    `ending_age_s` old; `accepted`: an answer has
    said so; `fastest_mps`: greatest speed planned at the first waypoint while it was in force; `held_until_s`: age
    until which the lane is followed, for the reason `held`."""

    id: str
    text: str
    taken_ns: int
    start_lane: int | None = None
    ending: Verdict | None = None
    ending_age_s: float = 0.0
    accepted: bool = False
    fastest_mps: float = 0.0
    held_until_s: float = 0.0
    held: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of an answer: the plan to send, or None; `problems`: why there is none, or what was changed in it."""

    plan: Plan | None
    problems: tuple[str, ...] = ()


class PlannerSession:
    """Memory of one car. A cycle: `request` for a frame, a backend's answer, `finish` for what is sent.

    `cruise_mps`: the speed kept without a command; by default CRUISE_FRACTION of the profile's reference speed.
    `confirm`: a backend that sees pictures errs now and then, so a verdict that ends a command counts only when the
    next answer says it again (`refused`: all answers for REFUSED_FOR_S, in which a car ahead may come into sight);
    until then `done` goes out as `accepted` and `refused` as `waiting`. Nor does it see what is beside it: a plan into
    a lane where it has just seen something near is not sent, and for HELD_S the command waits (see `lookout.py`); and a
    plan too fast for what the answer says is ahead is slowed (see `guard.py`).
    """

    def __init__(self, hello: Hello, *, cruise_mps: float | None = None, ttl_s: float = TTL_S, confirm: bool = False):
        self.car_id = hello.car_id
        self.session_id = hello.session_id
        self.profile = hello.profile
        self.cruise_mps = CRUISE_FRACTION * hello.profile.reference_speed_mps if cruise_mps is None else cruise_mps
        self._ttl_s = ttl_s
        self._confirm = confirm
        self._order: _Order | None = None
        self._lookout = Lookout(hello.profile.wheelbase_m)
        self._previous: tuple[np.ndarray, int] | None = None  # image, capture time on the car's clock
        self._seq = 0

    @property
    def command_id(self) -> str | None:
        """The command in force."""
        return self._order.id if self._order else None

    def renewed(self, hello: Hello) -> PlannerSession:
        """The same car after a reconnect: command and cruising speed stay, frames of the old session do not."""
        fresh = PlannerSession(hello, cruise_mps=self.cruise_mps, ttl_s=self._ttl_s, confirm=self._confirm)
        fresh._order = self._order
        return fresh

    def take_command(self, command: Command, now_ns: int) -> None:
        """A newer command replaces the one in force; the same one again changes nothing."""
        if self._order is None or self._order.id != command.id:
            self._order = _Order(command.id, command.text, now_ns)

    def drop_command(self) -> None:
        """Forget the command in force (the operator has stopped the car)."""
        self._order = None

    def request(self, frame: Frame, image: np.ndarray, now_ns: int) -> PlanRequest:
        """What to ask the backend about this frame. The previous frame of the session goes with it when it is at most
        PAIR_MAX_S older."""
        images, interval_s = (image,), 0.1
        if self._previous is not None:
            earlier, t_ns = self._previous
            gap_s = (frame.t_capture_ns - t_ns) / NS_PER_S
            if 0.0 < gap_s <= PAIR_MAX_S and earlier.shape == image.shape:
                images, interval_s = (earlier, image), gap_s
        self._previous = (image, frame.t_capture_ns)
        order = self._order
        command = None
        if order is not None:
            age_s = max(now_ns - order.taken_ns, 0) / NS_PER_S
            if age_s >= order.held_until_s:
                command = CommandInForce(order.id, order.text, age_s, order.start_lane)
        return PlanRequest(
            images=images,
            ego=frame.ego,
            doing=frame.doing,
            profile=self.profile,
            cruise_mps=self.cruise_mps,
            command=command,
            truth=frame.truth,
            image_interval_s=interval_s,
        )

    def finish(
        self,
        request: PlanRequest,
        answer: PlanAnswer | PlanError,
        frame: Frame,
        *,
        model: str = "unknown",
        timings: Timings | None = None,
    ) -> Outcome:
        """Pass a backend's answer through the guard and, where it passes, make the plan to send; the memory moves on.
        An answer to a command that has been replaced meanwhile is still sent, under that command's id."""
        if isinstance(answer, PlanError):
            return Outcome(None, (str(answer),))
        problems = check_plan(answer, request) or self._look_out(answer, request, frame)
        if problems:
            return Outcome(None, tuple(problems))
        answer, changed = slowed_for_lead(answer, self.profile) if self._confirm else (answer, [])
        verdict = self._held_verdict() if request.command is None else None
        if request.command is not None and answer.verdict is not None:
            said = answer.verdict
            if self._order is not None and self._order.id == request.command.id:
                said = self._follow_up(self._order, answer, request.command.age_s)
            verdict = CommandVerdict(command_id=request.command.id, verdict=said, reason=answer.verdict_reason[:2000])
        self._seq += 1
        plan = Plan(
            session_id=self.session_id,
            seq=self._seq,
            frame_seq=frame.seq,
            t_capture_ns=frame.t_capture_ns,
            ttl_s=self._ttl_s,
            intent=answer.intent,
            waypoints=answer.waypoints,
            reasoning=answer.reasoning[:2000],
            verdict=verdict,
            model=model,
            timings=timings or Timings(model_s=answer.model_s, total_s=answer.model_s),
        )
        return Outcome(plan, tuple(changed))

    def _look_out(self, answer: PlanAnswer, request: PlanRequest, frame: Frame) -> list[str]:
        """What the lookout has against a plan; the command then waits for HELD_S."""
        if not self._confirm:
            return []
        now_s = frame.t_capture_ns / NS_PER_S
        self._lookout.note(answer, now_s)
        if request.command is None or self._order is None or self._order.id != request.command.id:
            return []
        self._order.held = self._lookout.objection(answer, request.command.start_lane, now_s) or ""
        if not self._order.held:
            return []
        self._order.held_until_s = request.command.age_s + HELD_S
        return [self._order.held]

    def _held_verdict(self) -> CommandVerdict | None:
        order = self._order
        if order is None or not order.held:
            return None
        return CommandVerdict(command_id=order.id, verdict=Verdict.WAITING, reason=order.held)

    def _follow_up(self, order: _Order, answer: PlanAnswer, age_s: float) -> Verdict | None:
        """Move the command in force on; returns the verdict that goes out."""
        if order.start_lane is None:
            order.start_lane = answer.lane
        order.fastest_mps = max(order.fastest_mps, answer.waypoints[0].v_mps)
        order.accepted |= answer.verdict is Verdict.ACCEPTED
        confirmed = self._confirmed(order, answer.verdict, age_s)
        if order.ending is None:
            return answer.verdict
        if not confirmed:
            return _UNTIL_CONFIRMED[order.ending]
        if order.ending is Verdict.DONE and answer.intent is Intent.FOLLOW_LANE and order.accepted:
            # A speed was ordered and has been kept for a while. A plain "follow the lane" is done at once and changes
            # nothing; the greatest speed counts, since single plans are slower in bends and behind cars.
            self.cruise_mps = order.fastest_mps
        self._order = None
        return order.ending

    def _confirmed(self, order: _Order, verdict: Verdict | None, age_s: float) -> bool:
        """Note a verdict that would end the command; whether it has been said often enough."""
        again = order.ending is verdict
        if not again:
            order.ending = verdict if verdict in _UNTIL_CONFIRMED else None
            order.ending_age_s = age_s
        if not self._confirm:
            return True
        return again and (verdict is not Verdict.REFUSED or age_s - order.ending_age_s >= REFUSED_FOR_S)

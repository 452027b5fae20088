"""What the answers said of other cars, kept for a moment: who drops out of the picture beside the car is still there.

A planner that sees pictures sees one moment, and nothing beside it. So a lane in which something was seen close by is
not entered until it has been out of sight for a while. Knows what answers say; knows no pictures and no truth.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.messages import Intent, Verdict
from bridge.planning import PlanAnswer

REMEMBERED_S = 2.0
BESIDE_WHEELBASES = 5.0  # nearer than this from the front bumper there is no room to go there
BEYOND_LEAD_WHEELBASES = 9.6  # an overtaking needs the lane free up to so far beyond the car that is passed
_STEP = {
    Intent.CHANGE_LEFT: 1,
    Intent.OVERTAKE_LEFT: 1,
    Intent.KEEP_LEFT: 1,
    Intent.CHANGE_RIGHT: -1,
    Intent.OVERTAKE_RIGHT: -1,
    Intent.KEEP_RIGHT: -1,
}


@dataclass(frozen=True)
class _Sighting:
    t_s: float
    kind: str
    distance_m: float


class Lookout:
    """Memory of one car's surroundings, in its lanes; times in s of any one monotonic clock."""

    def __init__(self, wheelbase_m: float):
        self._wheelbase_m = wheelbase_m
        self._seen: dict[int, _Sighting] = {}  # by lane: the latest one

    def note(self, answer: PlanAnswer, t_s: float) -> None:
        """Remember what an answer in the grammar's sentences says is there, whether or not its plan is sent."""
        facts = answer.extra.get("facts") or {"actors": ()}
        for actor in reversed(facts["actors"]):  # the nearest of a lane comes first and is to stay
            self._seen[actor["lane"]] = _Sighting(t_s, actor["kind"], actor["distance_m"])

    def objection(self, answer: PlanAnswer, start_lane: int | None, t_s: float) -> str | None:
        """Why a plan that goes to a side must not be sent: something was near in that lane a moment ago. None when
        nothing speaks against it, or when the car is out of the lane `start_lane` already."""
        facts, step = answer.extra.get("facts"), _STEP.get(answer.intent)
        if not facts or step is None or answer.verdict is not Verdict.ACCEPTED:
            return None
        lane = facts["lane"]
        if start_lane not in (None, lane):
            return None
        sighting = self._seen.get(lane + step)
        needed_m = self._needed_m(answer.intent, self._seen.get(lane))
        if sighting is None or t_s - sighting.t_s > REMEMBERED_S or sighting.distance_m > needed_m:
            return None
        where = f"{sighting.kind} at {sighting.distance_m:.1f} m, {t_s - sighting.t_s:.1f} s ago"
        return f"{'left' if step > 0 else 'right'} lane is occupied: {where}"

    def _needed_m(self, intent: Intent, lead: _Sighting | None) -> float:
        """How far ahead the other lane must be free."""
        near_m = BESIDE_WHEELBASES * self._wheelbase_m
        if intent not in (Intent.OVERTAKE_LEFT, Intent.OVERTAKE_RIGHT) or lead is None:
            return near_m
        return max(near_m, lead.distance_m + BEYOND_LEAD_WHEELBASES * self._wheelbase_m)

"""Checks every plan before it leaves: finite, drivable, within the car's speed, not against itself; and slows one that
is too fast for what it says is ahead.

Knows the car's profile and what the answer itself says of lanes; sees no pictures and no truth.
"""

from __future__ import annotations

import math
from dataclasses import replace

from bridge.messages import Intent, VehicleProfile, Verdict, Waypoint
from bridge.planning import PlanAnswer, PlanRequest

BEND_MARGIN = 1.25  # on the sharpest turn that the steering allows; a chain of straight pieces is coarser than an arc
FIRST_TURN_RAD = math.radians(75)
SPEED_MARGIN = 1.02
SPACING_WHEELBASES = (0.1, 40.0)
STANDING_MPS = 0.05
REACTION_S = 0.3  # until a plan has reached the car and a newer one can
LEAST_ROOM_WHEELBASES = 1.0  # "at 0.0 m" is said of up to so much; a car that stood there would stand for good
_LEFT = (Intent.CHANGE_LEFT, Intent.OVERTAKE_LEFT)
_RIGHT = (Intent.CHANGE_RIGHT, Intent.OVERTAKE_RIGHT)


def check_plan(answer: PlanAnswer, request: PlanRequest) -> list[str]:
    """Everything that is wrong with a plan, in words; empty when it may be sent."""
    points, profile = answer.waypoints, request.profile
    if len(points) < 2:
        return [f"{len(points)} waypoints, at least 2 are needed"]
    if not all(math.isfinite(v) for w in points for v in (w.x_m, w.y_m, w.v_mps)):
        return ["a waypoint is not finite"]
    return [*_path(points, profile), *_speeds(points, answer, profile), *_lanes(answer, request)]


def slowed_for_lead(answer: PlanAnswer, profile: VehicleProfile) -> tuple[PlanAnswer, list[str]]:
    """The answer with no speed from which the car could not stop before what the answer itself names ahead in its own
    lane (braking fully after REACTION_S, as if that stood still), and what was done in words; the answer itself and
    nothing where none is too fast. A model that sees the other car and still plans to pass it can so be late in turning
    out, but does not run into it."""
    facts = answer.extra.get("facts") or {"lane": None, "actors": ()}
    ahead = [actor["distance_m"] for actor in facts["actors"] if actor["lane"] == facts["lane"]]
    if not ahead:
        return answer, []
    room_m, brake = max(min(ahead), LEAST_ROOM_WHEELBASES * profile.wheelbase_m), profile.max_brake_mps2
    fastest_mps = brake * (math.sqrt(REACTION_S**2 + 2.0 * room_m / brake) - REACTION_S)
    if all(w.v_mps <= fastest_mps for w in answer.waypoints):
        return answer, []
    points = tuple(w.model_copy(update={"v_mps": min(w.v_mps, fastest_mps)}) for w in answer.waypoints)
    said = f"slowed to {fastest_mps:.1f} m/s for what it names at {min(ahead):.1f} m"
    return replace(answer, waypoints=points), [said]


def _path(points: tuple[Waypoint, ...], profile: VehicleProfile) -> list[str]:
    problems = []
    if points[0].x_m <= 0.0 or abs(math.atan2(points[0].y_m, points[0].x_m)) > FIRST_TURN_RAD:
        problems.append(f"the first waypoint ({points[0].x_m:.2f}, {points[0].y_m:.2f}) m is not ahead of the car")
    xy = [(0.0, 0.0), *((w.x_m, w.y_m) for w in points)]
    legs = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(xy, xy[1:], strict=False)]
    lengths = [math.hypot(*leg) for leg in legs]
    low, high = (n * profile.wheelbase_m for n in SPACING_WHEELBASES)
    if not all(low <= length <= high for length in lengths):
        problems.append(
            f"waypoints {min(lengths):.2f} to {max(lengths):.2f} m apart, {low:.2f} to {high:.2f} m are sane"
        )
        return problems
    sharpest = math.tan(profile.steering_limit_rad) / profile.wheelbase_m
    for k, (a, b) in enumerate(zip(legs, legs[1:], strict=False)):
        turn = abs(math.remainder(math.atan2(b[1], b[0]) - math.atan2(a[1], a[0]), 2 * math.pi))
        mean = (lengths[k] + lengths[k + 1]) / 2
        if turn > BEND_MARGIN * 2 * math.asin(min(sharpest * mean / 2, 1.0)):
            problems.append(f"a turn of {math.degrees(turn):.0f} degrees at waypoint {k + 1} is beyond the steering")
            break
    return problems


def _speeds(points: tuple[Waypoint, ...], answer: PlanAnswer, profile: VehicleProfile) -> list[str]:
    fastest = max(w.v_mps for w in points)
    problems = []
    if min(w.v_mps for w in points) < 0.0:
        problems.append("a speed is negative")
    if fastest > SPEED_MARGIN * profile.max_speed_mps:
        problems.append(f"{fastest:.1f} m/s is more than the car's {profile.max_speed_mps:.1f} m/s")
    if answer.intent is Intent.STOP and fastest > STANDING_MPS:
        problems.append(f"intent stop with a speed of {fastest:.1f} m/s")
    return problems


def _lanes(answer: PlanAnswer, request: PlanRequest) -> list[str]:
    """A manoeuvre to a side needs a lane on that side, by the answer's own words."""
    facts = answer.extra.get("facts")
    if not facts:
        return []
    lane, count = facts["lane"], facts["lane_count"]
    if lane >= count:
        return [f"says lane {lane} of {count}"]
    command = request.command
    start = command.start_lane if command is not None and command.start_lane is not None else lane
    # Once in another lane, the lane where it began may have been misread; then nothing is against itself any more.
    underway = answer.verdict in (None, Verdict.ACCEPTED) and lane == start
    if underway and answer.intent in _LEFT and start + 1 >= count:
        return [f"{answer.intent} from lane {start} of {count}: there is no lane on the left"]
    if underway and answer.intent in _RIGHT and start == 0:
        return [f"{answer.intent} from lane 0: there is no lane on the right"]
    return []

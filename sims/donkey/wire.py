"""Roads and scenarios as JSON, for the messages that only our own server understands (`pacenote_...`).

Knows nothing of sockets. What comes in is checked: a road or scenario from a socket is no better than its sender.
"""

from __future__ import annotations

from dataclasses import asdict, fields

import numpy as np

from sims.actors import ActorSpec
from sims.donkey.protocol import MalformedMessage
from sims.road import Road
from sims.scenarios import Scenario

ARRAYS = ("x_m", "y_m", "yaw_rad", "curvature_pm", "left_m", "right_m")
MAX_SAMPLES = 200_000
MAX_LANES = 8
_NUMBERS = ("start_s_m", "start_d_m", "start_speed_mps", "cruise_mps", "duration_s")


def road_to_wire(road: Road) -> dict:
    """All of a road, exact to the bit."""
    plain = {name: getattr(road, name).tolist() for name in ARRAYS}
    meta = {k: v for k, v in road.meta.items() if isinstance(v, str | int | float | bool | None)}
    return {"name": road.name, "step_m": road.step_m, "lane_count": road.lane_count, "meta": meta, **plain}


def road_from_wire(plain: object) -> Road:
    """Inverse of `road_to_wire`. Raises MalformedMessage."""
    try:
        arrays = [np.array(plain[name], dtype=float) for name in ARRAYS]
        step, lanes, name = float(plain["step_m"]), int(plain["lane_count"]), str(plain["name"])[:200]
        meta = dict(plain["meta"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MalformedMessage(f"road: {type(error).__name__}: {error}") from None
    size = len(arrays[0]) if arrays[0].ndim == 1 else 0
    if not 8 <= size <= MAX_SAMPLES or any(a.shape != (size,) or not np.isfinite(a).all() for a in arrays):
        raise MalformedMessage(f"road: {', '.join(ARRAYS)} must be 8 to {MAX_SAMPLES} finite numbers each, as many")
    if not 0.0 < step < 100.0 or not 1 <= lanes <= MAX_LANES or (arrays[4] + arrays[5] <= 0.0).any():
        raise MalformedMessage("road: step_m, lane_count and width must be positive and sensible")
    return Road(name, step, *arrays, lanes, meta)


def scenario_to_wire(scenario: Scenario) -> dict:
    """What a world needs of a scenario: road, start and actors; commands and rules stay with the judge."""
    plain = {name: float(getattr(scenario, name)) for name in _NUMBERS}
    actors = [asdict(actor) for actor in scenario.actors]
    return {"name": scenario.name, "road": road_to_wire(scenario.road), "actors": actors, **plain}


def scenario_from_wire(plain: object) -> Scenario:
    """Inverse of `scenario_to_wire`, without commands. Raises MalformedMessage."""
    if not isinstance(plain, dict) or not isinstance(plain.get("actors"), list):
        raise MalformedMessage("scenario: must be an object with a list of actors")
    road = road_from_wire(plain.get("road"))
    try:
        numbers = {name: float(plain[name]) for name in _NUMBERS}
        actors = tuple(_actor(each) for each in plain["actors"])
        name = str(plain["name"])[:100]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MalformedMessage(f"scenario: {type(error).__name__}: {error}") from None
    if not np.isfinite(list(numbers.values())).all():
        raise MalformedMessage(f"scenario: {', '.join(_NUMBERS)} must be finite")
    return Scenario(name=name, road=road, actors=actors, commands=(), **numbers)


def _actor(plain: dict) -> ActorSpec:
    known = {f.name for f in fields(ActorSpec)}
    values = {k: v for k, v in plain.items() if k in known}
    values["speed_changes"] = tuple((float(t), float(v)) for t, v in values.get("speed_changes", ()))
    if values.get("colour") is not None:
        values["colour"] = tuple(float(c) for c in values["colour"])
    for name in ("s_m", "d_m", "speed_mps", "scale"):
        if name in values:
            values[name] = float(values[name])
    numbers = [v for v in values.values() if isinstance(v, float)]
    if not np.isfinite(numbers + [x for pair in values["speed_changes"] for x in pair]).all():
        raise ValueError("an actor's numbers must be finite")
    return ActorSpec(**values)


def standing_start(road: Road, s_m: float, d_m: float, cruise_mps: float, actors=()) -> Scenario:
    """An episode without a task: the car stands at (s, d), for as long as anybody likes."""
    return Scenario("drive", road, s_m, d_m, 0.0, cruise_mps, tuple(actors), (), float(24 * 3600))

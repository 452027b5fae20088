"""Roads, truths and scenarios of any car brought to the default car's scale, and back. See `bridge.scale`.

For a car at scale (1, 1) every function gives back the very object that it got.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bridge.messages import VehicleProfile
from bridge.planning import Instruction
from bridge.scale import Scale, scale_of
from sims.road import Road
from sims.truth import ActorTruth, Truth

if TYPE_CHECKING:
    from sims.scenarios import Scenario

_SUFFIXES = (("_mps", "speed"), ("_m", "length"), ("_s", "time"))


def scaled_road(road: Road, factor: float) -> Road:
    """The same road `factor` times as large; lanes, name and meta stay."""
    if factor == 1.0:
        return road
    lengths = {name: getattr(road, name) * factor for name in ("step_m", "x_m", "y_m", "left_m", "right_m")}
    return replace(road, **lengths, curvature_pm=road.curvature_pm / factor)


def truth_at_model_scale(truth: Truth, profile: VehicleProfile) -> Truth:
    """What the default car would find true in the place of the car `profile`. Yaw rates grow as times shrink."""
    scale = scale_of(profile)
    if scale.is_one:
        return truth
    length, speed = scale.length, scale.speed
    lengths = ("x_m", "y_m", "s_m", "progress_m", "d_m", "left_edge_d_m", "right_edge_d_m", "road_length_m")
    return replace(
        truth,
        **{name: getattr(truth, name) / length for name in lengths},
        t_s=truth.t_s / scale.time,
        speed_mps=truth.speed_mps / speed,
        yaw_rate_radps=truth.yaw_rate_radps * scale.time,
        ahead=truth.ahead * (1 / length, 1 / length, 1 / length, 1.0, length),
        actors=tuple(_actor_at_model_scale(actor, length, speed) for actor in truth.actors),
    )


def _actor_at_model_scale(actor: ActorTruth, length: float, speed: float) -> ActorTruth:
    lengths = {n: getattr(actor, n) / length for n in ("x_m", "y_m", "s_ahead_m", "d_m", "length_m", "width_m")}
    return replace(actor, **lengths, speed_mps=actor.speed_mps / speed)


def instruction_scaled(instruction: Instruction | None, speed_factor: float) -> Instruction | None:
    """The instruction with its speed, where it has one, times the factor."""
    if instruction is None or instruction.speed_mps is None or speed_factor == 1.0:
        return instruction
    return replace(instruction, speed_mps=instruction.speed_mps * speed_factor)


def scenario_at_full_scale(scenario: Scenario, profile: VehicleProfile) -> Scenario:
    """A scenario of the default car for the car `profile`: road, start, speeds, actors and times. Texts stay as they
    are: they are spoken in real units already."""
    return _scaled(scenario, scale_of(profile))


def scenario_at_model_scale(scenario: Scenario, profile: VehicleProfile) -> Scenario:
    """The inverse of `scenario_at_full_scale`."""
    return _scaled(scenario, scale_of(profile).inverse)


def _scaled(scenario: Scenario, scale: Scale) -> Scenario:
    if scale.is_one:
        return scenario
    length, speed, time = scale.length, scale.speed, scale.time
    actors = tuple(
        replace(
            actor,
            s_m=actor.s_m * length,
            d_m=actor.d_m * length,
            speed_mps=actor.speed_mps * speed,
            speed_changes=tuple((t * time, v * speed) for t, v in actor.speed_changes),
            scale=actor.scale * length,
        )
        for actor in scenario.actors
    )
    commands = tuple(
        replace(command, t_s=command.t_s * time, instruction=instruction_scaled(command.instruction, speed))
        for command in scenario.commands
    )
    return replace(
        scenario,
        road=scaled_road(scenario.road, length),
        start_s_m=scenario.start_s_m * length,
        start_d_m=scenario.start_d_m * length,
        start_speed_mps=scenario.start_speed_mps * speed,
        cruise_mps=scenario.cruise_mps * speed,
        actors=actors,
        commands=commands,
        duration_s=scenario.duration_s * time,
        params={name: _param(name, value, scale) for name, value in scenario.params.items()},
    )


def _param(name: str, value, scale: Scale):
    """A judge's parameter: the end of its name tells its unit."""
    kind = next((kind for suffix, kind in _SUFFIXES if name.endswith(suffix)), None)
    return value if kind is None or value is None else value * getattr(scale, kind)

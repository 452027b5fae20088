"""Closed-loop checks of a policy on unseen roads: does it use its eyes, does it keep clear, does it stand when told?

The whole controller runs (supervisor, re-projection) on plans of the expert, in lock-step virtual time. In the silence
check no plan arrives any more from a bend on; its time to live is set so long that the ladder does not stop the car:
what is compared is what the policies see, not how the supervisor saves them. Knows no training code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import typer

from bridge.messages import EgoState, Plan, VehicleProfile
from bridge.planning import Instruction
from bridge.vehicle import Sensors
from controller.core import Controller
from controller.policies import load_policy
from controller.policy import Policy
from sims.actors import ActorSpec
from sims.expert import expert_answer
from sims.random_road import random_road
from sims.road import Road
from sims.track import TrackVectorEnv

STEP_S = 1 / 30
FIRST_SEED = 1_000_000  # roads that training never sees
TTL_S = 10.0
PLAN_EVERY_S = 0.5
PLAN_DELAY_S = 0.5
SETTLE_S = 2.0


@dataclass(frozen=True)
class Case:
    """One drive. Plans stop at `silent_from_s`; `instruction` is in force from the start."""

    road: Road
    s_m: float
    lane: int
    seed: int
    seconds: float
    cruise_mps: float = 1.2
    speed_mps: float = 1.2
    silent_from_s: float = 1e9
    instruction: Instruction | None = None
    instruction_from_s: float = 0.0
    actors: tuple[ActorSpec, ...] = ()
    randomize: float = 0.5
    plan_delay_s: float = PLAN_DELAY_S


@dataclass
class Trace:
    """What happened, one entry a step: distance from the centre of the start lane in lane widths (signed), speed [m/s],
    world position [m], gap to the first actor [m]."""

    offset: list[float] = field(default_factory=list)
    speed: list[float] = field(default_factory=list)
    xy: list[tuple[float, float]] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    collision: bool = False
    off_road: bool = False


def run_case(policy: Policy, profile: VehicleProfile, case: Case) -> Trace:
    """Drive one case to its end, or until the car has hit something or left the road."""
    env = TrackVectorEnv(1, [case.road], profile=profile, randomize=case.randomize, seed=case.seed, parallel=False)
    env.place(0, 0, case.s_m, float(case.road.lane_center_d(case.s_m, case.lane)), 0.0, case.speed_mps)
    env.set_actors(0, list(case.actors))
    policy.reset()
    controller = Controller(profile, policy)
    trace, waiting, steps_per_plan = Trace(), [], round(PLAN_EVERY_S / STEP_S)
    for step in range(round(case.seconds / STEP_S)):
        now_s = step * STEP_S
        now_ns = round(now_s * 1e9)
        truth = env.truth(0)
        ego = EgoState(
            speed_mps=truth.speed_mps, yaw_rate_radps=truth.yaw_rate_radps,
            steering=float(env.state["steering_command"][0]),
        )  # fmt: skip
        sensors = Sensors(env.render()[0], ego, now_ns)
        controller.sense(now_ns, sensors)
        if step % steps_per_plan == 0 and now_s < case.silent_from_s:
            waiting.append((now_s + (case.plan_delay_s if step else 0.0), _plan(truth, profile, case, step, now_ns)))
        while waiting and waiting[0][0] <= now_s + 1e-9:
            controller.on_plan(waiting.pop(0)[1], now_ns)
        control = controller.tick(now_ns, sensors)
        _note(trace, truth, profile, case)
        env.step(np.array([[control.steering, control.acceleration]]))
        trace.collision, trace.off_road = bool(env.state["collision"][0]), bool(env.state["off_road"][0])
        if trace.collision or trace.off_road:
            break
    return trace


def _plan(truth, profile: VehicleProfile, case: Case, seq: int, now_ns: int) -> Plan:
    given = case.instruction if now_ns * 1e-9 >= case.instruction_from_s else None
    answer = expert_answer(truth, profile, given, case.cruise_mps, 0.0, case.lane)
    return Plan(
        session_id="check", seq=seq, frame_seq=seq, t_capture_ns=now_ns, ttl_s=TTL_S, intent=answer.intent,
        waypoints=answer.waypoints,
    )  # fmt: skip


def _note(trace: Trace, truth, profile: VehicleProfile, case: Case) -> None:
    trace.offset.append((truth.d_m - truth.lane_center_d_m(case.lane)) / truth.lane_width_m)
    trace.speed.append(truth.speed_mps)
    trace.xy.append((truth.x_m, truth.y_m))
    ahead = [a.s_ahead_m - a.length_m / 2 - profile.length_m + profile.rear_overhang_m for a in truth.actors]
    trace.gap.append(min(ahead, default=99.0))


def bend_cases(count: int, seed: int = FIRST_SEED, silence_s: float = 3.0) -> list[Case]:
    """Silence that begins on a bend (radius below 3 m) while the road turns by at least 1 rad within the next 5 m."""
    rng = np.random.default_rng(seed)
    cases: list[Case] = []
    while len(cases) < count:
        road = random_road(seed + len(cases) + int(rng.integers(10_000)))
        s = np.arange(0.0, road.length_m, 0.25)
        ahead = road.curvature_at(s[:, None] + np.arange(0.0, 5.0, 0.25)).sum(axis=1) * 0.25
        bends = (np.abs(road.curvature_at(s)) > 1 / 3) & (np.abs(ahead) > 1.0)
        if not bends.any():
            continue
        cruise = float(rng.uniform(1.2, 1.8))
        start = (float(rng.choice(s[bends])) - cruise * SETTLE_S) % road.length_m
        lane = int(rng.integers(road.lane_count))
        seconds = SETTLE_S + silence_s
        # The last plan arrives as the silence begins; it is as old as the planner is slow.
        silent = SETTLE_S - PLAN_DELAY_S + 1e-6
        cases.append(Case(road, start, lane, len(cases), seconds, cruise, cruise, silent_from_s=silent))
    return cases


def silence(policy: Policy, profile: VehicleProfile, cases: list[Case]) -> dict:
    """Share of cases in which the car stays in its lane (centre within half a lane width) through the silence."""
    kept, on_road, worst = 0, 0, []
    for case in cases:
        trace = run_case(policy, profile, case)
        offsets = np.abs(trace.offset[round(SETTLE_S / STEP_S) :] or trace.offset[-1:])
        worst.append(float(offsets.max()))
        on_road += not trace.off_road
        kept += bool(not trace.off_road and offsets.max() < 0.5)
    n = len(cases)
    return {"cases": n, "kept_lane": kept / n, "on_road": on_road / n, "median_worst_offset": float(np.median(worst))}


def lane_keeping(policy: Policy, profile: VehicleProfile, count: int, seed: int = FIRST_SEED + 50_000) -> dict:
    """Ten seconds along the lane with plans: offset from its centre."""
    offsets, left, speeds = [], 0, []
    for k in range(count):
        road = random_road(seed + k)
        case = Case(road, 0.0, k % road.lane_count, k, 10.0)
        trace = run_case(policy, profile, case)
        offsets.append(np.abs(trace.offset).mean() * float(road.lane_width_at(0.0)))
        speeds.append(np.mean(trace.speed[60:] or [0.0]))
        left += trace.off_road
    mean = float(np.mean(speeds))
    return {"cases": count, "mean_offset_m": float(np.mean(offsets)), "off_road": left / count, "mean_speed_mps": mean}


def obstacles(policy: Policy, profile: VehicleProfile, count: int, seed: int = FIRST_SEED + 60_000) -> dict:
    """Silence 1 s after the start, something stands in the lane ahead where no plan has told of it: hit or not."""
    hits, gaps = 0, []
    for k in range(count):
        road = random_road(seed + k)
        lane = k % road.lane_count
        at = 5.5 % road.length_m
        actor = ActorSpec(("box", "car", "cone")[k % 3], at, float(road.lane_center_d(at, lane)))
        case = Case(road, 0.0, lane, k, 9.0, 1.2, 1.2, silent_from_s=0.01, actors=(actor,))
        trace = run_case(policy, profile, case)
        hits += trace.collision
        gaps.append(min(trace.gap))
    return {"cases": count, "hit": hits / count, "median_least_gap_m": float(np.median(gaps))}


def standing(policy: Policy, profile: VehicleProfile, count: int, seed: int = FIRST_SEED + 70_000) -> dict:
    """The plan says stop after 1 s: speed 3 s later, and whether the car then stays."""
    ends = []
    for k in range(count):
        road = random_road(seed + k)
        case = Case(road, 0.0, 0, k, 6.0, instruction=Instruction("stop"), instruction_from_s=1.0)
        ends.append(max(run_case(policy, profile, case).speed[-45:]))
    return {"cases": count, "stood": float(np.mean(np.array(ends) < 0.1)), "worst_speed_mps": float(max(ends))}


def drive(policy: Policy, profile: VehicleProfile, seed: int, seconds: float) -> np.ndarray:
    """Positions (n, 2) of a plain drive along the lane, for comparing two exports of one policy."""
    return np.array(run_case(policy, profile, Case(random_road(seed), 0.0, 0, seed, seconds)).xy)


def check(policy: Policy, profile: VehicleProfile, count: int = 40) -> dict:
    """All checks of one policy."""
    return {
        "silence_on_bends": silence(policy, profile, bend_cases(count)),
        "lane_keeping": lane_keeping(policy, profile, max(1, count // 3)),
        "unannounced_obstacle": obstacles(policy, profile, max(1, count // 2)),
        "stop": standing(policy, profile, max(1, count // 4)),
    }


def main(
    policies: Annotated[list[str] | None, typer.Argument(help="pursuit, flow or paths of bundles.")] = None,
    count: Annotated[int, typer.Option(help="Cases of the silence check; the others have fewer.")] = 40,
) -> None:
    """Compare policies: one line of JSON for each."""
    profile = VehicleProfile()
    for name in policies or ["pursuit", "flow"]:
        typer.echo(json.dumps({"policy": name, **check(load_policy(name, profile), profile, count)}))


if __name__ == "__main__":
    typer.run(main)

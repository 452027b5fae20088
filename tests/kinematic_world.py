"""A tiny kinematic stand-in world for testing expert, scenarios and judge without any simulator.

Bicycle model with perfect actuators, actors on rails, plans renewed at 5 Hz and followed by pure pursuit.
"""

from __future__ import annotations

import math

import numpy as np

from bridge.messages import VehicleProfile
from bridge.planning import PlanAnswer
from sims.expert import expert_answer
from sims.judge import EpisodeResult, Judge
from sims.road import Road, road_from_points
from sims.scenarios import Scenario
from sims.truth import ActorTruth, Truth

DT_S = 1.0 / 30.0
PROFILE = VehicleProfile()


def oval(lane_count: int = 2, lane_width_m: float = 0.8, length_m: float = 12.0, radius_m: float = 3.0) -> Road:
    """Two straights joined by half circles, driven counter-clockwise."""
    turn = np.linspace(-math.pi / 2, math.pi / 2, 20, endpoint=False)
    along = np.linspace(-length_m / 2, length_m / 2, 24, endpoint=False)
    x = np.concatenate([along, length_m / 2 + radius_m * np.cos(turn), -along, -length_m / 2 - radius_m * np.cos(turn)])
    y = np.concatenate([0 * along - radius_m, radius_m * np.sin(turn), 0 * along + radius_m, -radius_m * np.sin(turn)])
    half = np.full(len(x), lane_count * lane_width_m / 2)
    return road_from_points("oval", x, y, half, half, lane_count)


def truth_at(road: Road, s_m, d_m, heading_error_rad=0.0, speed_mps=1.0, actors=(), **more) -> Truth:
    """Truth of a pose in Frenet terms; `actors` as (kind, s ahead, d, speed)."""
    x, y, yaw = (float(v) for v in road.to_world(s_m, d_m))
    s = np.arange(-0.5, 9.01, 0.1)
    rx, ry, ryaw = road.to_world(s_m + s, 0.0)
    left, right = (float(v) for v in road.edges_at(s_m))
    bodies = []
    for kind, ahead, d, v in actors:
        ax, ay, ayaw = (float(q) for q in road.to_world(s_m + ahead, d))
        length, width = {"car": (0.38, 0.2), "cone": (0.12, 0.12), "box": (0.25, 0.25)}[kind]
        bodies.append(ActorTruth(kind, ax, ay, ayaw, v, ahead, d, int(road.lane_at(s_m + ahead, d)), length, width))
    fields = {"t_s": 0.0, "yaw_rate_radps": 0.0, "steering": 0.0, "progress_m": 0.0, **more}
    return Truth(
        x_m=x,
        y_m=y,
        yaw_rad=yaw + heading_error_rad,
        speed_mps=speed_mps,
        s_m=float(s_m % road.length_m),
        d_m=float(d_m),
        heading_error_rad=heading_error_rad,
        lane=int(road.lane_at(s_m, d_m)),
        lane_count=road.lane_count,
        left_edge_d_m=left,
        right_edge_d_m=right,
        road_length_m=road.length_m,
        ahead=np.column_stack([s, rx, ry, ryaw, road.curvature_at(s_m + s)]),
        actors=tuple(bodies),
        **fields,
    )


class KinematicWorld:
    """One car on a scenario's road. State in Frenet terms, exact for a car that is a point at its rear axle."""

    def __init__(self, scenario: Scenario):
        self.road, self.scenario = scenario.road, scenario
        self.t, self.s, self.d, self.e = 0.0, scenario.start_s_m, scenario.start_d_m, 0.0
        self.v, self.progress = scenario.start_speed_mps, 0.0
        self.collision = self.off_road = False
        half = self.road.length_m / 2
        self.actors = [[a, (a.s_m - self.s + half) % (2 * half) - half, 0.0] for a in scenario.actors]

    def truth(self) -> Truth:
        bodies = [(a.kind, ahead, a.d_m, self._speed(a)) for a, ahead, _ in self.actors]
        flags = {"collision": self.collision, "off_road": self.off_road, "t_s": self.t, "progress_m": self.progress}
        return truth_at(self.road, self.s, self.d, self.e, self.v, bodies, **flags)

    def _speed(self, actor) -> float:
        return next((v for t, v in reversed(actor.speed_changes) if self.t >= t), actor.speed_mps)

    def step(self, curvature: float, wanted_mps: float) -> None:
        self.v = max(0.0, self.v + min(max(wanted_mps - self.v, -4 * DT_S), 2 * DT_S))
        k = float(self.road.curvature_at(self.s))
        rate = self.v * math.cos(self.e) / max(1 - k * self.d, 0.1)
        self.d += self.v * math.sin(self.e) * DT_S
        self.e += (self.v * min(max(curvature, -1.9), 1.9) - k * rate) * DT_S
        self.s, self.progress, self.t = self.s + rate * DT_S, self.progress + rate * DT_S, self.t + DT_S
        left, right = self.road.edges_at(self.s)
        self.off_road |= not right + 0.1 < self.d < left - 0.1
        half = self.road.length_m / 2
        for entry in self.actors:
            bend = max(1 - float(self.road.curvature_at(entry[0].s_m + entry[2])) * entry[0].d_m, 0.2)
            entry[2] += self._speed(entry[0]) / bend * DT_S
            ahead = entry[1] + (self._speed(entry[0]) / bend - rate) * DT_S
            entry[1] = (ahead + half) % (2 * half) - half
            self.collision |= abs(ahead - 0.13) < 0.37 and abs(entry[0].d_m - self.d) < 0.2


def pursue(answer: PlanAnswer, speed_mps: float) -> tuple[float, float]:
    """(curvature [1/m], speed [m/s]) from a fresh plan."""
    reach = 0.5 + 0.25 * speed_mps
    points = [(0.0, 0.0)] + [(w.x_m, w.y_m) for w in answer.waypoints]
    i = min(range(len(points)), key=lambda k: abs(math.hypot(*points[k]) - reach))
    x, y = points[i]
    return 2 * y / max(x * x + y * y, 1e-6), answer.waypoints[0].v_mps


def drive(scenario: Scenario, record: list | None = None) -> EpisodeResult:
    """Drive the episode with the expert, keeping the command as a planner session would."""
    world, judge, command, cruise, answer = KinematicWorld(scenario), Judge(scenario, PROFILE), None, 0.0, None
    cruise, tick, start_lane, pending = scenario.cruise_mps, 0, None, list(scenario.commands)
    while not judge.finished:
        truth = world.truth()
        if pending and world.t >= pending[0].t_s:
            command, start_lane = pending.pop(0), truth.lane
        if tick % 6 == 0:
            age = world.t - command.t_s if command else 0.0
            answer = expert_answer(truth, PROFILE, command and command.instruction, cruise, age, start_lane)
            if record is not None:
                record.append((truth, answer))
            if answer.verdict == "done" and answer.intent == "follow_lane":
                cruise = answer.waypoints[0].v_mps
            verdict = answer.verdict, answer.verdict_reason
            if answer.verdict in ("done", "refused"):
                command = start_lane = None
        judge.observe(truth, *verdict)
        world.step(*pursue(answer, world.v))
        tick += 1
    return judge.result()

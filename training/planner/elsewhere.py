"""Scenes from expert driving in any world with a camera and roads, at the scale that planners think at.

What `driving.py` does for `track`, by the contract of worlds alone: the expert's plans are driven with a disturbed
steering, and at every plan a scene is taken with the task that was being carried out. Truth, task and speeds of a scene
are at model scale (see `bridge.scale`), so that prompt and answer are those that are heard in service. There are no
dense labels. Knows the registry of worlds, scenarios and expert; knows no text.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from bridge.messages import VehicleProfile
from bridge.planning import INSTRUCTIONS, Instruction
from bridge.scale import model_profile
from planner.frames import resize_frame
from sims.expert import expert_answer
from sims.road import Road
from sims.scale import scenario_at_full_scale, scenario_at_model_scale, truth_at_model_scale
from sims.scenarios import Scenario, ScenarioError, make_scenario, scenarios_for
from sims.truth import Truth
from sims.world import WorldError, WorldSpec
from training.planner.driving import (
    CYCLE_STEPS,
    HOLDING,
    OTHER_COMMAND_SHARE,
    SINGLE_SHARE,
    DrivenSource,
    _Episode,
    sample_haste,
)
from training.planner.scenes import Scene, sample_spot

LONGEST_S = 9.0  # of an episode: new places are worth more than a long look at one
JOLT_SHARE, JOLT = 0.08, 0.6  # of the plans that are driven: with the steering far off
FAILURES = 5
CROWD_SHARE = 0.9  # of the episodes; they are short
FASTEST_MPS = 1.9  # at the start of one, model scale
STANDING_SHARE = 0.3  # of the scenes of a car that stands: they are all alike
NO_LABELS = np.zeros((0, 0), np.float32)


class ElsewhereSource:
    """Episodes in a world. Raises WorldError for a world without camera or roads, and what the world raises."""

    def __init__(self, spec: WorldSpec, seed: int, *, randomize: float = 0.7):
        if not (spec.camera and spec.roads):
            raise WorldError(f"world {spec.name!r} has no forward camera or no roads: a planner learns nothing there")
        self.rng = np.random.default_rng([abs(int(seed)), 23])
        self.spec, self.profile = spec, model_profile(spec.profile)
        size = (spec.profile.camera.width_px, spec.profile.camera.height_px)
        self.world = spec.make(camera_size=size, randomize=randomize, seed=seed)

    def close(self) -> None:
        """Let the simulator go."""
        self.world.close()

    def take(self, track: str, count: int) -> list[Scene]:
        """At least `count` scenes of whole episodes on a track of the world. Cars that are put close together can
        be too much for a simulator's physics: an episode that breaks down is left out, FAILURES in a row are not."""
        scenes: list[Scene] = []
        failures = 0
        while len(scenes) < count:
            road = self.spec.road(track, int(self.rng.integers(2**31)))
            try:
                scenes += self.drive(road)
                failures = 0
            except WorldError:
                failures += 1
                if failures == FAILURES:
                    raise
        return scenes

    def drive(self, road: Road) -> list[Scene]:
        """One episode on `road`; ends with time, a collision or a wheel off the road."""
        scenario, episode = self._begin(road)
        observation, info = self.world.start(scenario, int(self.rng.integers(2**31)))
        scenes: list[Scene] = []
        bias, haste = self.rng.normal(0, 0.06), sample_haste(self.rng)
        while True:
            truth = truth_at_model_scale(info["truth"], self.spec.profile)
            episode.t_s = truth.t_s
            path = self._think(episode, truth, observation["image"], scenes)
            jolt = self.rng.choice([-JOLT, JOLT]) if self.rng.random() < JOLT_SHARE else 0.0
            noise = bias + self.rng.normal(0, 0.08) + jolt
            steps = int(self.rng.integers(*CYCLE_STEPS))
            for k in range(steps):
                look = self.world.step if k == steps - 1 else self.world.advance
                observation, _, _, _, info = look(path.action(info["truth"], noise, haste))
            over = info["truth"].t_s >= episode.ends_s
            if over or info["truth"].collision or info["truth"].off_road:
                return scenes

    def _begin(self, road: Road) -> tuple[Scenario, _Episode]:
        rng, profile = self.rng, self.spec.profile
        while True:
            name = str(rng.choice([n for n in scenarios_for(road) if self.spec.objection(n) is None]))
            try:
                scenario = make_scenario(name, road, int(rng.integers(2**31)), profile=profile)
                break
            except ScenarioError:
                continue
        small = scenario_at_model_scale(scenario, profile)
        if rng.random() < CROWD_SHARE:
            return self._crowd(small)
        instruction = small.commands[0].instruction if small.commands else None
        if rng.random() < OTHER_COMMAND_SHARE:
            kind = str(rng.choice(INSTRUCTIONS))
            speed = float(np.clip(round(rng.normal(1.3, 0.5), 1), 0.3, 2.6)) if kind == "target_speed" else None
            instruction = Instruction(kind, speed)
        at = float(rng.uniform(0.0, 1.5))
        ends = min(small.duration_s, LONGEST_S) - float(rng.uniform(0.0, 2.0))
        if instruction is not None and instruction.kind in HOLDING:
            ends = min(ends, at + 6.0)
        return scenario, _Episode(small, instruction, at, small.cruise_mps, ends_s=ends)

    def _crowd(self, small: Scenario) -> tuple[Scenario, _Episode]:
        """A short episode that begins anywhere, with others near: what a planner gets into that brakes too late."""
        rng = self.rng
        spot = sample_spot(rng, small.road)
        actors = spot.actors if self.spec.traffic else ()
        speed = min(spot.speed_mps, FASTEST_MPS)
        small = replace(
            small, start_s_m=spot.s_m, start_d_m=spot.d_m, start_speed_mps=speed, actors=actors, commands=()
        )
        instruction = None
        if rng.random() < 0.75:
            kind = str(rng.choice([k for k in INSTRUCTIONS if k != "target_speed"]))
            instruction = Instruction(kind)
        real = scenario_at_full_scale(small, self.spec.profile)
        return real, _Episode(small, instruction, 0.0, small.cruise_mps, ends_s=float(rng.uniform(0.6, 2.2)))

    def _think(self, episode: _Episode, truth: Truth, image: np.ndarray, scenes: list[Scene]) -> _Path:
        """A new plan and, after the first one, a scene."""
        task = DrivenSource._task(episode)
        answer = expert_answer(truth, self.profile, task.instruction, task.cruise_mps, task.age_s, task.start_lane)
        DrivenSource._remember(episode, task, answer)
        now = resize_frame(image)
        standing = truth.speed_mps < 0.02
        if episode.seen is not None and not (standing and self.rng.random() > STANDING_SHARE):
            before = now if self.rng.random() < SINGLE_SHARE else episode.seen
            scenes.append(Scene(np.stack([before, now]), NO_LABELS, truth, task))
        episode.seen = now
        return _Path(truth, answer, self.spec.profile)


class _Path:
    """A plan at model scale, pursued by a car of any scale."""

    def __init__(self, truth: Truth, answer, real: VehicleProfile):
        c, s = math.cos(truth.yaw_rad), math.sin(truth.yaw_rad)
        points = np.array([[0.0, 0.0], *([w.x_m, w.y_m] for w in answer.waypoints)])
        self._points = [truth.x_m, truth.y_m] + points @ np.array([[c, s], [-s, c]])
        speeds = [w.v_mps for w in answer.waypoints]
        self._speeds = [speeds[0], *speeds]
        self._real, self._car = real, model_profile(real)

    def action(self, truth: Truth, noise: float, haste: float) -> np.ndarray:
        """[steering, acceleration] for a truth at real size: pure pursuit and proportional speed, steering off by
        `noise`, speed by the factor `haste`."""
        truth, car = truth_at_model_scale(truth, self._real), self._car
        c, s = math.cos(truth.yaw_rad), math.sin(truth.yaw_rad)
        x, y = ((self._points - [truth.x_m, truth.y_m]) @ np.array([[c, -s], [s, c]])).T
        distance = np.hypot(x, y)
        reach = float(np.clip(0.35 + 0.35 * truth.speed_mps, 0.45, 1.2))
        good = (x > 0.05) & (distance >= reach)
        at = int(good.argmax()) if good.any() else len(x) - 1
        far = max(float(distance[at]), 0.2)
        steering = math.atan(2 * car.wheelbase_m * y[at] / far**2) / car.steering_limit_rad
        if x[at] <= 0:
            steering = math.copysign(1.0, y[at])
        if truth.speed_mps > 0.1:
            steering += noise
        error = haste * self._speeds[min(int(distance.argmin()) + 1, len(x) - 1)] - truth.speed_mps
        accel = 2.5 * error / car.max_accel_mps2 if error >= 0 else 3.0 * error / car.max_brake_mps2
        return np.clip(np.array([steering, accel], np.float32), -1.0, 1.0)

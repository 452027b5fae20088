"""Scenes on the way: what the camera sees while the expert drives the scenarios, badly enough to get into trouble.

A planner that only ever saw random places has never seen what its own driving leads to. Here the expert's plans are
driven with a disturbed steering, and at every plan a scene is taken with the task that was being carried out. Roads,
looks and commands are random. Knows world, scenarios and expert; knows no text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridge.messages import Doing, Intent, VehicleProfile, Verdict
from bridge.planning import INSTRUCTIONS, Instruction
from planner.frames import resize_frame
from sims.expert import expert_answer
from sims.random_road import random_road
from sims.scenarios import Scenario, ScenarioError, make_scenario, scenarios_for
from sims.track import TrackVectorEnv
from training.planner.scenes import FIRST_EVALUATION_SEED, LOOK_SHARES, LOOKS, Scene, Task, patch_order

CYCLE_STEPS = (6, 15)  # world steps between two plans, and between the two frames of a scene
SINGLE_SHARE = 0.05
AFTER_DONE_S = 2.0
HASTY_SHARE, HASTE = 0.3, (1.1, 1.7)  # of the episodes: driven so much faster than planned, too close to others
OTHER_COMMAND_SHARE = 0.4  # of episodes: not the scenario's own command but any
HOLDING = ("stop", "pull_over", "keep_left", "keep_right")
SPEED_INTENTS = ("faster", "slower", "target_speed")


def sample_haste(rng: np.random.Generator) -> float:
    """What the speeds of an episode's plans are multiplied by when they are driven."""
    return float(rng.uniform(*HASTE)) if rng.random() < HASTY_SHARE else 1.0


@dataclass
class _Episode:
    """What the server would remember of one car."""

    scenario: Scenario
    instruction: Instruction | None
    command_at_s: float
    cruise_mps: float
    t_s: float = 0.0
    dropped: bool = False
    start_lane: int | None = None
    intent: Intent = Intent.FOLLOW_LANE
    intent_since_s: float = 0.0
    ends_s: float = 0.0
    seen: np.ndarray | None = None  # the frame of the plan before


class DrivenSource:
    """Endless scenes from `envs` cars; `take` hands out shuffled ones."""

    def __init__(
        self,
        seed: int,
        profile: VehicleProfile,
        *,
        evaluation: bool = False,
        envs: int = 64,
        roads: int = 320,
        look_shares: tuple[float, float] = LOOK_SHARES,
    ):
        self.rng = np.random.default_rng(seed)
        self.profile, self.count = profile, envs
        low = FIRST_EVALUATION_SEED if evaluation else 0
        self.roads = [random_road(int(s)) for s in self.rng.integers(low, low + FIRST_EVALUATION_SEED, roads)]
        self.look_shares = look_shares
        world_seed = int(self.rng.integers(2**31))
        self.env = TrackVectorEnv(envs, self.roads, profile=profile, randomize=LOOKS[0], seed=world_seed)
        self.camera_size = self.env.camera_size
        self.episodes: list[_Episode] = [self._begin(i) for i in range(envs)]
        self.paths = np.zeros((envs, 9, 2))  # world frame
        self.speeds = np.zeros((envs, 9))
        self.bias = self.rng.normal(0, 0.06, envs)
        self.haste = np.array([sample_haste(self.rng) for _ in range(envs)])
        self.ready: list[Scene] = []
        self._think(list(range(envs)))

    def take(self, count: int) -> list[Scene]:
        """`count` scenes, drawn at random from the latest ones."""
        while len(self.ready) < max(3 * self.count, 2 * count):
            self._cycle()
        picks = self.rng.permutation(len(self.ready))[:count]
        taken = [self.ready[k] for k in picks]
        for k in sorted(picks, reverse=True):
            del self.ready[k]
        return taken

    def _begin(self, i: int) -> _Episode:
        rng = self.rng
        while True:
            index = int(rng.integers(len(self.roads)))
            road = self.roads[index]
            try:
                scenario = make_scenario(str(rng.choice(scenarios_for(road))), road, int(rng.integers(2**31)))
                break
            except ScenarioError:
                continue
        env = self.env
        env.set_actors(i, [])
        d = scenario.start_d_m + float(rng.normal(0, 0.06))
        env.place(i, index, scenario.start_s_m, d, float(rng.normal(0, 0.05)), scenario.start_speed_mps)
        env.set_actors(i, scenario.actors)
        env.randomization = LOOKS[int(rng.choice(len(LOOKS), p=self.look_shares))]
        env.randomize_look([i])
        env.randomize_physics([i])
        command = scenario.commands[0] if scenario.commands else None
        instruction = command.instruction if command else None
        if rng.random() < OTHER_COMMAND_SHARE:
            kind = str(rng.choice(INSTRUCTIONS))
            speed = float(np.clip(round(rng.normal(1.3, 0.5), 1), 0.3, 2.6)) if kind == "target_speed" else None
            instruction = Instruction(kind, speed)
        at = float(rng.uniform(0.0, 1.5))
        ends = min(scenario.duration_s, 16.0) - float(rng.uniform(0.0, 2.0))
        if instruction is not None and instruction.kind in HOLDING:
            ends = min(ends, at + 8.0)
        return _Episode(scenario, instruction, at, scenario.cruise_mps, ends_s=ends)

    # ---- driving -------------------------------------------------------------------------------------------------

    def _cycle(self) -> None:
        env = self.env
        jolt = np.where(self.rng.random(self.count) < 0.08, self.rng.choice([-0.6, 0.6], self.count), 0.0)
        noise = self.bias + self.rng.normal(0, 0.08, self.count) + jolt
        self._drive(int(self.rng.integers(*CYCLE_STEPS)), noise)
        for i, episode in enumerate(self.episodes):
            episode.t_s = float(env.state.time_s[i])
        bad = env.state.collision | env.state.off_road
        alive = [i for i in range(self.count) if not bad[i] and self.episodes[i].t_s < self.episodes[i].ends_s]
        self._think(alive)
        fresh = [i for i in range(self.count) if i not in set(alive)]
        for i in fresh:
            self.episodes[i] = self._begin(i)
            self.bias[i], self.haste[i] = self.rng.normal(0, 0.06), sample_haste(self.rng)
        self._think(fresh)

    def _drive(self, steps: int, noise: np.ndarray) -> None:
        env = self.env
        env.camera_size = None  # no picture at every step
        for _ in range(steps):
            env.step(self._pursue(noise))
        env.camera_size = self.camera_size

    def _pursue(self, noise: np.ndarray) -> np.ndarray:
        state, p = self.env.state, self.profile
        d = self.paths - np.stack([state.x_m, state.y_m], 1)[:, None]
        c, s = np.cos(state.yaw_rad)[:, None], np.sin(state.yaw_rad)[:, None]
        x, y = d[..., 0] * c + d[..., 1] * s, d[..., 1] * c - d[..., 0] * s
        distance = np.hypot(x, y)
        reach = np.clip(0.35 + 0.35 * state.speed_mps, 0.45, 1.2)
        good = (x > 0.05) & (distance >= reach[:, None])
        at = np.where(good.any(1), good.argmax(1), 8)
        row = np.arange(self.count)
        tx, ty, far = x[row, at], y[row, at], np.maximum(distance[row, at], 0.2)
        steering = np.arctan(2 * p.wheelbase_m * ty / far**2) / p.steering_limit_rad
        steering = np.where(tx > 0, steering, np.sign(ty)) + noise * (state.speed_mps > 0.1)
        near = np.minimum(distance.argmin(1) + 1, 8)
        error = self.haste * self.speeds[row, near] - state.speed_mps
        accel = np.where(error >= 0, 2.5 * error / p.max_accel_mps2, 3.0 * error / p.max_brake_mps2)
        return np.clip(np.stack([steering, accel], 1), -1.0, 1.0)

    # ---- planning ------------------------------------------------------------------------------------------------

    def _think(self, which: list[int]) -> None:
        """New plans and, after the first one of an episode, scenes for the cars `which`."""
        if not which:
            return
        env = self.env
        pictures = env.render(which)
        labels = patch_order(env.render_labels(which))
        for k, i in enumerate(which):
            truth, episode = env.truth(i), self.episodes[i]
            task = self._task(episode)
            answer = expert_answer(truth, self.profile, task.instruction, task.cruise_mps, task.age_s, task.start_lane)
            self._remember(episode, task, answer)
            self._set_path(i, truth, answer)
            now = resize_frame(pictures[k])
            if episode.seen is not None:
                before = now if self.rng.random() < SINGLE_SHARE else episode.seen
                self.ready.append(Scene(np.stack([before, now]), labels[k], truth, task))
            episode.seen = now

    @staticmethod
    def _task(episode: _Episode) -> Task:
        on = episode.instruction is not None and not episode.dropped and episode.t_s >= episode.command_at_s
        doing = Doing(intent=episode.intent, since_s=max(0.0, episode.t_s - episode.intent_since_s))
        if not on:
            return Task(None, episode.cruise_mps, 0.0, None, doing)
        age = episode.t_s - episode.command_at_s
        return Task(episode.instruction, episode.cruise_mps, age, episode.start_lane, doing)

    @staticmethod
    def _remember(episode: _Episode, task: Task, answer) -> None:
        if answer.intent != episode.intent:
            episode.intent, episode.intent_since_s = answer.intent, episode.t_s
        if task.instruction is None:
            return
        if episode.start_lane is None:
            episode.start_lane = answer.lane
        if answer.verdict in (Verdict.DONE, Verdict.REFUSED):
            episode.dropped = True
            episode.ends_s = min(episode.ends_s, episode.t_s + AFTER_DONE_S)
            if answer.verdict == Verdict.DONE and task.instruction.kind in SPEED_INTENTS:
                episode.cruise_mps = max(answer.waypoints[0].v_mps, 0.2)

    def _set_path(self, i: int, truth, answer) -> None:
        c, s = np.cos(truth.yaw_rad), np.sin(truth.yaw_rad)
        points = np.array([[0.0, 0.0], *([w.x_m, w.y_m] for w in answer.waypoints)])
        self.paths[i] = [truth.x_m, truth.y_m] + points @ np.array([[c, s], [-s, c]])
        v = [w.v_mps for w in answer.waypoints]
        self.speeds[i] = [v[0], *v]

"""Drives the batch of cars and writes down samples: what the policy would see, and what the teacher would do.

DAgger (Ross et al. 2011): some cars are driven by the teacher, some by the teacher with bursts of noise, some by the
student; the label is always the teacher's. Between two samples a car drives three steps of its chunk, as on the car.
"""

from __future__ import annotations

import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import torch

from bridge.messages import VehicleProfile
from sims.actors import ActorSpec
from sims.random_road import random_road
from sims.track import TrackVectorEnv
from training.controller.buffer import halve
from training.controller.network import FlowController
from training.controller.settings import DataSettings
from training.controller.tasks import Actors, Drivers, lane_d, lane_u, lane_width
from training.controller.teacher import (
    CHUNK_STEPS,
    EYES_GAP,
    STEP_S,
    RoadTable,
    gap_ahead,
    label_chunks,
    lane_ahead,
    nominal_car,
    road_at,
)

STEPS_PER_SAMPLE = 3
TEACHER, NOISE, STUDENT = range(3)
STALE_S = 4.0  # a car that has stood so long is put elsewhere
KEPT_STANDING = 0.25  # share of the samples kept of a car that has stood for half a second: they are all alike


class Collector:
    """A batch of cars on random roads. `collect` advances all of them by 0.1 s and returns one sample for each."""

    def __init__(self, data: DataSettings, seed: int = 0, profile: VehicleProfile | None = None):
        self.data, self.profile = data, profile or VehicleProfile()
        self.rng = np.random.default_rng(seed)
        roads = [random_road(data.first_road_seed + k) for k in range(data.roads)]
        self.env = TrackVectorEnv(
            data.envs, roads, profile=self.profile, randomize=data.randomize, seed=seed, parallel=False
        )
        # A twin without a camera moves the cars, so that steps that nobody looks at need not be drawn.
        self.twin = TrackVectorEnv(data.envs, roads, profile=self.profile, camera_size=None, seed=seed, parallel=False)
        self.table = RoadTable(self.env.bank.meta, self.env.bank.samples)
        self.car = nominal_car(self.profile)
        n = data.envs
        self.drivers = Drivers(n, self.table, self.profile, data, STEPS_PER_SAMPLE * STEP_S, self.rng)
        self.acceleration = np.zeros(n)
        self.driver, self.driver_until = np.zeros(n, np.int64), np.zeros(n)
        self.noise, self.noise_size = np.zeros((n, 2)), np.zeros(n)
        self.standing = np.zeros(n)
        self.episode_until = np.zeros(n)
        self.resets = 0
        for i in range(n):
            self._replace(i)

    def collect(self, student: FlowController | None = None) -> dict[str, np.ndarray]:
        """One sample per car that is on the road: columns of `SampleBuffer`."""
        state, drivers = self.env.state, self.drivers
        actors = Actors(state, self.table, self.env.actors, self.env.actor_counts)
        drivers.update(state, actors)
        chunk, aux = self._label(state, actors)
        path, valid = drivers.observed_path()
        images = halve(self.env.render())
        ego = np.column_stack(
            [state["speed_mps"] / self.profile.reference_speed_mps, state["yaw_rate_radps"], state["steering_command"]]
        ).astype(np.float32)
        rows = {"image": images, "path": path, "valid": valid, "ego": ego, "chunk": chunk, "aux": aux}
        good = ~(state["collision"] | state["off_road"])
        good &= (self.standing < 0.5) | (self.rng.random(len(good)) < KEPT_STANDING)
        self._drive(rows, student)
        self._replace_where_needed()
        return {name: column[good] for name, column in rows.items()}

    def _label(self, state, actors: Actors) -> tuple[np.ndarray, np.ndarray]:
        n, drivers = len(state), self.drivers
        chunk, gap = np.zeros((n, CHUNK_STEPS, 2)), np.zeros(n)
        label_chunks(
            self.table, self.car, state["road"], state["s_m"], state["d_m"], state["heading_error_rad"],
            state["speed_mps"], state["steering_command"], self.acceleration, drivers.back_m(), drivers.lateral,
            drivers.v_near, drivers.v_far, actors.s, actors.d, actors.v, actors.length, actors.width, actors.count,
            chunk, gap,
        )  # fmt: skip
        return chunk.astype(np.float32), self._aux(state, actors)

    def _aux(self, state, actors: Actors) -> np.ndarray:
        """What the eyes should see of the lane that the car is in; lengths in units of 0.5 m."""
        n = len(state)
        road, s, d, psi = state["road"], state["s_m"], state["d_m"], state["heading_error_rad"]
        points = np.empty((n, 8))
        facts = np.empty((n, 5))
        lane = np.empty(n)
        still = np.zeros(4)
        for i in range(n):
            u = lane_u(self.table, road[i], s[i], d[i])
            lane[i] = min(max(round(u), 0), self.table.meta["lanes"][road[i]] - 1)
            width = lane_width(self.table, road[i], s[i])
            still[:2] = lane[i]
            gap, _ = gap_ahead(
                self.table, road[i], s[i], d[i], 0.0, still, actors.s[i], actors.d[i], actors.v[i], actors.length[i],
                actors.width[i], actors.count[i], self.car, EYES_GAP,
            )  # fmt: skip
            kappa = road_at(self.table, road[i], s[i] + 0.8)[3]
            nearness = 2.0 * max(0.0, 1.0 - max(gap, 0.0) / 4.0)
            facts[i] = ((u - lane[i]) * width * 2, 2 * psi[i], kappa, nearness, 2 * width)
        lane_ahead(self.table, road, s, d, psi, lane, points)
        return np.concatenate([np.clip(2.0 * points, -6, 6), facts], axis=1).astype(np.float32)

    def _drive(self, rows: dict[str, np.ndarray], student: FlowController | None) -> None:
        """Three steps of the chunk of whoever drives each car."""
        actions = rows["chunk"][:, :STEPS_PER_SAMPLE].astype(np.float64)
        self._choose_drivers(student is not None)
        if student is not None:
            mine = np.flatnonzero(self.driver == STUDENT)
            if len(mine):
                actions[mine] = _act(student, {k: rows[k][mine] for k in ("image", "path", "valid", "ego")})
        self.noise += -self.noise * 0.25 + self.rng.normal(0, 1, self.noise.shape) * (0.6, 0.35)
        bursts = self.noise * (self.noise_size * (self.driver == NOISE))[:, None]
        actions = np.clip(actions + bursts[:, None, :], -1.0, 1.0)
        self._move(actions)
        self.acceleration = actions[:, -1, 1].copy()

    def _move(self, actions: np.ndarray) -> None:
        """Three steps of the world, actions (n, 3, 2)."""
        env, twin = self.env, self.twin
        for name in ("state", "physics", "actors", "actor_counts"):
            getattr(twin, name)[:] = getattr(env, name)
        for k in range(STEPS_PER_SAMPLE):
            twin.step(actions[:, k])
        env.state[:], env.actors[:] = twin.state, twin.actors

    def _choose_drivers(self, student: bool) -> None:
        time = self.drivers.time
        for i in np.flatnonzero(time >= self.driver_until):
            pick = self.rng.random()
            noise, mine = self.data.noise_share, self.data.student_share if student else 0.0
            self.driver[i] = NOISE if pick < noise else STUDENT if pick < noise + mine else TEACHER
            length = self.rng.uniform(0.3, 1.2) if self.driver[i] == NOISE else self.rng.uniform(1.0, 6.0)
            self.driver_until[i] = time[i] + length
            self.noise_size[i] = self.rng.uniform(0.2, 1.0)

    def _replace_where_needed(self) -> None:
        state = self.env.state
        self.standing = np.where(state["speed_mps"] < 0.05, self.standing + STEPS_PER_SAMPLE * STEP_S, 0.0)
        bad = state["collision"] | state["off_road"]
        self.resets += int(bad.sum())
        for i in np.flatnonzero(bad | (self.standing > STALE_S) | (self.drivers.time >= self.episode_until)):
            self._replace(int(i))

    def _replace(self, i: int) -> None:
        """Put car i somewhere else, often with another look, other actors, and not quite in its lane."""
        rng, env = self.rng, self.env
        if rng.random() < 0.7:
            env.randomize_look([i])
            env.randomize_physics([i])
        road = int(rng.integers(len(env.roads)))
        s = rng.uniform(0, env.roads[road].length_m)
        lane = int(rng.integers(env.roads[road].lane_count))
        width = lane_width(self.table, road, s)
        room = max(0.0, 0.5 * width - 0.16)
        d = lane_d(self.table, road, s, float(lane)) + rng.choice([0.0, 0.5, 1.0]) * rng.uniform(-room, room)
        env.set_actors(i, [])
        env.place(i, road, s, d, rng.normal(0, 0.15), rng.choice([0.0, 1.0], p=[0.2, 0.8]) * rng.uniform(0.2, 2.0))
        if rng.random() < self.data.actor_share:
            env.set_actors(i, self._actors(env.roads[road], s, lane))
        self.drivers.restart(i)
        self.acceleration[i] = 0.0
        self.standing[i] = 0.0
        self.driver_until[i] = 0.0
        self.episode_until[i] = self.drivers.time[i] + rng.uniform(10.0, 30.0)

    def _actors(self, road, s: float, lane: int) -> list[ActorSpec]:
        rng, specs = self.rng, []
        at = s + rng.uniform(1.5, 4.0)
        for _ in range(int(rng.integers(1, 5))):
            where = lane if rng.random() < 0.7 else int(rng.integers(road.lane_count))
            d = float(road.lane_center_d(at, where)) + rng.normal(0, 0.03)
            kind = str(rng.choice(["car", "car", "cone", "box"]))
            speed = float(rng.uniform(0.2, 1.2)) if kind == "car" and rng.random() < 0.7 else 0.0
            changes = ((float(rng.uniform(2, 10)), float(rng.choice([0.0, rng.uniform(0.2, 1.5)]))),)
            specs.append(ActorSpec(kind, at % road.length_m, d, speed, changes if speed and rng.random() < 0.5 else ()))
            at += rng.uniform(1.0, 6.0)
            if at - s > road.length_m - 3.0:
                break
        return specs


def _act(policy: FlowController, rows: dict[str, np.ndarray]) -> np.ndarray:
    """The first steps of the policy's chunks, noise 0: (n, 3, 2)."""
    with torch.no_grad():
        image = torch.from_numpy(rows["image"]).permute(0, 3, 1, 2).float()
        path, valid, ego = (torch.from_numpy(rows[k]) for k in ("path", "valid", "ego"))
        condition = policy.condition(policy.see(image), path, valid, ego)
        chunk = policy.generate(condition, torch.zeros(len(image), 2 * CHUNK_STEPS))
    return chunk[:, :STEPS_PER_SAMPLE].numpy().astype(np.float64)

"""Pictures to learn from, made as they are needed: random roads, looks, places and traffic in the world `track`.

Two frames up to 0.6 s apart, dense labels, and the truth. Nothing is stored. Knows the world; knows no text.
Roads for training have seeds below FIRST_EVALUATION_SEED, those for evaluation start there; racetrack files are never
read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bridge.messages import Doing, VehicleProfile
from bridge.planning import Instruction
from planner.frames import GRID_THW, MERGE, resize_frame
from sims.actors import ActorSpec
from sims.random_road import random_road
from sims.road import Road
from sims.track import Randomization, TrackVectorEnv
from sims.truth import Truth

FIRST_EVALUATION_SEED = 1_000_000
# In service the older frame is that of the plan before, a cycle of the planner earlier; at first the same one twice.
FRAME_GAP_S = (0.1, 0.6)
SINGLE_SHARE = 0.15
NOSE_M = 0.51  # from the rear axle to the centre of a car that the front bumper touches
LOOKS = (Randomization.at(0.5), Randomization.at(1.0))  # as in `pacenote drive` and in `pacenote evaluate`
LOOK_SHARES = (0.5, 0.5)


@dataclass(frozen=True)
class Scene:
    """`frames` (2, h, w, 3) uint8, older first, resized for the model; `dense` (patches, classes) class shares in patch
    order; the truth of the second frame; `task` where a command was being carried out."""

    frames: np.ndarray
    dense: np.ndarray
    truth: Truth
    task: Task | None = None


@dataclass(frozen=True)
class Task:
    """What the car was doing when the picture was taken."""

    instruction: Instruction | None
    cruise_mps: float
    age_s: float
    start_lane: int | None
    doing: Doing


@dataclass(frozen=True)
class Spot:
    """A placement of the ego and the others; d and heading error of `gap_s` before as well."""

    s_m: float
    d_m: float
    heading_error_rad: float
    speed_mps: float
    gap_s: float
    before_d_m: float
    before_heading_rad: float
    yaw_rate_radps: float
    actors: tuple[ActorSpec, ...]


def patch_order(labels: np.ndarray) -> np.ndarray:
    """(n, rows, columns, classes) -> (n, patches, classes) with merge groups together, as the model orders patches."""
    n, rows, columns, classes = labels.shape
    cut = labels.reshape(n, rows // MERGE, MERGE, columns // MERGE, MERGE, classes)
    return np.ascontiguousarray(cut.transpose(0, 1, 3, 2, 4, 5)).reshape(n, rows * columns, classes)


def sample_spot(rng: np.random.Generator, road: Road) -> Spot:
    """Anywhere on the road: in the middle of a lane mostly, between lanes or askew at times, alone or with others."""
    s = float(rng.uniform(0.0, road.length_m))
    lane = int(rng.integers(road.lane_count))
    width = float(road.lane_width_at(s))
    left, right = (float(e) for e in road.edges_at(s))
    if rng.random() < 0.7:
        d = float(road.lane_center_d(s, lane)) + rng.normal(0, 0.12) * width
    else:
        d = float(rng.uniform(right + 0.12, left - 0.12))
    d = float(np.clip(d, right + 0.1, left - 0.1))
    pick = rng.random()
    heading = rng.normal(0, 0.07) if pick < 0.7 else rng.normal(0, 0.18) if pick < 0.93 else rng.uniform(-0.7, 0.7)
    pick = rng.random()
    speed = rng.normal(1.2, 0.3) if pick < 0.55 else rng.uniform(0, 0.3) if pick < 0.7 else rng.uniform(0, 2.5)
    speed = float(np.clip(speed, 0.0, 2.5))
    gap = 0.0 if rng.random() < SINGLE_SHARE else float(rng.uniform(*FRAME_GAP_S))
    before_d = float(np.clip(d - speed * gap * float(np.sin(heading)), right + 0.1, left - 0.1))
    drift = rng.normal(0, 0.2) * speed
    yaw_rate = float(road.curvature_at(s)) * speed + drift
    actors = sample_actors(rng, road, s, d)
    return Spot(s, d, float(heading), speed, gap, before_d, float(heading - drift * gap), yaw_rate, actors)


def sample_actors(rng: np.random.Generator, road: Road, s: float, d: float) -> tuple[ActorSpec, ...]:
    """Nothing, a slow lead, a lead with a blocker beside it, an obstacle, or others anywhere; never in the ego."""
    lane = int(road.lane_at(s, d))
    pick = rng.random()
    wanted: list[tuple[str, int, float]] = []
    ahead = NOSE_M + float(rng.uniform(0.1, 5.4) if rng.random() < 0.5 else rng.uniform(0.2, 2.8))
    side = lane + int(rng.choice([-1, 1]))
    if pick < 0.22:
        return ()
    if pick < 0.44:
        wanted = [("car", lane, ahead)]
    elif pick < 0.60:
        wanted = [("car", lane, ahead), ("car", side, ahead + float(rng.uniform(-2.0, 1.5)))]
    elif pick < 0.76:
        wanted = [(str(rng.choice(["cone", "box", "box", "cone", "car"])), lane, ahead)]
        if rng.random() < 0.3:
            wanted.append(("car", side, float(rng.uniform(0.3, 6.0))))
    elif pick < 0.86:
        wanted = [("car", side, float(rng.uniform(0.2, 6.0)))]
    else:
        for _ in range(int(rng.integers(1, 4))):
            kind = str(rng.choice(["car", "car", "car", "cone", "box"]))
            wanted.append((kind, int(rng.integers(road.lane_count)), float(rng.uniform(-0.8, 6.8))))
    actors: list[ActorSpec] = []
    for kind, where, offset in wanted:
        if not 0 <= where < road.lane_count:
            continue
        at = (s + offset) % road.length_m
        across = float(road.lane_center_d(at, where)) + float(rng.normal(0, 0.05))
        clear = abs(offset - 0.13) > 0.42 or abs(across - d) > 0.3
        apart = all(
            abs(offset - o) > 0.55 or abs(across - a.d_m) > 0.32 for o, a in zip(_offsets(actors, s, road), actors)
        )
        if clear and apart:
            moves = kind == "car" and rng.random() < 0.85
            actors.append(ActorSpec(kind, at, across, float(rng.uniform(0.2, 1.3)) if moves else 0.0, follow=False))
    return tuple(actors)


def _offsets(actors: list[ActorSpec], s: float, road: Road) -> list[float]:
    half = road.length_m / 2
    return [(a.s_m - s + half) % road.length_m - half for a in actors]


class SceneSource:
    """Endless scenes. `evaluation` takes roads that training never sees. Roads change every `batches_per_road_set`."""

    def __init__(
        self,
        seed: int,
        batch: int,
        profile: VehicleProfile,
        *,
        evaluation: bool = False,
        batches_per_road_set: int = 60,
        look_shares: tuple[float, float] = LOOK_SHARES,
    ):
        self.rng = np.random.default_rng(seed)
        self.batch, self.profile, self.evaluation = batch, profile, evaluation
        self.batches_per_road_set, self.made = batches_per_road_set, 0
        self.env: TrackVectorEnv | None = None
        self.look_shares = look_shares

    def _renew(self) -> None:
        low = FIRST_EVALUATION_SEED if self.evaluation else 0
        seeds = self.rng.integers(low, low + FIRST_EVALUATION_SEED, size=48)
        roads = [random_road(int(s)) for s in seeds]
        self.env = TrackVectorEnv(
            self.batch, roads, profile=self.profile, randomize=LOOKS[0], seed=int(self.rng.integers(2**31))
        )
        self.env.reset(seed=int(self.rng.integers(2**31)))
        self.roads = roads

    def scenes(self) -> list[Scene]:
        """One batch of scenes."""
        if self.made % self.batches_per_road_set == 0:
            self._renew()
        self.made += 1
        env, rng = self.env, self.rng
        strength = rng.choice(len(LOOKS), size=self.batch, p=self.look_shares)
        for k, look in enumerate(LOOKS):
            env.randomization = look
            env.randomize_look(np.flatnonzero(strength == k))
        road_index = rng.integers(len(self.roads), size=self.batch)
        spots = [sample_spot(rng, self.roads[k]) for k in road_index]
        before = self._show(road_index, spots, True)
        after = self._show(road_index, spots, False)
        single = np.array([spot.gap_s == 0.0 for spot in spots])
        before[single] = after[single]
        labels = patch_order(env.render_labels(patch_grid=GRID_THW[1:]))
        pairs = [np.stack([resize_frame(a), resize_frame(b)]) for a, b in zip(before, after, strict=True)]
        return [Scene(pairs[i], labels[i], env.truth(i)) for i in range(self.batch)]

    def _show(self, road_index: np.ndarray, spots: list[Spot], earlier: bool) -> np.ndarray:
        env = self.env
        ago = np.array([p.gap_s if earlier else 0.0 for p in spots])
        speed = np.array([p.speed_mps for p in spots])
        s = np.array([p.s_m for p in spots]) - speed * ago
        d = np.array([p.before_d_m if earlier else p.d_m for p in spots])
        heading = np.array([p.before_heading_rad if earlier else p.heading_error_rad for p in spots])
        env.place_many(np.arange(self.batch), road_index, s, d, heading, speed)
        env.state.steps[:] = self.rng.integers(1, 10_000, self.batch)  # the sensor's noise depends on it
        env.state.yaw_rate_radps[:] = [p.yaw_rate_radps for p in spots]
        for i, spot in enumerate(spots):
            length = self.roads[road_index[i]].length_m
            moved = [replace(a, s_m=(a.s_m - a.speed_mps * ago[i]) % length) for a in spot.actors]
            env.set_actors(i, moved)
        return env.render()

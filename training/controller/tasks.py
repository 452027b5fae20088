"""What each car is trying to do, and the plan that it is given for it. Knows the true road, no images, no network.

A `Drivers` object keeps, for every environment: the intention (lane, speed, until when), the plan in force (true
lateral profile and speeds for the teacher, corrupted world-fixed points for the policy), and a short history of poses,
because a plan is made from a frame that is 0.1 to 1.2 s old by the time it arrives.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bridge.messages import VehicleProfile
from training.controller.plans import make_chain, plan_speed, reproject
from training.controller.settings import DataSettings
from training.controller.teacher import (
    PATH_POINTS,
    PLAN_GAP,
    RoadTable,
    gap_ahead,
    lateral_profile,
    nominal_car,
    road_at,
)

HISTORY = 13  # entries of one sample period each
POSE = np.dtype([(n, "f8") for n in ("x", "y", "yaw", "s", "d", "psi", "v", "progress", "t")])
DEGREE = np.pi / 180
KEEP, CHANGE, STOP, PULL_OVER = KINDS = (0, 1, 2, 3)
# How far off the plans' headings are (turn of the whole path, bend per segment; standard deviations in degrees), and
# how often: a good planner, one that sees badly, one that mistakes the bend.
NOISE_DEG = ((3.0, 1.0), (8.0, 3.0), (5.0, 7.0))
NOISE_SHARES = (0.65, 0.2, 0.15)
UNAWARE = 0.5  # share of plans that overlook the other cars and the obstacles
SHARES = (0.45, 0.35, 0.12, 0.08)


@njit(cache=True)
def lane_width(table, r, s):
    """Width of one lane of road r at s [m]."""
    at = road_at(table, r, s)
    return (at[4] + at[5]) / table.meta[r].lanes


@njit(cache=True)
def lane_d(table, r, s, u):
    """d [m] of the continuous lane index u at s."""
    return -road_at(table, r, s)[5] + (u + 0.5) * lane_width(table, r, s)


@njit(cache=True)
def lane_u(table, r, s, d):
    """Continuous lane index of (s, d): 0 is the centre of the rightmost lane."""
    return (d + road_at(table, r, s)[5]) / lane_width(table, r, s) - 0.5


@njit(cache=True)
def _nearest_lane(table, r, s, d):
    return min(max(np.round(lane_u(table, r, s, d)), 0.0), table.meta[r].lanes - 1.0)


@njit(cache=True)
def _remember(history, known, state, time):
    for i in range(len(state)):
        for k in range(history.shape[1] - 1, 0, -1):
            history[i, k] = history[i, k - 1]
        known[i] = min(known[i] + 1, history.shape[1])
        h, e = history[i, 0], state[i]
        h.x, h.y, h.yaw, h.s, h.d, h.psi = e.x_m, e.y_m, e.yaw_rad, e.s_m, e.d_m, e.heading_error_rad
        h.v, h.progress, h.t = e.speed_mps, e.progress_m, time[i]


@njit(cache=True)
def _silent_profiles(table, road, now, valid, lateral, v_near):
    """Without a plan: the lane that the car is in, at the speed that it has."""
    for i in range(len(road)):
        if not valid[i]:
            lane = _nearest_lane(table, road[i], now[i].s, now[i].d)
            lateral[i, 0] = lateral[i, 1] = lane
            lateral[i, 2], lateral[i, 3] = 1.0, 0.0
            v_near[i] = -1.0


@njit(cache=True)
def _observe(now, captured, points, speeds, drift, valid, wheelbase, v_ref, out):
    for i in range(len(now)):
        if valid[i]:
            c, h = captured[i], now[i]
            reproject(points[i], speeds[i], h.x, h.y, h.yaw, c.x, c.y, c.yaw, drift[i, 0], drift[i, 1], h.t - c.t,
                      wheelbase, v_ref, out[i])  # fmt: skip


@njit(cache=True)
def _relative(state, table, actor_s, out):
    for i in range(len(state)):
        length = table.meta[state[i].road].length
        for k in range(actor_s.shape[1]):
            ahead = actor_s[i, k] - state[i].s_m
            out[i, k] = ahead - length * np.floor(ahead / length + 0.5)


class Drivers:
    """Intentions and plans of n cars. `period_s` is the time between two calls of `update`."""

    def __init__(self, n: int, table: RoadTable, profile: VehicleProfile, data: DataSettings, period_s: float, rng):
        self.n, self.table, self.profile, self.data, self.period_s, self.rng = n, table, profile, data, period_s, rng
        self.car = nominal_car(profile)
        self.history = np.zeros((n, HISTORY), POSE)
        self.known = np.zeros(n, np.int64)  # valid entries of the history, newest first
        self.time = np.zeros(n)
        self.lane = np.zeros(n, np.int64)  # where to
        self.v_set = np.ones(n)
        self.kind = np.zeros(n, np.int64)
        self.task_until = np.zeros(n)
        self.next_plan = np.zeros(n)
        self.silent_until = np.zeros(n)
        self.valid = np.zeros(n, np.bool_)
        self.lateral = np.zeros((n, 4))  # of the plan in force, as the teacher follows it
        self.v_near, self.v_far = np.zeros(n), np.zeros(n)
        self.captured = np.zeros(n, POSE)
        self.points = np.zeros((n, PATH_POINTS, 2))
        self.seen_speeds = np.zeros((n, 2))
        self.drift = np.zeros((n, 2))

    def restart(self, i: int) -> None:
        """Car i has been put somewhere else: forget its past."""
        self.known[i] = 0
        self.task_until[i] = self.next_plan[i] = self.silent_until[i] = self.time[i]
        self.valid[i] = False
        self.kind[i] = KEEP
        self.lane[i] = -1

    def update(self, state, actors: Actors) -> None:
        """Take in the new state and give new intentions and plans where they are due."""
        self.road = state["road"].copy()
        _remember(self.history, self.known, state, self.time)
        for i in np.flatnonzero(self.time >= self.task_until):
            self._new_task(int(i), actors)
        self._finish_pull_over()
        for i in np.flatnonzero(self.time >= self.next_plan):
            self._new_plan(int(i), actors)
        _silent_profiles(self.table, state["road"], self.history[:, 0], self.valid, self.lateral, self.v_near)
        self.time += self.period_s

    def back_m(self) -> np.ndarray:
        """Metres of road driven since the plan in force was made (0 where there is none)."""
        return np.where(self.valid, self.history["progress"][:, 0] - self.captured["progress"], 0.0)

    def observed_path(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, 8, 3) path as `controller.observation` gives it, and (n, 1) path_valid."""
        out = np.zeros((self.n, PATH_POINTS, 3))
        _observe(self.history[:, 0], self.captured, self.points, self.seen_speeds, self.drift, self.valid,
                 self.profile.wheelbase_m, self.profile.reference_speed_mps, out)  # fmt: skip
        return out.astype(np.float32), self.valid[:, None].astype(np.float32)

    def _new_task(self, i: int, actors: Actors) -> None:
        rng, lanes = self.rng, int(self.table.meta["lanes"][actors.road[i]])
        now = self.history[i, 0]
        here = int(_nearest_lane(self.table, actors.road[i], now["s"], now["d"]))
        self.lane[i] = here
        self.task_until[i] = self.time[i] + rng.uniform(3.0, 8.0)
        self.kind[i] = kind = rng.choice(KINDS, p=SHARES)
        if kind != STOP or rng.random() < 0.5:
            self.v_set[i] = rng.uniform(0.3, 2.2) if rng.random() < 0.6 else rng.uniform(0.9, 1.5)
        if kind == STOP:
            self.v_set[i] = 0.0
            self.task_until[i] = self.time[i] + rng.uniform(1.5, 3.5)
        elif kind == PULL_OVER:
            self.lane[i], self.v_set[i] = 0, 0.6
        elif kind == CHANGE and lanes > 1:
            step = rng.choice((-1, 1)) if 0 < here < lanes - 1 else (1 if here == 0 else -1)
            if not actors.occupied(i, here + step, self.table, now):
                self.lane[i] = here + step

    def _finish_pull_over(self) -> None:
        for i in np.flatnonzero((self.kind == PULL_OVER) & (self.v_set > 0)):
            now = self.history[i, 0]
            if abs(lane_u(self.table, self.road[i], now["s"], now["d"])) < 0.15:
                self.v_set[i] = 0.0
                self.task_until[i] = self.time[i] + self.rng.uniform(1.5, 4.0)

    def _new_plan(self, i: int, actors: Actors) -> None:
        rng = self.rng
        self.next_plan[i] = self.time[i] + rng.uniform(0.2, 0.8)
        if rng.random() < 0.06:  # planner stalls: the next plan comes late
            self.next_plan[i] = self.time[i] + rng.uniform(1.0, 3.2)
        if self.time[i] < self.silent_until[i]:
            self.valid[i] = False
            return
        # Silence lasts 3 s on average, a plan 0.6 s: this rate gives `silent_share` of the time.
        share = self.data.silent_share
        if rng.random() < 0.2 * share / max(1.0 - share, 0.05):
            self.silent_until[i] = self.next_plan[i] = self.time[i] + rng.uniform(1.0, 5.0)
            self.valid[i] = False
            return
        lag = min(int(rng.integers(1, HISTORY)), int(self.known[i]) - 1)
        pose = self.history[i, max(lag, 0)]
        self.captured[i] = pose
        self.valid[i] = True
        self._draw_plan(i, pose, actors)

    def _draw_plan(self, i: int, pose, actors: Actors) -> None:
        rng, table, road = self.rng, self.table, actors.road[i]
        u0 = lane_u(table, road, pose["s"], pose["d"])
        width = lane_width(table, road, pose["s"])
        chain = np.empty(4)
        lateral_profile(u0, float(self.lane[i]), pose["psi"], width, max(self.v_set[i], pose["v"]), chain)
        self.lateral[i] = chain
        if abs(u0 - self.lane[i]) < 0.5:  # lane keeping: the teacher goes for the centre at once
            self.lateral[i] = (self.lane[i], self.lane[i], 1.0, 0.0)
        moved = self.history[i, 0]["progress"] - pose["progress"]
        _, allowed = gap_ahead(
            table, road, pose["s"], pose["d"], 0.0, chain, actors.s[i] + moved, actors.d[i], actors.v[i],
            actors.length[i], actors.width[i], actors.count[i], self.car, PLAN_GAP,
        )  # fmt: skip
        if rng.random() < UNAWARE:
            allowed = 99.0
        target = float(self.lane[i])
        places = (pose["s"] + 0.5, pose["s"] + 4.0)
        speeds = [plan_speed(table, road, s, lane_d(table, road, s, target), self.v_set[i], allowed) for s in places]
        self.v_near[i], self.v_far[i] = speeds
        turn, bend = NOISE_DEG[rng.choice(len(NOISE_DEG), p=NOISE_SHARES)]
        make_chain(
            table, self.car, road, pose["s"], pose["d"], pose["psi"], chain, rng.normal(0, turn) * DEGREE,
            rng.normal(0, bend) * DEGREE, rng.normal(0, 0.08), DEGREE, self.points[i],
        )  # fmt: skip
        self.points[i] += rng.normal(0, 0.03, 2)
        self.seen_speeds[i] = np.array(speeds) * rng.normal(1.0, 0.03) if speeds[0] > 0.05 else speeds
        self.drift[i] = rng.normal(0, 1.5 * DEGREE), rng.normal(0, 0.04)


class Actors:
    """Actors of all cars as the kernels want them: (n, m) arrays, s relative to the ego's rear axle."""

    def __init__(self, state, table: RoadTable, raw, count):
        self.road, self.count = state["road"], count
        self.s = np.empty(raw.shape)
        _relative(state, table, raw["s"], self.s)
        self.d, self.v, self.length, self.width = raw["d"], raw["v"], raw["length"], raw["width"]

    def occupied(self, i: int, lane: int, table: RoadTable, pose) -> bool:
        """Whether an actor stands in the way of going to `lane`."""
        d = lane_d(table, self.road[i], pose["s"], float(lane))
        half = 0.5 * lane_width(table, self.road[i], pose["s"])
        k = slice(0, int(self.count[i]))
        near = (self.s[i, k] > -1.2) & (self.s[i, k] < 1.8) & (np.abs(self.d[i, k] - d) < half)
        return bool(near.any())

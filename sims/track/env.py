"""The embedded world in its native form: many cars, each alone on a closed road with its own actors, look, physics.

Draws no conclusions: it knows no scenarios, commands or success. Arrays of all environments are open in `state` (fields
of `dynamics.STATE`, metres, rad, m/s, world frame) for teachers and tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import numpy as np

from bridge.messages import VehicleProfile
from bridge.scale import scale_of
from sims.actors import KINDS, ActorSpec
from sims.road import Road, RoadError
from sims.track import dynamics, rays, render
from sims.track.look import (
    CAMERA,
    CAMERA_DRAWS,
    LOOK,
    LOOK_DRAWS,
    PANORAMAS,
    PHYSICS_DRAWS,
    Randomization,
    sample_cameras,
    sample_looks,
    sample_physics,
)  # fmt: skip
from sims.track.panorama import floor_texture, noise_table, panorama_bank
from sims.track.roadbank import RoadBank
from sims.truth import ActorTruth, Truth

MAX_ACTORS = 12
SHARE_FROM_US = 1000.0  # work of one call, roughly; less is done on the caller's thread
AHEAD_M, BEHIND_M, AHEAD_STEP_M = 10.0, 0.5, 0.25  # of the truth, for a car of the default size
CAR_COLOURS = np.array(
    [[0.75, 0.05, 0.04], [0.05, 0.12, 0.6], [0.8, 0.8, 0.8], [0.05, 0.05, 0.06], [0.05, 0.4, 0.1], [0.9, 0.5, 0.05],
     [0.8, 0.7, 0.05], [0.35, 0.05, 0.5], [0.3, 0.32, 0.35], [0.05, 0.55, 0.6]]
)  # fmt: skip


class TrackVectorEnv(gym.vector.VectorEnv):
    """`num_envs` worlds in lock-step of 1/30 s.

    Observation: dict of "image" (N, h, w, 3) uint8 RGB (absent when `camera_size` is None), "speed" [m/s], "yaw_rate"
    [rad/s] and "steering" (last command, [-1, 1]), each (N,) float32. Action (N, 2) in [-1, 1]: steering
    (positive left) and acceleration (negative brakes; the car never reverses). Reward: progress along the road [m] of
    the step, less 1 at a new collision or a new leaving of the road. `terminated` at either of them only with
    `terminate_on_infraction`; `truncated` after `max_steps`. There is no autoreset: the caller resets, all or by
    `options={"reset_mask": ...}`.

    `camera_size` is (width, height) in pixels; the lens and mounting come from `profile.camera`. `randomize` is a
    strength in [0, 1] or a `Randomization`. Environment i draws everything from `seed + i`, so it does not depend on
    how many others there are. Big batches are shared among the cores unless `parallel` is False; the numbers are the
    same. Raises RoadError without roads and ValueError for bad sizes.
    """

    metadata = {"autoreset_mode": gym.vector.AutoresetMode.DISABLED, "render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        num_envs: int,
        roads: Sequence[Road],
        *,
        profile: VehicleProfile | None = None,
        camera_size: tuple[int, int] | None = (160, 120),
        randomize: float | Randomization = 1.0,
        seed: int = 0,
        max_steps: int | None = None,
        terminate_on_infraction: bool = False,
        parallel: bool | None = None,
    ):
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if camera_size is not None and min(camera_size) < 16:
            raise ValueError(f"camera_size (width, height) must be at least 16 pixels each, got {camera_size}")
        self.num_envs = num_envs
        self.profile = profile or VehicleProfile()
        self.randomization = randomize if isinstance(randomize, Randomization) else Randomization.at(float(randomize))
        self.bank = RoadBank(roads)
        self.roads = self.bank.roads
        self.camera_size = camera_size
        self.max_steps, self.terminate_on_infraction = max_steps, terminate_on_infraction
        self._threads = len(os.sched_getaffinity(0)) if parallel is not False else 1
        self._pool = None
        self._allocate()
        self._make_spaces()
        self._seed(seed)
        self.randomize_physics()
        self.randomize_look()
        self._start(np.arange(num_envs), {})

    def _allocate(self):
        n, p = self.num_envs, self.profile
        self._state = np.zeros(n, dynamics.STATE)
        self.state = self._state.view(np.recarray)
        self.physics = np.zeros(n, dynamics.PHYSICS)
        self.look = np.zeros(n, LOOK)
        self.cameras = np.zeros(n, CAMERA)
        self._car = np.zeros(1, dynamics.CAR)
        self._car[0] = (
            p.wheelbase_m, p.width_m, p.length_m, p.rear_overhang_m, p.steering_limit_rad, p.max_speed_mps,
            p.max_accel_mps2, p.max_brake_mps2,
        )  # fmt: skip
        self.actors = np.zeros((n, MAX_ACTORS), dynamics.ACTOR)
        self.actor_counts = np.zeros(n, np.int64)
        if self.camera_size is not None:
            width, height = self.camera_size
            self._pixels = width * height
            self._along = np.empty((n, height, width), np.float32)
            self._across = np.empty((n, height, width), np.float32)
            self._code = np.empty((n, height, width), np.int32)
            self._noise = noise_table()
            bank, floor = panorama_bank().reshape(PANORAMAS, -1), floor_texture().ravel()
            self._views = (self.look, self.cameras, self._along, self._across, self._code, bank, floor)

    def _make_spaces(self):
        box = gym.spaces.Box
        spaces = {
            "speed": box(0.0, np.inf, (), np.float32),
            "yaw_rate": box(-np.inf, np.inf, (), np.float32),
            "steering": box(-1.0, 1.0, (), np.float32),
        }
        if self.camera_size is not None:
            width, height = self.camera_size
            spaces["image"] = box(0, 255, (height, width, 3), np.uint8)
        self.single_observation_space = gym.spaces.Dict(spaces)
        self.single_action_space = box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, self.num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, self.num_envs)

    def _seed(self, seed):
        seeds = [seed + i for i in range(self.num_envs)] if np.isscalar(seed) else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed: give one number or {self.num_envs}, got {len(seeds)}")
        self._rngs = [np.random.default_rng(int(s)) for s in seeds]

    def _which(self, which) -> np.ndarray:
        if which is None:
            return np.arange(self.num_envs)
        which = np.atleast_1d(np.asarray(which))
        return np.flatnonzero(which) if which.dtype == bool else which.astype(np.int64)

    def _uniform(self, which, count):
        return np.stack([self._rngs[i].random(count) for i in which]) if len(which) else np.empty((0, count))

    # ---- randomisation -------------------------------------------------------------------------------------------

    def randomize_physics(self, which=None) -> None:
        """Draw new physics for the environments `which` (index, indices, mask; all by default)."""
        which = self._which(which)
        fresh = np.zeros(len(which), dynamics.PHYSICS)
        sample_physics(self._uniform(which, PHYSICS_DRAWS), self.randomization, self.profile, fresh)
        self.physics[which] = fresh

    def randomize_look(self, which=None) -> None:
        """Draw a new look and camera for the environments `which` (index, indices, mask; all by default)."""
        if self.camera_size is None:
            return
        which = self._which(which)
        looks, cameras = np.zeros(len(which), LOOK), np.zeros(len(which), CAMERA)
        u = self._uniform(which, LOOK_DRAWS + CAMERA_DRAWS)
        sample_looks(u[:, :LOOK_DRAWS], self.randomization, looks)
        sample_cameras(u[:, LOOK_DRAWS:], self.randomization, self.profile.camera, cameras)
        self.look[which], self.cameras[which] = looks, cameras
        self.retrace(which)

    def retrace(self, which=None) -> None:
        """Rebuild the pixel tables after `cameras` was changed by hand."""
        which, tables = self._which(which), (self.cameras, self._along, self._across, self._code)
        self._share(lambda a, b: rays.trace(which[a:b], *tables), len(which), 0.010 * self._pixels)

    def _share(self, work: Callable[[int, int], None], count: int, cost_us: float) -> None:
        """Do `work(first, last)` for 0..count: here when it is little, else in small portions on all cores. Sleeping
        threads of our own, not OpenMP: those spin, and on a busy machine one late thread would hold up every step."""
        if self._threads == 1 or count * cost_us < SHARE_FROM_US:
            work(0, count)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "track")
        bounds = np.linspace(0, count, min(count, 6 * self._threads) + 1).astype(int).tolist()
        list(self._pool.map(work, bounds[:-1], bounds[1:]))

    def close_extras(self, **_):
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    # ---- gymnasium -----------------------------------------------------------------------------------------------

    def reset(self, *, seed=None, options=None):
        """Start anew. Options: "reset_mask" (N,) bool; "road_index" int or (N,); "randomize" False keeps look and
        physics. Actors are taken away; the car stands in the centre of a random lane."""
        options = dict(options or {})
        unknown = set(options) - {"reset_mask", "road_index", "randomize"}
        if unknown:
            names = ", ".join(sorted(unknown))
            raise ValueError(f"reset: unknown option {names}; use reset_mask, road_index, randomize")
        if seed is not None:
            self._seed(seed)
        which = self._which(options.get("reset_mask"))
        if options.get("randomize", True):
            self.randomize_physics(which)
            self.randomize_look(which)
        self._start(which, options)
        return self.observe(), {}

    def _start(self, which, options):
        u = self._uniform(which, 3)
        index = options.get("road_index")
        if index is None:
            index = (u[:, 0] * len(self.roads)).astype(np.int64)
        else:
            index = np.broadcast_to(np.asarray(index, dtype=np.int64), self.num_envs)[which]
        s = u[:, 1] * self.bank.meta["length"][index]
        d = np.array(
            [
                self.roads[r].lane_center_d(s_m, int(lane * self.roads[r].lane_count))
                for r, s_m, lane in zip(index, s, u[:, 2], strict=True)
            ]
        )
        self.actor_counts[which] = 0
        self.place_many(which, index, s, d)

    def step(self, actions):
        """Advance by 1/30 s. `actions` (N, 2); raises ValueError for another shape or non-finite numbers."""
        actions = np.ascontiguousarray(actions, dtype=np.float64)
        if actions.shape != (self.num_envs, 2) or not np.isfinite(actions).all():
            raise ValueError(f"actions must be finite and of shape ({self.num_envs}, 2), got {actions.shape}")
        state = self._state
        before = state["progress_m"].copy()
        bad_before = state["collision"] | state["off_road"]
        rest = (self._car, self.bank.meta, self.bank.samples, self.actors, self.actor_counts)
        self._share(lambda a, b: dynamics.step_range(a, b, actions, state, self.physics, *rest), self.num_envs, 1.0)
        bad = state["collision"] | state["off_road"]
        reward = state["progress_m"] - before - (bad & ~bad_before)
        terminated = bad if self.terminate_on_infraction else np.zeros(self.num_envs, bool)
        truncated = state["steps"] >= self.max_steps if self.max_steps else np.zeros(self.num_envs, bool)
        return self.observe(), reward, terminated, truncated, {}

    def observe(self) -> dict:
        """The observation as things stand now (after `place`, say)."""
        state = self._state
        observation = {
            "speed": state["speed_mps"].astype(np.float32),
            "yaw_rate": state["yaw_rate_radps"].astype(np.float32),
            "steering": state["steering_command"].astype(np.float32),
        }
        if self.camera_size is not None:
            observation["image"] = self.render()
        return observation

    # ---- camera --------------------------------------------------------------------------------------------------

    def _scene(self):
        bank = self.bank
        return self._state, bank.meta, bank.samples, bank.grid_d, bank.grid_s, self.actors, self.actor_counts

    def _need_camera(self):
        if self.camera_size is None:
            raise ValueError("this world was made without a camera; give camera_size=(width, height)")

    def render(self, indices=None) -> np.ndarray:
        """RGB pictures (m, h, w, 3) uint8 of the environments `indices` (all by default), as they stand now."""
        self._need_camera()
        which = self._which(indices)
        width, height = self.camera_size
        out = np.empty((len(which), height, 3 * width), np.uint8)
        views, noise, scene = self._views, self._noise, self._scene()

        def draw(a, b):
            render.pictures(which[a:b], views, noise, *scene, out[a:b])

        self._share(draw, len(which), 0.012 * self._pixels)
        return out.reshape(len(which), height, width, 3)

    def render_labels(self, indices=None, patch_grid: tuple[int, int] = (8, 12)) -> np.ndarray:
        """Share of each class of `render.CLASSES` in each patch: (m, rows, columns, 7) float32. Rows and columns split
        the picture evenly."""
        self._need_camera()
        which = self._which(indices)
        out = np.empty((len(which), *patch_grid, len(render.CLASSES)), np.float32)
        views, scene = self._views, self._scene()
        self._share(lambda a, b: render.labels(which[a:b], views, *scene, out[a:b]), len(which), 0.010 * self._pixels)
        return out

    # ---- scenes --------------------------------------------------------------------------------------------------

    def place(self, i, road_index, s_m, d_m, heading_error_rad=0.0, speed_mps=0.0) -> None:
        """Start an episode of environment i at (s, d) of a road: time 0, no progress, no infractions. Actors stay."""
        self.place_many([i], [road_index], [s_m], [d_m], [heading_error_rad], [speed_mps])

    def place_many(self, which, road_index, s_m, d_m, heading_error_rad=0.0, speed_mps=0.0) -> None:
        """`place` for several environments at once; every argument is an array of their number or a scalar."""
        which = self._which(which)

        def full(value, kind=float):
            return np.ascontiguousarray(np.broadcast_to(np.asarray(value, kind), which.shape))

        road_index = full(road_index, np.int64)
        if len(which) and not (0 <= road_index.min() and road_index.max() < len(self.roads)):
            raise RoadError(f"road_index must be in 0..{len(self.roads) - 1}")
        moved = which[self._state["road"][which] != road_index]
        self._state["road"][which] = road_index
        dynamics.place_egos(
            which, full(s_m), full(d_m), full(heading_error_rad), full(speed_mps), self._state, self._car,
            self.bank.meta, self.bank.samples, self.actors, self.actor_counts,
        )  # fmt: skip
        for i in moved:
            self._place_actors(i)

    def set_actors(self, i: int, specs: Sequence[ActorSpec]) -> None:
        """Replace all actors of environment i. Raises ValueError when there are more than MAX_ACTORS."""
        if len(specs) > MAX_ACTORS:
            raise ValueError(f"at most {MAX_ACTORS} actors per world, got {len(specs)}")
        self.actor_counts[i] = len(specs)
        for j, spec in enumerate(specs):
            length, width, height = spec.size_m
            red, green, blue = spec.colour if spec.colour is not None else self._colour(i, j, spec.kind)
            times = [t for t, _ in spec.speed_changes] + [0.0] * (6 - len(spec.speed_changes))
            speeds = [v for _, v in spec.speed_changes] + [0.0] * (6 - len(spec.speed_changes))
            moving = spec.kind == "car"
            speed = spec.speed_mps if moving else 0.0
            self.actors[i, j] = (
                KINDS.index(spec.kind), spec.s_m, spec.d_m, speed, speed, spec.follow, length, width, height, red,
                green, blue, 0.0, 0.0, 0.0, times, speeds, len(spec.speed_changes) if moving else 0,
            )  # fmt: skip
        self._place_actors(i)

    def _colour(self, i, j, kind):
        if kind == "cone":
            return self.look["cone"][i] if self.camera_size is not None else (0.9, 0.3, 0.05)
        pick = int(self.look["seed"][i]) // 97 + 7 * j
        if kind == "box":
            return np.array([0.45, 0.32, 0.18]) * (0.6 + 0.2 * (pick % 5))
        return CAR_COLOURS[pick % len(CAR_COLOURS)]

    def _place_actors(self, i):
        dynamics.place_actors_of(i, self._state, self.bank.meta, self.bank.samples, self.actors, self.actor_counts)

    def follow(self, i: int, x_m, y_m, yaw_rad, speed_mps, yaw_rate_radps, wheel_rad, steering_command) -> None:
        """A step of environment i whose car something else has moved to this pose (rear axle, world frame): time goes
        on, traffic drives, position on the road and contacts are brought up to date. For worlds with other physics."""
        e = self.state[i]
        e.x_m, e.y_m, e.yaw_rad, e.speed_mps, e.yaw_rate_radps = x_m, y_m, yaw_rad, speed_mps, yaw_rate_radps
        e.wheel_rad, e.steering_command = wheel_rad, steering_command
        e.steps += 1
        e.time_s = e.steps * dynamics.STEP_S
        dynamics.step_around(
            i, self._state, self._car, self.bank.meta, self.bank.samples, self.actors, self.actor_counts
        )

    # ---- truth ---------------------------------------------------------------------------------------------------

    def truth(self, i: int = 0) -> Truth:
        """What is true of environment i now, self-contained."""
        e = self._state[i]
        road = self.roads[e["road"]]
        s, d, length = float(e["s_m"]), float(e["d_m"]), road.length_m
        left, right = road.edges_at(s)
        return Truth(
            t_s=float(e["time_s"]), x_m=float(e["x_m"]), y_m=float(e["y_m"]), yaw_rad=float(e["yaw_rad"]),
            speed_mps=float(e["speed_mps"]), yaw_rate_radps=float(e["yaw_rate_radps"]),
            steering=float(np.clip(e["wheel_rad"] / self.profile.steering_limit_rad, -1, 1)),
            s_m=s, progress_m=float(e["progress_m"]), d_m=d, heading_error_rad=float(e["heading_error_rad"]),
            lane=int(road.lane_at(s, d)), lane_count=road.lane_count, left_edge_d_m=float(left),
            right_edge_d_m=float(right), road_length_m=length, ahead=self._ahead(road, s),
            actors=tuple(self._actor_truth(o, road, s) for o in self.actors[i, : self.actor_counts[i]]),
            collision=bool(e["collision"]), off_road=bool(e["off_road"]),
        )  # fmt: skip

    def _ahead(self, road, s):
        offsets = np.arange(-BEHIND_M, AHEAD_M + 1e-9, AHEAD_STEP_M) * scale_of(self.profile).length
        x, y, yaw = road.to_world(s + offsets, 0.0)
        return np.column_stack([offsets, x, y, yaw, road.curvature_at(s + offsets)])

    @staticmethod
    def _actor_truth(o, road, s):
        ahead = (float(o["s"]) - s + 0.5 * road.length_m) % road.length_m - 0.5 * road.length_m
        return ActorTruth(
            kind=KINDS[o["kind"]], x_m=float(o["x"]), y_m=float(o["y"]), yaw_rad=float(o["yaw"]),
            speed_mps=float(o["v"]), s_ahead_m=ahead, d_m=float(o["d"]), lane=int(road.lane_at(o["s"], o["d"])),
            length_m=float(o["length"]), width_m=float(o["width"]),
        )  # fmt: skip

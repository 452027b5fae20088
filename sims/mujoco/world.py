"""One car on a road of `track` in MuJoCo: its physics moves the car, its renderer takes the pictures.

Traffic, position on the road, wheels off it and `Truth` are kept by a `TrackVectorEnv` without camera, which is told
where MuJoCo has moved the car, so that they mean the same in both worlds. Other cars and obstacles are MuJoCo bodies
that follow it; the car can run into them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import gymnasium as gym
import mujoco
import numpy as np

from bridge.messages import VehicleProfile
from sims.mujoco import spec as registry
from sims.mujoco.car import UNSEEN_GROUP, Car, new_spec
from sims.mujoco.drive import Drive
from sims.road import Road
from sims.scenarios import Scenario, make_scenario
from sims.track import TrackVectorEnv
from sims.track.dynamics import PHYSICS
from sims.track.env import MAX_ACTORS
from sims.track.look import (
    CAMERA,
    CAMERA_DRAWS,
    LOOK,
    LOOK_DRAWS,
    PHYSICS_DRAWS,
    Randomization,
    sample_cameras,
    sample_looks,
    sample_physics,
)  # fmt: skip
from sims.world import World, WorldError


@dataclass(frozen=True)
class Draw:
    """What the seed has chosen for an episode: records of `PHYSICS`, `LOOK` and `CAMERA`, as in track."""

    physics: np.ndarray
    look: np.ndarray
    camera: np.ndarray


def draw_episode(seed: int, randomization: Randomization, profile: VehicleProfile) -> Draw:
    """The same physics, colours, lens and mounting as `track` draws from this seed."""
    rng = np.random.default_rng(int(seed))
    physics, look, camera = np.zeros(1, PHYSICS), np.zeros(1, LOOK), np.zeros(1, CAMERA)
    sample_physics(rng.random((1, PHYSICS_DRAWS)), randomization, profile, physics)
    u = rng.random((1, LOOK_DRAWS + CAMERA_DRAWS))
    sample_looks(u[:, :LOOK_DRAWS], randomization, look)
    sample_cameras(u[:, LOOK_DRAWS:], randomization, profile.camera, camera)
    return Draw(physics[0], look[0], camera[0])


class MujocoWorld(World):
    """Observation, action and reward as of `TrackEnv`. `randomize`: strength in [0, 1] or a `Randomization`. `road`,
    where given, is that of every `reset`; otherwise each takes a random one. Raises WorldError where there is no
    renderer for a camera, or when the physics breaks down."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        road: Road | None = None,
        *,
        profile: VehicleProfile | None = None,
        camera_size: tuple[int, int] | None = (160, 120),
        randomize: float | Randomization = 0.5,
        seed: int = 0,
        render_mode: str | None = None,
    ):
        if camera_size is not None and min(camera_size) < 16:
            raise ValueError(f"camera_size (width, height) must be at least 16 pixels each, got {camera_size}")
        self.profile, self.camera_size, self.render_mode = profile or VehicleProfile(), camera_size, render_mode
        self.randomization = randomize if isinstance(randomize, Randomization) else Randomization.at(float(randomize))
        self._road, self._eye, self._ledger, self._drive, self._draw = road, None, None, None, None
        self._make_spaces()
        super().reset(seed=seed)

    def _make_spaces(self) -> None:
        box = gym.spaces.Box
        spaces = {
            "speed": box(0.0, np.inf, (), np.float32),
            "yaw_rate": box(-np.inf, np.inf, (), np.float32),
            "steering": box(-1.0, 1.0, (), np.float32),
        }
        if self.camera_size is not None:
            width, height = self.camera_size
            spaces["image"] = box(0, 255, (height, width, 3), np.uint8)
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = box(-1.0, 1.0, (2,), np.float32)

    # ---- episodes ------------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """An episode of `follow_lane` without end on the road, or on a random one; the same seed gives the same."""
        super().reset(seed=seed)
        if options:
            raise ValueError(f"reset: unknown option {', '.join(sorted(options))}; mujoco has none")
        number = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        road = self._road or registry.road("random", number)
        return self.start(make_scenario("follow_lane", road, number, profile=self.profile), number)

    def start(self, scenario: Scenario, seed: int) -> tuple[dict, dict]:
        """Begin the scenario; see `World.start`."""
        if len(scenario.actors) > MAX_ACTORS:
            raise WorldError(f"mujoco: at most {MAX_ACTORS} actors, {scenario.name} has {len(scenario.actors)}")
        super().reset(seed=seed)
        self._draw = draw_episode(seed, self.randomization, self.profile)
        self._keep_ledger(scenario, seed)
        car, spec = Car(self.profile), new_spec()
        car.add_to(spec)
        self._add_actors(spec)
        self._close_eye()
        if self.camera_size is not None:
            from sims.mujoco.scenery import add_scenery

            add_scenery(spec, scenario.road, self._draw.look, self._ledger.actors[0, : len(scenario.actors)])
        model = spec.compile()
        self._drive = Drive(car, model, self._draw.physics)
        self._hull = model.geom("hull").id
        state = self._ledger.state[0]
        self._drive.place(
            state.x_m, state.y_m, state.yaw_rad, state.speed_mps, state.yaw_rate_radps, state.wheel_rad
        )  # fmt: skip
        self._move_actors()
        if self.camera_size is not None:
            from sims.mujoco.picture import Eye

            self._eye = Eye(model, self._draw.camera, self.camera_size)
        return self._observe(), {"truth": self.truth()}

    def _keep_ledger(self, scenario: Scenario, seed: int) -> None:
        ledger = self._ledger
        if ledger is None or ledger.roads[0] is not scenario.road:
            self._ledger = ledger = TrackVectorEnv(
                1, [scenario.road], profile=self.profile, camera_size=None, randomize=0.0, parallel=False
            )
        ledger.look[:] = self._draw.look  # from which traffic takes its colours
        ledger.set_actors(0, scenario.actors)
        ledger.place(0, 0, scenario.start_s_m, scenario.start_d_m, 0.0, scenario.start_speed_mps)

    def _add_actors(self, spec) -> None:
        """A body for each, driven from outside, as large as its bounds."""
        for k, actor in enumerate(self._ledger.actors[0, : self._ledger.actor_counts[0]]):
            half = [float(actor[side]) / 2 for side in ("length", "width", "height")]
            body = spec.worldbody.add_body(name=f"actor{k}", mocap=True)
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX, size=half, pos=[0, 0, half[2]], group=UNSEEN_GROUP, contype=1,
                conaffinity=2,
            )  # fmt: skip

    def step(self, action):
        """Advance by 1/30 s; action [steering, acceleration]. Raises ValueError unless these are two finite numbers."""
        action = np.asarray(action, dtype=float)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"action must be two finite numbers [steering, acceleration], got {action!r}")
        if self._drive is None:
            raise WorldError("mujoco: step before the first reset or start")
        steering, acceleration = np.clip(action, -1.0, 1.0).tolist()
        ledger, drive = self._ledger, self._drive
        state = ledger.state[0]
        before, bad_before = float(state.progress_m), bool(state.collision or state.off_road)
        try:
            drive.step(steering, acceleration)
        except FloatingPointError as error:
            raise WorldError(f"mujoco: {error}; start a new episode") from error
        ledger.follow(
            0, *drive.position_m, _near(drive.yaw_rad, float(state.yaw_rad)), drive.speed_mps, drive.yaw_rate_radps,
            drive.wheel_rad, steering,
        )  # fmt: skip
        if self._touches():
            state.collision = True
        self._move_actors()
        bad = bool(state.collision or state.off_road)
        reward = float(state.progress_m) - before - float(bad and not bad_before)
        return self._observe(), reward, False, False, {"truth": self.truth()}

    def _touches(self) -> bool:
        """Whether the car's body is in contact with anything; its tyres are geoms of their own."""
        return bool((self._drive.data.contact.geom == self._hull).any())

    def _move_actors(self) -> None:
        data, actors = self._drive.data, self._ledger.actors[0, : self._ledger.actor_counts[0]]
        for k, actor in enumerate(actors):
            data.mocap_pos[k] = actor["x"], actor["y"], 0.0
            data.mocap_quat[k] = math.cos(actor["yaw"] / 2), 0.0, 0.0, math.sin(actor["yaw"] / 2)

    # ---- readings ------------------------------------------------------------------------------------------------

    def _observe(self) -> dict:
        state = self._ledger.state[0]
        observation = {
            "speed": np.float32(state.speed_mps),
            "yaw_rate": np.float32(state.yaw_rate_radps),
            "steering": np.float32(state.steering_command),
        }
        observation = {name: np.asarray(value, np.float32) for name, value in observation.items()}
        if self._eye is not None:
            observation["image"] = self.render()
        return observation

    def truth(self):
        """What is true now; see `sims.truth`."""
        return self._ledger.truth(0)

    def camera(self) -> dict[str, float]:
        """Pose and lens of this episode's camera: x, y, z [m], pitch, roll, yaw, hfov [rad], fisheye (0 or 1)."""
        camera = self._draw.camera
        return {name: float(camera[name]) for name in ("x", "y", "z", "pitch", "roll", "yaw", "hfov", "fisheye")}

    def render(self) -> np.ndarray:
        """The camera picture (h, w, 3) uint8 as things stand now."""
        if self._eye is None:
            raise ValueError("this world was made without a camera; give camera_size=(width, height)")
        return self._eye.look(self._drive.data)

    def close(self) -> None:
        """Let the graphics memory go."""
        self._close_eye()
        self._drive = None

    def _close_eye(self) -> None:
        if self._eye is not None:
            self._eye.close()
            self._eye = None


def _near(angle: float, reference: float) -> float:
    """The same direction as `angle`, written within half a turn of `reference`."""
    return angle + 2 * math.pi * round((reference - angle) / (2 * math.pi))

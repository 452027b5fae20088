"""World `donkey`: a car in the Donkey simulator, or behind our own server of its protocol.

Our own server is told scenario and seed, sends the truth along and moves in lock-step, so that every task runs as in
the world behind it. The Unity simulator runs on its own clock at 20 telemetry messages a second: there `step` waits
until its time has come 1/30 s further (its pictures repeat now and then), the truth is what `sims.donkey.unity` can
know, and tasks with other cars or obstacles, a start at speed, randomisation and lock-step cannot be had.
"""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np

from bridge.messages import VehicleProfile
from sims.donkey import protocol
from sims.donkey.client import DonkeyClient, Patience
from sims.donkey.pictures import decode_picture
from sims.donkey.protocol import MalformedMessage
from sims.donkey.unity import UnityTruth, forward_speed, learn_road
from sims.donkey.wire import road_from_wire, scenario_to_wire, standing_start
from sims.road import Road, RoadError
from sims.scenarios import Scenario
from sims.truth import Truth
from sims.world import STEP_S, World, WorldError

DEFAULT_SCENE = "generated_track"
LATE_S = 0.3  # the simulator is further ahead of us than this: go on from its time
NEAR_M = 0.5
SETTLE_S = 0.2  # of simulated time after a reset, until the car stands


class DonkeyWorld(World):
    """`camera_size` (width, height), None for no pictures (from Unity they come all the same and are thrown away).
    `scene`: where `reset` goes in the Unity simulator. `lockstep`: None takes what the other end can do; True raises
    WorldError against Unity. `car`, `camera`, `lidar`: fields of car_config, cam_config and lidar_config, named as in
    the protocol. Connects at the first `start` or `reset`, and again at the next one after a failure.

    `info["donkey"]`: all telemetry fields besides the picture as they came (lidar, gyro_*, accel_*, hit, cte, ...),
    `events` (other messages since the last step), `server` ("unity" or "pacenote"), `scene`, and `no_road`, the reason
    where the truth knows no road."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = protocol.PORT,
        *,
        scene: str = DEFAULT_SCENE,
        camera_size: tuple[int, int] | None = (160, 120),
        randomize: float = 0.5,
        seed: int = 0,
        lockstep: bool | None = None,
        profile: VehicleProfile | None = None,
        car: dict | None = None,
        camera: dict | None = None,
        lidar: dict | None = None,
        patience: Patience | None = None,
        render_mode: str | None = None,
    ):
        self.client = DonkeyClient(host, port, patience)
        self.profile = profile or VehicleProfile()
        self.scene, self.lockstep, self.render_mode = scene, lockstep, render_mode
        self._camera_size, self._randomize, self._seed = camera_size, randomize, seed
        self._configs = {"car_config": car, "cam_config": camera, "lidar_config": lidar}
        self._sent = self._episode = self._steps = self._number = 0
        self._time_s = 0.0
        self._unity: UnityTruth | None = None
        self._no_road: str | None = None
        self._image: np.ndarray | None = None
        self._truth: Truth | None = None
        self._running = False
        self._make_spaces()

    def _make_spaces(self):
        box = gym.spaces.Box
        spaces = {
            "speed": box(-np.inf, np.inf, (), np.float32),
            "yaw_rate": box(-np.inf, np.inf, (), np.float32),
            "steering": box(-1.0, 1.0, (), np.float32),
        }
        if self._camera_size is not None:
            width, height = self._camera_size
            spaces["image"] = box(0, 255, (height, width, 3), np.uint8)
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = box(-1.0, 1.0, (2,), np.float32)

    # ---- episodes ------------------------------------------------------------------------------------------------

    def start(self, scenario: Scenario, seed: int):
        """Begin the scenario; see `World.start`. Against Unity its road must be one of the simulator's own scenes."""
        super().reset(seed=seed)
        return self._guard(self._start, scenario, seed)

    def reset(self, *, seed=None, options=None):
        """Standing in a lane of a road of the server's choice by the seed; against Unity at the start of the scene.
        Options: "scene"."""
        super().reset(seed=seed)
        options = dict(options or {})
        scene = options.pop("scene", None)
        if options:
            raise ValueError(f"reset: unknown option {', '.join(options)}; use scene")
        return self._guard(self._reset, scene, seed)

    def _guard(self, work, *arguments):
        """What the other end sends wrong is a WorldError too, and ends the connection."""
        try:
            return work(*arguments)
        except MalformedMessage as error:
            self.client.close()
            raise WorldError(f"{self.client.where} sent something unexpected: {error}") from error
        finally:
            if not self.client.connected:
                self._running = False

    def _start(self, scenario: Scenario, seed: int):
        self._connect()
        if self.client.extension:
            return self._start_ours(scenario, seed)
        scene = scenario.road.meta.get("donkey_scene")
        if scene is None:
            raise WorldError(
                f"the Unity simulator has its own roads and cannot show {scenario.road.name!r}: choose one of its "
                f"scenes with --track, for example {DEFAULT_SCENE}"
            )
        if scenario.actors:
            raise WorldError(
                f"the Unity simulator can place no other cars or obstacles, which {scenario.name} needs; "
                "`pacenote donkey-server` can"
            )
        x, y, yaw = (float(v) for v in scenario.road.to_world(scenario.start_s_m, scenario.start_d_m))
        return self._start_unity(str(scene), scenario.road, (x, y, yaw))

    def _reset(self, scene: str | None, seed: int | None):
        self._connect()
        seed = self._seed if seed is None and not self._episode else seed
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        if self.client.extension:
            road = self.road(scene or "random", seed)
            rng = np.random.default_rng([seed, 30])
            s, lane = float(rng.uniform(0.0, road.length_m)), int(rng.integers(road.lane_count))
            cruise = 0.8 * self.profile.reference_speed_mps
            return self._start_ours(standing_start(road, s, float(road.lane_center_d(s, lane)), cruise), seed)
        name = scene or self.scene
        self._load(name)
        self._no_road, road = None, None
        try:
            road = learn_road(self.client, name)
        except RoadError as error:  # free driving needs no road
            self._no_road = str(error)
        return self._start_unity(name, road, None)

    def _connect(self) -> None:
        if self.client.connected:
            try:
                self.client.drain()
                return
            except WorldError:
                pass  # it went between two episodes; perhaps it is back
        self.client.connect()
        if not self.client.extension:
            if self.lockstep:
                self.client.close()
                raise WorldError(
                    "the Unity simulator cannot be driven in lock-step: its step_mode stops time and never moves it; "
                    "use lockstep=None, or `pacenote donkey-server`"
                )
            return
        lock = "0" if self.lockstep is False else "1"
        self._number = 0  # of the episode on this connection
        hello = {"msg_type": "pacenote_hello", "version": protocol.EXTENSION, "lockstep": lock}
        welcome = self.client.ask(hello, "pacenote_welcome")
        told = {k: v for k, v in (welcome.get("profile") or {}).items() if k != "camera"}
        own = {k: v for k, v in self.profile.model_dump(mode="json").items() if k != "camera"}
        if told != own:
            self.client.close()
            world = welcome.get("world")
            raise WorldError(
                f"{self.client.where} drives the car of world {world!r}, another one than this world's profile says: "
                f"use --world {world}, or start the server with --world track"
            )

    def road(self, track: str, seed: int) -> Road:
        """The road of a `--track` word, as the other end knows it. Raises RoadError and WorldError."""
        return self._guard(self._road, track, seed)

    def _road(self, track: str, seed: int) -> Road:
        self._connect()
        if self.client.extension:
            question = {"msg_type": "pacenote_road", "track": track, "seed": str(seed)}
            return road_from_wire(self.client.ask(question, "pacenote_road", self.client.patience.scene_s).get("road"))
        self._load(self.scene if track == "random" else track)
        return learn_road(self.client, self.client.scene)

    # ---- our own server ------------------------------------------------------------------------------------------

    def _start_ours(self, scenario: Scenario, seed: int):
        client, size = self.client, self._camera_size
        picture = {"img_w": str(size[0]), "img_h": str(size[1])} if size else {}
        request = {"msg_type": "pacenote_start", "scenario": scenario_to_wire(scenario), "seed": str(seed), **picture,
                   "randomize": str(self._randomize)}  # fmt: skip
        for kind, values in self._configs.items():
            if values:
                client.configure(kind, (_CAMERA_FIELDS if kind == "cam_config" else {}) | values)
        client.events.clear()
        client.send(request)
        self._sent, self._episode, self._number = 0, self._episode + 1, self._number + 1
        first = client.telemetry(lambda m: m.get("pacenote_episode") == self._number, client.patience.scene_s)
        return self._begin(first)

    # ---- Unity ---------------------------------------------------------------------------------------------------

    def _load(self, scene: str) -> None:
        if self.client.connected and self.client.scene == scene:
            return
        self.client.load_scene(scene)
        self.client.control(0.0, 0.0, 1.0)
        self.client.telemetry()
        camera = dict(self._configs["cam_config"] or {})
        if self._camera_size is not None:
            camera |= dict(zip(("img_w", "img_h", "img_d"), (*self._camera_size, 3), strict=True))
        for kind, values in ({**self._configs, "cam_config": camera}).items():
            if values:
                full = _CAMERA_FIELDS | values if kind == "cam_config" else values
                self.client.configure(kind, full)

    def _start_unity(self, scene: str, road: Road | None, pose: tuple[float, float, float] | None):
        client = self.client
        self._load(scene)
        self._episode += 1
        client.drain()
        client.send({"msg_type": "reset_car"})
        client.telemetry()
        if pose is not None:
            x, y, yaw = pose
            here = client.latest or client.telemetry()
            height = float(here.get("pos_y", 0.0)) * protocol.UNITY_PER_METRE
            place = (x * protocol.UNITY_PER_METRE, height, y * protocol.UNITY_PER_METRE)
            turn = protocol.unity_quaternion(yaw)
            fields = zip(("pos_x", "pos_y", "pos_z", "Qx", "Qy", "Qz", "Qw"), (*place, *turn), strict=True)
            client.send({"msg_type": "set_position", **{k: repr(float(v)) for k, v in fields}})
            client.telemetry(
                lambda m: math.hypot(m.get("pos_x", 0.0) - x, m.get("pos_z", 0.0) - y) < NEAR_M,
                what="put the car where the scenario begins",
            )
        client.control(0.0, 0.0, 1.0)
        settled_s = protocol.number(client.latest, "time") + SETTLE_S
        first = client.telemetry_at(settled_s)
        if not self._sized(first):
            first = client.telemetry(self._sized, what=f"send pictures of {self._camera_size}")
        self._unity = UnityTruth(road)
        client.events.clear()
        return self._begin(first)

    def _sized(self, message: dict) -> bool:
        """Whether the picture has the asked size: a new size takes the simulator a frame or two."""
        if self._camera_size is None:
            return True
        width, height = self._camera_size
        return decode_picture(message.get("image")).shape == (height, width, 3)

    # ---- steps ---------------------------------------------------------------------------------------------------

    def step(self, action):
        """Advance by 1/30 s (see above for Unity). Raises WorldError when the other end fails; `reset` begins anew."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"action must be two finite numbers, got {action}")
        if not self._running:
            raise WorldError("this episode has ended or was never begun; call start or reset first")
        return self._guard(self._step, np.clip(action, -1.0, 1.0))

    def _step(self, action):
        before = self._truth
        observation, info = self._see(self._exchange(action))
        reward = self._truth.progress_m - before.progress_m
        bad = (self._truth.collision or self._truth.off_road) and not (before.collision or before.off_road)
        return observation, float(reward - bad), False, False, info

    def _exchange(self, action) -> dict:
        """Send the controls; the telemetry of the world one step later."""
        client, (steering, acceleration) = self.client, action
        pedals = max(float(acceleration), 0.0), max(-float(acceleration), 0.0)
        if not client.extension:
            lock = self.profile.steering_limit_rad / protocol.UNITY_FULL_LOCK_RAD
            steering = np.clip(steering * lock, -1.0, 1.0)
        controls = (-float(steering), *pedals)
        if not client.extension or self.lockstep is False:
            return self._on_their_clock(controls)
        client.control(*controls)
        self._sent += 1
        return client.telemetry(self._answers)

    def _answers(self, message: dict) -> bool:
        return message.get("pacenote_episode") == self._number and message.get("pacenote_controls") == self._sent

    def _on_their_clock(self, controls) -> dict:
        """The newest telemetry, when their time has come as far as ours. Where it has already, nothing is sent: two
        controls without a telemetry between them may share a segment, which Unity cannot read."""
        client = self.client
        client.drain()
        self._steps += 1
        due_s = self._time_s + self._steps * STEP_S
        newest_s = protocol.number(client.latest, "time") if client.latest else -math.inf
        if newest_s > due_s + LATE_S:  # we were late: go on from their time
            self._time_s, self._steps = newest_s, 0
            client.control(*controls)
            return client.telemetry()
        if newest_s >= due_s - 1e-6:
            return client.latest
        client.control(*controls)
        return client.telemetry_at(due_s)

    def _begin(self, first: dict):
        self._time_s, self._steps = protocol.number(first, "time"), 0
        self._running = True
        return self._see(first)

    def _see(self, message: dict):
        extension = self.client.extension
        if extension:
            try:
                self._truth = Truth.from_dict(message.get("pacenote_truth"))
            except (TypeError, ValueError, KeyError) as error:
                raise MalformedMessage(f"telemetry: pacenote_truth: {error}") from None
        else:
            self._truth = self._unity.of(message)
        lock = 1.0 if extension else protocol.UNITY_FULL_LOCK_RAD / self.profile.steering_limit_rad
        steering = -protocol.number(message, "steering_angle", 0.0) * lock
        observation = {
            "speed": np.float32(forward_speed(message)),
            "yaw_rate": np.float32(-protocol.number(message, "gyro_y", 0.0)),
            "steering": np.float32(min(max(steering, -1.0), 1.0)),
        }
        if self._camera_size is not None:
            self._image = observation["image"] = decode_picture(message.get("image"))
            width, height = self._camera_size
            if self._image.shape != (height, width, 3):
                raise MalformedMessage(f"telemetry: a picture of {self._image.shape}, asked for {(height, width, 3)}")
        fields = {k: v for k, v in message.items() if k not in _PICTURES and not k.startswith("pacenote_")}
        fields["events"] = list(self.client.events)
        self.client.events.clear()
        fields["server"], fields["scene"] = "pacenote" if extension else "unity", self.client.scene
        if not extension and self._unity.road is None:
            fields["no_road"] = self._no_road
        # np.float32 is a scalar; the contract wants arrays of shape ()
        observation = {k: np.asarray(v) for k, v in observation.items()}
        return observation, {"truth": self._truth, "donkey": fields}

    def render(self):
        """The last picture (h, w, 3) uint8."""
        if self._image is None:
            raise WorldError("no picture yet: reset first, with a camera_size")
        return self._image

    def close(self):
        """Let the connection go; the simulator stays."""
        self._running = False
        self.client.close()


_PICTURES = ("image", "imageb", "image_b", "msg_type")
_CAMERA_FIELDS = {
    "fov": 0, "fish_eye_x": 0.0, "fish_eye_y": 0.0, "img_w": 0, "img_h": 0, "img_d": 0, "img_enc": "JPG",
    "offset_x": 0.0, "offset_y": 0.0, "offset_z": 0.0, "rot_x": 0.0, "rot_y": 0.0, "rot_z": 0.0,
}  # fmt: skip

"""TORCS as a world: one car of real size on one of the game's tracks, scripted traffic, truth and camera.

One step is 1/30 s in the mean: TORCS listens every 20 ms, so that three steps take 2, 1 and 2 of its control steps (see
`Truth.t_s` for the exact time). The process is started when it is first needed and again whenever an episode needs
another track or more cars, or the last one has died.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import gymnasium as gym
import numpy as np

from bridge.messages import VehicleProfile
from sims.actors import ActorSpec
from sims.road import Road
from sims.scenarios import Scenario, make_scenario
from sims.torcs import kernels as k
from sims.torcs import protocol
from sims.torcs.lens import Lens
from sims.torcs.process import Snapshot, TorcsProcess
from sims.torcs.race import MAX_TRAFFIC, Race
from sims.torcs.spec import LENGTH_SCALE, PROFILE, road
from sims.truth import ActorTruth, Truth
from sims.world import World, WorldError

CONTROL_STEPS = (2, 1, 2)  # of 20 ms, for every third step: 100 ms together, never more than 7 ms off
CONTROL_S = 0.02
AHEAD_M = np.arange(-0.5, 10.0 + 1e-9, 0.25) * LENGTH_SCALE
SETTLE_STEPS = 25  # control steps before an episode: the cars fall onto their wheels and the wheels begin to turn
SPARE_TRAFFIC = 2  # cars that are there even when a scenario needs none, so that the next one needs no new process
CAR_CONTACT, SCENERY_CONTACT = 4, 2
CAMERA_SPREAD = {"x_m": 0.05, "y_m": 0.02, "z_m": 0.05, "pitch_rad": 0.13}  # at randomize 1, model scale; as in `track`


class TorcsWorld(World):
    """See `sims.world.World`. `camera_size` (width, height) or None; `randomize` in [0, 1]: how much the camera's
    mounting varies with the seed; `robots`: TORCS's own drivers to race against, such as "bt/3", which stand ahead of
    the ego at the start and drive as fast as they can. `track`: of episodes begun by `reset`.

    Cones and boxes do not exist in TORCS: a standing car takes their place, and the truth calls it a car."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
    render_mode = "rgb_array"

    def __init__(
        self,
        *,
        camera_size: tuple[int, int] | None = (160, 120),
        randomize: float = 0.0,
        seed: int = 0,
        profile: VehicleProfile = PROFILE,
        track: str = "random",
        robots: Sequence[str] = (),
    ):
        if camera_size is not None and not all(16 <= n <= 4096 for n in camera_size):
            raise ValueError(f"camera_size (width, height) must be 16 to 4096 pixels each, got {camera_size}")
        if not 0.0 <= randomize <= 1.0:
            raise ValueError(f"randomize must be between 0 and 1, got {randomize}")
        self.profile, self.camera_size = profile, camera_size
        self._lens = Lens(profile.camera, camera_size) if camera_size else None
        self._randomize, self._first_seed, self._track = randomize, seed, track
        self._robots = tuple(_robot(name) for name in robots)
        self._torcs: TorcsProcess | None = None
        self._truth: Truth | None = None
        self._make_spaces()

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

    # ---- gymnasium -----------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Follow a lane somewhere. Options: "track", a TORCS track or "random"."""
        super().reset(seed=seed)
        options = dict(options or {})
        track = options.pop("track", self._track)
        if options:
            raise ValueError(f"reset: unknown option {', '.join(sorted(options))}; there is 'track'")
        if seed is None:
            seed, self._first_seed = self._first_seed, int(self.np_random.integers(2**31))
        return self.start(make_scenario("follow_lane", road(track, seed), seed, profile=self.profile), seed)

    def start(self, scenario: Scenario, seed: int) -> tuple[dict, dict]:
        """Begin an episode of `scenario`, whose road must be one of TORCS's (see `sims.torcs.roads`)."""
        track = scenario.road.meta.get("torcs_track")
        if track is None:
            raise WorldError(
                f"world 'torcs' drives on its own tracks, and road {scenario.road.name!r} is none; "
                "take one of `SPEC.tracks()`"
            )
        if len(scenario.actors) > MAX_TRAFFIC:
            raise WorldError(f"at most {MAX_TRAFFIC} actors in TORCS, the scenario has {len(scenario.actors)}")
        self._need_torcs(track, len(scenario.actors))
        self._take_road(scenario.road)
        self._draw_camera(seed)
        self._place(scenario)
        snapshot = self._settle(scenario)
        self._start_s, self._steps, self._progress_m = snapshot.time_s, 0, 0.0
        self._steering = float(self._commands[0, 0])
        self._collision = self._off_road = False
        if self.camera_size is not None:
            snapshot = self._torcs.act(self._commands, 0, picture=True)
        return self._observe(snapshot), {"truth": self._truth}

    def step(self, action):
        """Drive on for 2 or 1 control steps of 20 ms; action [steering, acceleration] in [-1, 1]."""
        self.send_step(action)
        return self.receive_step()

    def send_step(self, action) -> None:
        """The first half of `step`, so that several worlds can drive at the same time; `receive_step` must follow."""
        if self._truth is None:
            raise WorldError("step before an episode was begun; call start or reset first")
        action = np.asarray(action, dtype=float)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"action must be two finite numbers [steering, acceleration], got {action!r}")
        steering, acceleration = np.clip(action, -1.0, 1.0).tolist()
        count = CONTROL_STEPS[self._steps % len(CONTROL_STEPS)]
        self._command_ego(steering, acceleration)
        self._command_traffic(self._truth.t_s, count * CONTROL_S)
        self._torcs.send_act(self._commands, count, picture=self.camera_size is not None)
        self._steps += 1

    def receive_step(self):
        """The second half of `step`."""
        before, bad = self._progress_m, self._collision or self._off_road
        observation = self._observe(self._torcs.receive_act())
        reward = self._progress_m - before - float((self._collision or self._off_road) and not bad)
        return observation, reward, False, False, {"truth": self._truth}

    def render(self):
        """The camera picture (h, w, 3) uint8 of the last step."""
        if self.camera_size is None:
            raise ValueError("this world was made without a camera; give camera_size=(width, height)")
        return self._picture

    def camera(self) -> dict[str, float]:
        """Pose and lens of this episode's camera: x, y, z [m], pitch, roll, yaw, hfov [rad], fisheye (0 or 1)."""
        model = self.profile.camera
        x_m, y_m, z_m, pitch_rad = self._eye
        return {
            "x": x_m, "y": y_m, "z": z_m, "pitch": pitch_rad, "roll": 0.0, "yaw": 0.0, "hfov": model.hfov_rad,
            "fisheye": float(model.lens == "fisheye"),
        }  # fmt: skip

    def close(self) -> None:
        """End the game."""
        if self._torcs is not None:
            self._torcs.close()
            self._torcs = None
        self._truth = None

    # ---- beginning an episode ------------------------------------------------------------------------------------

    def _need_torcs(self, track: str, traffic: int) -> None:
        """A running game on that track with cars enough; the present one, if it is."""
        running = self._torcs
        if running is not None and running.idle and running.race.track == track and running.race.traffic >= traffic:
            return
        had = running.race.traffic if running is not None else SPARE_TRAFFIC
        self.close()
        picture = {"picture": self._lens.draw_size, "fovy_deg": self._lens.fovy_deg} if self._lens else {}
        self._torcs = TorcsProcess(Race(track, max(traffic, had), self._robots, **picture))
        self._measure(self._torcs.shapes)

    def _measure(self, shapes: np.ndarray) -> None:
        """Bodies of all cars; the ego's must be the one that the profile describes."""
        self._bodies = bodies = np.ones((len(shapes), k.BODY_COLUMNS))
        bodies[:, k.REAR_AXLE], bodies[:, k.WHEELBASE] = shapes["rear_axle"], shapes["front_axle"] - shapes["rear_axle"]
        bodies[:, k.FRONT], bodies[:, k.REAR] = shapes["front_end"], shapes["rear_end"]
        bodies[:, k.WIDTH] = shapes["width"]
        bodies[:, k.LOCK], bodies[:, k.RATIO :] = shapes["steer_lock"], np.maximum(shapes["gear_ratio"], 1e-3)
        p, own = self.profile, bodies[0]
        length, overhang = own[k.FRONT] - own[k.REAR], own[k.REAR_AXLE] - own[k.REAR]
        found = (own[k.WHEELBASE], own[k.WIDTH], length, overhang, own[k.LOCK])
        said = (p.wheelbase_m, p.width_m, p.length_m, p.rear_overhang_m, p.steering_limit_rad)
        if not np.allclose(found, said, atol=0.02):
            raise WorldError(f"TORCS's car measures {np.round(found, 3).tolist()}, its profile says {list(said)}")

    def _take_road(self, road: Road) -> None:
        self.road = road
        columns = (road.x_m, road.y_m, road.yaw_rad, road.curvature_pm, road.left_m, road.right_m)
        self._samples = np.ascontiguousarray(np.column_stack(columns), dtype=np.float64)

    def _draw_camera(self, seed: int) -> None:
        rng, model = np.random.default_rng([abs(int(seed)), 11]), self.profile.camera
        draws = rng.uniform(-1.0, 1.0, len(CAMERA_SPREAD)) * self._randomize
        moved = {
            name: getattr(model, name) + draw * spread * (1.0 if name.endswith("_rad") else LENGTH_SCALE)
            for draw, (name, spread) in zip(draws, CAMERA_SPREAD.items(), strict=True)
        }
        self._eye = (moved["x_m"], moved["y_m"], moved["z_m"], moved["pitch_rad"])
        if self.camera_size is not None:
            x_m, *rest = self._eye
            self._torcs.set_camera(x_m + float(self._bodies[0, k.REAR_AXLE]), *rest)

    def _place(self, scenario: Scenario) -> None:
        """Ego, actors and robots on the road, a settling time before where they should be; spare cars out of sight."""
        n, robots = len(self._bodies), len(self._robots)
        self._first = first = 1 + robots  # of the scripted cars
        self._drivers = np.zeros((n - first, k.DRIVER_COLUMNS))
        placements = np.zeros(n, protocol.PLACEMENT)
        ahead = -float(self._bodies[0, k.REAR_AXLE])
        placements[0] = self._put(scenario.start_s_m, scenario.start_d_m, scenario.start_speed_mps, ahead)
        for j, actor in enumerate(scenario.actors):
            self._drivers[j] = _driver(actor)
            placements[first + j] = self._put(actor.s_m, actor.d_m, self._drivers[j, k.SET_SPEED])
        for j in range(robots):
            s = scenario.start_s_m + 25.0 + 15.0 * j
            d = float(self.road.lane_center_d(s, j % self.road.lane_count))
            placements[1 + j] = self._put(s, d, scenario.start_speed_mps)
        for j in range(first + len(scenario.actors), n):
            away_m = scenario.start_s_m + 0.5 * self.road.length_m
            placements[j] = self._put(away_m, 0.0, 0.0, present=False)
        self._commands = np.zeros((n, 3), np.float32)
        self._places, self._ego = np.zeros((n, 6)), np.zeros(k.EGO_COLUMNS)
        along = placements["distance"] / self._torcs.track_length_m * len(self._samples)
        self._places[:, k.INDEX] = along.astype(int) % len(self._samples)
        self._snapshot = self._torcs.place(placements)

    def _put(self, s_m: float, d_m: float, speed_mps: float, ahead_m: float = 0.0, present: bool = True) -> tuple:
        """PLACEMENT of a car whose point of reference is at (s, d) after settling; its centre of gravity is `ahead_m`
        before that point."""
        stretch = max(1.0 - float(self.road.curvature_at(s_m)) * d_m, 0.2)
        s_m = (s_m - speed_mps * SETTLE_STEPS * CONTROL_S / stretch) % self.road.length_m
        x, y, yaw = (float(v) for v in self.road.to_world(s_m, d_m))
        torcs_s = s_m * self._torcs.track_length_m / self.road.length_m
        x, y = x + ahead_m * math.cos(yaw), y + ahead_m * math.sin(yaw)
        return present, torcs_s, x, y, yaw, speed_mps

    def _settle(self, scenario: Scenario) -> Snapshot:
        """Hold all cars at their speeds and offsets for SETTLE_STEPS; the ego is one of them."""
        line = (self._samples, self.road.step_m)
        k.locate(self._snapshot.cars, self._bodies, self._places, *line)
        for _ in range(SETTLE_STEPS):
            wanted = (scenario.start_d_m, scenario.start_speed_mps)
            k.settle_ego(self._snapshot.cars[0], self._bodies[0], self._places[0], *wanted, *line, self._commands[0])
            self._command_traffic(0.0, CONTROL_S)
            self._snapshot = self._torcs.act(self._commands, 1)
            k.locate(self._snapshot.cars, self._bodies, self._places, *line)
        self._s_m = float(self._places[0, k.S])
        return self._snapshot

    # ---- a step --------------------------------------------------------------------------------------------------

    def _command_ego(self, steering: float, acceleration: float) -> None:
        """Pedals by feed-forward: the action is the wanted share of the profile's acceleration or brake on the flat."""
        profile = self.profile
        wanted = acceleration * (profile.max_accel_mps2 if acceleration >= 0 else profile.max_brake_mps2)
        own = (self._snapshot.cars[0], self._bodies[0])
        k.command_ego(*own, steering, wanted, profile.max_speed_mps, self._commands[0])
        self._steering = steering

    def _command_traffic(self, t_s: float, dt_s: float) -> None:
        k.command_traffic(
            self._snapshot.cars, self._bodies, self._places, self._first, self._drivers, self._commands,
            self._samples, self.road.step_m, self.profile.width_m, t_s, dt_s,
        )  # fmt: skip

    def _observe(self, snapshot: Snapshot) -> dict:
        """Take in the state after a step; returns the observation and keeps the truth."""
        self._snapshot, ahead = snapshot, np.empty((len(AHEAD_M), 5))
        k.survey(
            snapshot.cars, self._bodies, self._places, self._samples, self.road.step_m, self.road.lane_count,
            self.profile.width_m, AHEAD_M, self._ego, ahead,
        )  # fmt: skip
        own, ego, half = snapshot.cars[0].tolist(), self._ego.tolist(), 0.5 * self.road.length_m
        if not np.isfinite(snapshot.cars[:, k.X]).all():
            self.close()
            raise WorldError("TORCS's physics has run away (a car is nowhere); start another episode")
        self._progress_m += (ego[k.E_S] - self._s_m + half) % self.road.length_m - half
        self._s_m = ego[k.E_S]
        self._collision |= ego[k.E_TOUCH] > 0 or int(own[k.CONTACT]) & (CAR_CONTACT | SCENERY_CONTACT) > 0
        self._off_road |= ego[k.E_OFF] > 0
        self._truth = self._tell(snapshot, own, ego, ahead)
        observation = {
            "speed": np.array(max(own[k.VX], 0.0), np.float32),
            "yaw_rate": np.array(own[k.YAW_RATE], np.float32),
            "steering": np.array(self._steering, np.float32),
        }
        if snapshot.picture is not None:
            self._picture = observation["image"] = self._lens.develop(snapshot.picture)
        return observation

    def _tell(self, snapshot: Snapshot, own: list[float], ego: list[float], ahead: np.ndarray) -> Truth:
        return Truth(
            t_s=snapshot.time_s - self._start_s, x_m=ego[k.E_X], y_m=ego[k.E_Y], yaw_rad=own[k.YAW],
            speed_mps=own[k.VX], yaw_rate_radps=own[k.YAW_RATE], steering=self._steering, s_m=ego[k.E_S],
            progress_m=self._progress_m, d_m=ego[k.E_D], heading_error_rad=ego[k.E_HEADING], lane=int(ego[k.E_LANE]),
            lane_count=self.road.lane_count, left_edge_d_m=ego[k.E_LEFT], right_edge_d_m=ego[k.E_RIGHT],
            road_length_m=self.road.length_m, ahead=ahead, actors=self._tell_actors(snapshot.cars, ego[k.E_S]),
            collision=self._collision, off_road=self._off_road,
        )  # fmt: skip

    def _tell_actors(self, cars: np.ndarray, s_m: float) -> tuple[ActorTruth, ...]:
        """Scripted cars in the scenario's order, then TORCS's own drivers."""
        told, length = [], float(self.road.length_m)
        for j in (*range(self._first, len(cars)), *range(1, self._first)):
            if not cars[j, k.PRESENT]:
                continue
            car, place, body = cars[j].tolist(), self._places[j].tolist(), self._bodies[j].tolist()
            actor = ActorTruth(
                kind="car", x_m=place[k.PX], y_m=place[k.PY], yaw_rad=car[k.YAW], speed_mps=car[k.VX],
                s_ahead_m=(place[k.S] - s_m + 0.5 * length) % length - 0.5 * length, d_m=place[k.D],
                lane=int(self.road.lane_at(place[k.S], place[k.D])), length_m=body[k.FRONT] - body[k.REAR],
                width_m=body[k.WIDTH],
            )  # fmt: skip
            told.append(actor)
        return tuple(told)


def _robot(name: str) -> tuple[str, int]:
    """("bt", 3) for "bt/3"."""
    module, _, index = name.partition("/")
    if not module or not index.isdigit():
        raise ValueError(f"robot {name!r}: say it as module/index, such as 'bt/3'")
    return module, int(index)


def _driver(actor: ActorSpec) -> list[float]:
    changes = actor.speed_changes if actor.kind == "car" else ()
    speed = actor.speed_mps if actor.kind == "car" else 0.0
    blank = [0.0] * (6 - len(changes))
    times, speeds = [t for t, _ in changes] + blank, [v for _, v in changes] + blank
    return [actor.d_m, speed, speed, float(actor.follow), len(changes), *times, *speeds]

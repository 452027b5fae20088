"""One car in one of our worlds, told of in the Donkey simulator's terms: scenes, controls, telemetry, laps, hits.

Knows the protocol's units and any `World`; no sockets. Telemetry is at the scale of a model car whatever the world's
car is (`sims.scale`), because that is what clients of the simulator expect.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np

from bridge.scale import scale_of
from sims.actors import ActorSpec
from sims.donkey.lidar import LidarSettings, scan
from sims.donkey.pictures import CameraSettings, encode_picture
from sims.donkey.protocol import UNITY_PER_METRE, unity_quaternion, unity_yaw_deg
from sims.donkey.wire import standing_start
from sims.road import Road
from sims.scale import truth_at_model_scale
from sims.scenarios import Scenario
from sims.truth import ActorTruth, Truth
from sims.world import STEP_S, World, WorldError, WorldSpec

NODE_EVERY_M = 0.5
LINE_AHEAD_M = 0.5  # the starting line, from where the car starts
log = logging.getLogger(__name__)


class SimulatedCar:
    """A car that a client drives. `raw` (for our own client): the pedals are the world's acceleration itself. Without
    it throttle acts as on a brushed motor, which settles at a speed in proportion to it; our cars never reverse, so
    negative throttle brakes. Call `close` when done; everything happens on the caller's thread."""

    def __init__(self, spec: WorldSpec, *, seed: int = 0, traffic: int = 0, randomize: float = 0.0):
        self.spec, self.seed, self.traffic, self.randomize = spec, seed, traffic, randomize
        self.camera, self.camera_b = CameraSettings(), None
        self.lidar: LidarSettings | None = None
        self.raw = False
        self.scenario: Scenario | None = None
        self._world: World | None = None
        self._made: tuple | None = None  # with what the world was made
        self._blind = False
        self._time_s = 0.0
        self._noise = np.random.default_rng(seed)
        self.controls(0.0, 0.0, 1.0)

    # ---- episodes ------------------------------------------------------------------------------------------------

    def load(self, road: Road) -> None:
        """A scene: the car stands at s = 0 in the middle of the road, with `traffic` other cars around the lap."""
        self._blind = False
        factor = scale_of(self.spec.profile)
        cruise = 0.8 * self.spec.profile.reference_speed_mps
        left, right = (float(edge) for edge in road.edges_at(0.0))
        rng = np.random.default_rng([self.seed, 9091])
        actors = []
        for k in range(self.traffic):
            s = road.length_m * (k + 1) / (self.traffic + 1)
            d = float(road.lane_center_d(s, int(rng.integers(road.lane_count))))
            actors.append(ActorSpec("car", s, d, float(rng.uniform(0.3, 0.6)) * cruise, scale=factor.length))
        self.begin(standing_start(road, 0.0, 0.5 * (left + right), cruise, actors), self.seed)

    def begin(self, scenario: Scenario, seed: int, *, blind: bool = False) -> None:
        """Start an episode. `blind`: without pictures. Raises WorldError."""
        self.scenario, self.seed, self._blind, self._time_s = scenario, seed, blind, 0.0
        self.controls(0.0, 0.0, 1.0)
        self._start(scenario)
        self._driven_before_m = 0.0
        self._crossings, self._events = 0, []

    def reset(self) -> None:
        """Back to where the episode began, standing still with the brake on. Time goes on."""
        if self.scenario is not None:
            time_s = self._time_s
            self.begin(self.scenario, self.seed, blind=self._blind)
            self._time_s = time_s

    def place(self, x_m: float, y_m: float) -> None:
        """Standing on the road at the point nearest to (x, y), metres at model scale; heading along the road."""
        factor = scale_of(self.spec.profile).length
        s, d = self.scenario.road.to_frenet(x_m * factor, y_m * factor)
        left, right = (float(edge) for edge in self.scenario.road.edges_at(s))
        self._restart_at(s, min(max(d, right), left), 0.0)

    def set_camera(self, settings: CameraSettings) -> None:
        """A new size rebuilds the world's camera: the episode goes on from where the car is on the road."""
        before, self.camera = self.camera, settings
        if self.scenario is None:
            return
        if settings.size != before.size:
            self._restart_at(self._truth.s_m, self._truth.d_m, self._truth.speed_mps)
        self._aim()

    def set_second_camera(self, settings: CameraSettings) -> None:
        """A second picture, where this world's camera can be turned."""
        if self._steerable() is None:
            log.warning("cam_config_b: world %s has one camera only; no second picture", self.spec.name)
            return
        self.camera_b = settings

    def close(self) -> None:
        """Let the world go."""
        if self._world is not None:
            self._world.close()
        self._world = self._made = self.scenario = None

    def _restart_at(self, s_m: float, d_m: float, speed_mps: float) -> None:
        driven = self._driven_m()
        self._start(replace(self.scenario, start_s_m=s_m, start_d_m=d_m, start_speed_mps=speed_mps))
        self._driven_before_m = driven

    def _start(self, scenario: Scenario) -> None:
        wanted = (None if self._blind else self.camera.size, self.randomize)
        if self._world is None or self._made != wanted:
            if self._world is not None:
                self._world.close()
                self._world = None
            self._world = self.spec.make(camera_size=wanted[0], randomize=wanted[1], seed=self.seed)
            self._made = wanted
        self._observation, info = self._world.start(scenario, self.seed)
        if not self._blind and "image" not in self._observation:
            raise WorldError(f"world {self.spec.name!r} has no pictures, and clients of the Donkey simulator need them")
        self._truth: Truth = info["truth"]
        self._accel_mps2 = (0.0, 0.0)
        self._hit = "none"
        self._aim()

    # ---- driving -------------------------------------------------------------------------------------------------

    def controls(self, steering: float, throttle: float, brake: float) -> None:
        """Held until the next ones; steering positive to the right, as on the wire."""
        self._steering = min(max(steering, -1.0), 1.0)
        self._throttle, self._brake = min(max(throttle, -1.0), 1.0), min(max(brake, 0.0), 1.0)

    def step(self) -> None:
        """Advance the world by STEP_S."""
        before = self._truth
        action = np.array([-self._steering, self._acceleration(before.speed_mps)], np.float32)
        self._observation, _, _, _, info = self._world.step(action)
        self._truth = truth = info["truth"]
        scale = scale_of(self.spec.profile)
        was_s, self._time_s = self._time_s, self._time_s + STEP_S / scale.time
        (vx, vy), (wx, wy) = _velocity(truth), _velocity(before)
        self._accel_mps2 = (vx - wx) / STEP_S / scale.accel, (vy - wy) / STEP_S / scale.accel
        hit = _hit(truth, before, self.spec.profile)
        self._hit = hit if hit != "none" else self._hit
        self._watch_line(before.progress_m, truth.progress_m, was_s)

    def _acceleration(self, speed_mps: float) -> float:
        if self.raw:
            return min(max(self._throttle - self._brake, -1.0), 1.0)
        profile, pedal = self.spec.profile, self._throttle - self._brake
        if pedal <= 0.0 and speed_mps <= 0.0 or self._brake > 0.0 or pedal < 0.0:
            return max(pedal, -1.0)
        wanted = pedal - speed_mps / profile.max_speed_mps  # of max_accel: torque against what the motor induces
        return wanted if wanted >= 0.0 else wanted * profile.max_accel_mps2 / profile.max_brake_mps2

    def _driven_m(self) -> float:
        return self._driven_before_m + self._truth.progress_m

    def _watch_line(self, before_m: float, now_m: float, was_s: float) -> None:
        """A message for each time that the car crosses the starting line for the first time in a lap."""
        length = self._truth.road_length_m
        first = LINE_AHEAD_M * scale_of(self.spec.profile).length + self._crossings * length - self._driven_before_m
        if now_m < first:
            return
        share = min(max((first - before_m) / max(now_m - before_m, 1e-9), 0.0), 1.0)
        self._crossings += 1
        at_s = was_s + share * (self._time_s - was_s)
        self._events.append(
            {"msg_type": "collision_with_starting_line", "starting_line_index": 0, "timeStamp": round(at_s, 4)}
        )

    # ---- what the client sees ------------------------------------------------------------------------------------

    @property
    def truth(self) -> Truth:
        """In the world's own size."""
        return self._truth

    def events(self) -> list[dict]:
        """Messages besides telemetry since the last call."""
        events, self._events = self._events, []
        return events

    def telemetry(self) -> dict:
        """The telemetry message of now; clears the hit."""
        seen, profile = self._observation, self.spec.profile
        truth = truth_at_model_scale(self._truth, profile)
        nodes = self.node_count()
        middle = 0.5 * (truth.left_edge_d_m + truth.right_edge_d_m)
        vx, vy = _velocity(truth)
        message = {
            "msg_type": "telemetry", "steering_angle": -float(seen["steering"]), "throttle": self._throttle,
            "speed": abs(float(truth.speed_mps)), "hit": self._hit, "time": round(self._time_s, 6),
            "accel_x": self._accel_mps2[0], "accel_y": 0.0, "accel_z": self._accel_mps2[1],
            "gyro_x": 0.0, "gyro_y": -float(truth.yaw_rate_radps), "gyro_z": 0.0,
            "pitch": 0.0, "yaw": unity_yaw_deg(truth.yaw_rad), "roll": 0.0,
            "cte": UNITY_PER_METRE * (middle - truth.d_m),
            "activeNode": int(truth.s_m / truth.road_length_m * nodes) % nodes, "totalNodes": nodes,
            "pos_x": truth.x_m, "pos_y": 0.0, "pos_z": truth.y_m, "vel_x": vx, "vel_y": 0.0, "vel_z": vy,
        }  # fmt: skip
        self._hit = "none"
        if not self._blind:
            message["image"] = encode_picture(seen["image"], self.camera)
            if self.camera_b is not None:
                # Unity says imageb, gym-donkeycar looks for image_b
                message["imageb"] = message["image_b"] = encode_picture(self._second_picture(), self.camera_b)
        if self.lidar is not None:
            message["lidar"] = scan(self.lidar, truth, profile, self._noise)
        return message

    def node_count(self) -> int:
        """Nodes of the path in the middle of the road, one about every half metre at model scale."""
        length = self.scenario.road.length_m / scale_of(self.spec.profile).length
        return max(8, round(length / NODE_EVERY_M))

    def node(self, index: int) -> dict | None:
        """The node_position message of a node; None where there is no such node."""
        count, road = self.node_count(), self.scenario.road
        if not 0 <= index < count:
            return None
        s = index / count * road.length_m
        x, y, yaw = (float(v) for v in road.to_world(s, 0.5 * sum(float(edge) for edge in road.edges_at(s))))
        factor = UNITY_PER_METRE / scale_of(self.spec.profile).length
        turn = dict(zip(("Qx", "Qy", "Qz", "Qw"), unity_quaternion(yaw), strict=True))
        place = {"pos_x": x * factor, "pos_y": 0.0, "pos_z": y * factor}
        return {"msg_type": "node_position", "index": index, **place, **turn}

    # ---- the camera ----------------------------------------------------------------------------------------------

    def _steerable(self):
        """The batch inside `track`, whose camera can be turned; None in worlds without that."""
        inner = getattr(self._world, "world", None)
        return inner if self._made and self._made[0] and hasattr(inner, "retrace") else None

    def _aim(self) -> None:
        """Turn the camera as asked, if anything was asked."""
        if self._blind or replace(self.camera, size=(160, 120), depth=3, encoding="JPG") == CameraSettings():
            return
        inner = self._steerable()
        if inner is None:
            log.warning("cam_config: world %s takes size and encoding only; place and lens stay", self.spec.name)
            return
        self._observation = {**self._observation, "image": _look(inner, self.camera, self.spec.profile.camera)}

    def _second_picture(self) -> np.ndarray:
        inner = self._steerable()
        own = inner.cameras[0].copy()
        picture = _look(inner, self.camera_b, self.spec.profile.camera)
        inner.cameras[0] = own
        inner.retrace()
        return picture


def _look(inner, settings: CameraSettings, model) -> np.ndarray:
    for name, value in settings.pose(model).items():
        inner.cameras[name][0] = value
    inner.retrace()
    return inner.render()[0]


def _velocity(truth: Truth) -> tuple[float, float]:
    return truth.speed_mps * math.cos(truth.yaw_rad), truth.speed_mps * math.sin(truth.yaw_rad)


def _hit(truth: Truth, before: Truth, profile) -> str:
    """Name of what the car's body touches: "car-0", "cone-2"; "wall" for a new collision with none of them."""
    reach = 0.5 * profile.length_m - profile.rear_overhang_m
    centre = (truth.x_m + reach * math.cos(truth.yaw_rad), truth.y_m + reach * math.sin(truth.yaw_rad))
    for k, actor in enumerate(truth.actors):
        if _overlap(centre, truth.yaw_rad, profile.length_m, profile.width_m, actor):
            return f"{actor.kind}-{k}"
    return "wall" if truth.collision and not before.collision else "none"


def _overlap(centre, yaw_rad: float, length_m: float, width_m: float, actor: ActorTruth) -> bool:
    """Do two rectangles meet? Separating axes."""
    apart = np.array([actor.x_m - centre[0], actor.y_m - centre[1]])
    sides = [0.5 * length_m * _unit(yaw_rad), 0.5 * width_m * _unit(yaw_rad + 0.5 * math.pi)]
    turn = actor.yaw_rad
    sides += [0.5 * actor.length_m * _unit(turn), 0.5 * actor.width_m * _unit(turn + 0.5 * math.pi)]
    axes = [_unit(angle) for angle in (yaw_rad, yaw_rad + 0.5 * math.pi, turn, turn + 0.5 * math.pi)]
    return all(abs(apart @ axis) <= sum(abs(side @ axis) for side in sides) for axis in axes)


def _unit(angle_rad: float) -> np.ndarray:
    return np.array([math.cos(angle_rad), math.sin(angle_rad)])

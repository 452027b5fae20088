"""One client of the donkey server: reads its messages, drives its car, sends telemetry.

One thread does all of it, so a world lives and dies on one thread. On the wall clock the car moves on however late the
client is; in lock-step every `control` moves it by one world step and is answered by one telemetry message.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sims.donkey import protocol
from sims.donkey.car import SimulatedCar
from sims.donkey.lidar import read_lidar_config
from sims.donkey.pictures import SIZES_PX, read_cam_config
from sims.donkey.protocol import MalformedMessage, number, whole
from sims.donkey.wire import road_to_wire, scenario_from_wire
from sims.road import Road, RoadError
from sims.world import STEP_S, WorldError, WorldSpec

WRITE_TIMEOUT_S = 10.0  # a client that reads nothing for so long is let go
# Unity greets on a later frame. gym-donkeycar 1.3.1 loses what comes before its constructor ends, then waits for ever.
GREETING_S = 0.2
LATE_S = 0.5  # further behind than this, simulated time waits instead of running after the clock
COMPLAINTS = 20  # malformed messages that are logged one by one
QUIET = ("racer_info", "verify", "set_random_seed", "reset_challenges")  # taken, without effect here
log = logging.getLogger(__name__)


class Gone(Exception):
    """The client is not there any more, or must go; says why."""


@dataclass(frozen=True)
class Hosting:
    """What every connection drives in. `road(scene)` gives a scene's road; `scenes` are their names."""

    spec: WorldSpec
    scenes: tuple[str, ...]
    road: Callable[[str], Road]
    lockstep: bool = False
    seed: int = 0
    traffic: int = 0
    randomize: float = 0.0


class Connection:
    """Serves `sock` until the client goes. `name` is for the log."""

    def __init__(self, sock: socket.socket, name: str, hosting: Hosting):
        self.name, self._sock, self._hosting = name, sock, hosting
        self._splitter = protocol.ObjectSplitter(protocol.EXTENSION_CAP)
        self._lockstep, self._ours = hosting.lockstep, False
        self._car: SimulatedCar | None = None
        self._scene = ""
        self._complaints = self._controls = self._episode = 0
        self._next_s = self._owed_s = 0.0

    def serve(self) -> None:
        """Until the client goes; never raises for what a client does."""
        self._sock.settimeout(WRITE_TIMEOUT_S)
        try:
            select.select([self._sock], [], [], GREETING_S)
            self._menu()
            while True:
                self._turn()
        except Gone as reason:
            log.info("%s: %s", self.name, reason)
        except Exception:  # a fault of ours must not end the other clients' drives
            log.exception("%s: internal error, connection closed", self.name)
        finally:
            self._unload()
            self._sock.close()

    # ---- time ----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for the client or for the next world step, and do what is due."""
        runs = self._moves()
        wait_s = max(0.0, self._next_s - time.monotonic()) if runs else None
        if select.select([self._sock], [], [], wait_s)[0]:
            self._read()
        if not self._moves():
            return
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s if now_s - self._next_s > LATE_S else self._next_s + STEP_S
        self._advance()
        self._owed_s += STEP_S
        every_s = STEP_S if self._ours else 1.0 / protocol.TELEMETRY_HZ
        if self._owed_s >= every_s - 1e-9:
            self._owed_s -= every_s
            self._telemetry()

    def _moves(self) -> bool:
        """Whether time goes on by itself."""
        return self._car is not None and self._car.scenario is not None and not self._lockstep

    def _advance(self) -> None:
        try:
            self._car.step()
        except WorldError as error:
            self._fail(error)
            return
        for event in self._car.events():
            self._send(event)

    def _telemetry(self) -> None:
        if self._car is None:  # it has just failed
            return
        message = self._car.telemetry()
        if self._ours:
            message["pacenote_truth"] = self._car.truth.to_dict()
            message["pacenote_controls"], message["pacenote_episode"] = self._controls, self._episode
        self._send(message)

    def _fail(self, error: Exception) -> None:
        """The world broke: tell, and back to the menu."""
        log.error("%s: %s", self.name, error)
        self._send({"msg_type": "pacenote_error", "message": str(error)})
        self._unload()
        self._menu()

    # ---- bytes ---------------------------------------------------------------------------------------------------

    def _send(self, message: dict) -> None:
        try:
            self._sock.sendall(protocol.encode(message) + b"\n")
        except TimeoutError:
            raise Gone(f"did not read for {WRITE_TIMEOUT_S:g} s, let go") from None
        except OSError as error:
            raise Gone(f"gone ({error.strerror or error})") from None

    def _read(self) -> None:
        try:
            data = self._sock.recv(262_144)
        except OSError as error:
            raise Gone(f"gone ({error.strerror or error})") from None
        if not data:
            raise Gone("disconnected")
        self._splitter.cap = protocol.EXTENSION_CAP if self._ours else protocol.MESSAGE_CAP
        try:
            objects = self._splitter.feed(data)
        except protocol.OverlongMessage as error:
            raise Gone(f"{error}, let go") from None
        if self._splitter.noise > self._splitter.cap:
            raise Gone(f"{self._splitter.noise} bytes that are no JSON objects, let go")
        for raw in objects:
            self._handle(raw)

    def _handle(self, raw: bytes) -> None:
        try:
            message = protocol.parse(raw)
            handler = getattr(self, f"_on_{message['msg_type']}", None)
            if handler is None and message["msg_type"] not in QUIET:
                raise MalformedMessage(f"unknown msg_type {message['msg_type'][:60]!r}")
            if handler is not None:
                handler(message)
        except (MalformedMessage, RoadError) as error:
            self._complain(error)
        except WorldError as error:
            self._fail(error)

    def _complain(self, error: Exception) -> None:
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            more = "; no more of these will be logged" if self._complaints == COMPLAINTS else ""
            log.warning("%s: ignored: %s%s", self.name, error, more)
        if self._ours:
            self._send({"msg_type": "pacenote_error", "message": str(error)})

    # ---- scenes --------------------------------------------------------------------------------------------------

    def _menu(self) -> None:
        self._send({"msg_type": "scene_selection_ready", "loaded": "1", "pacenote": protocol.EXTENSION})

    def _unload(self) -> None:
        car, self._car = self._car, None
        if car is not None:
            car.close()

    def _new_car(self) -> SimulatedCar:
        hosting = self._hosting
        return SimulatedCar(hosting.spec, seed=hosting.seed, traffic=hosting.traffic, randomize=hosting.randomize)

    def _driving(self, message: dict) -> SimulatedCar:
        if self._car is None and self._ours:
            self._car = self._new_car()  # configured before its first episode
        if self._car is None:
            raise MalformedMessage(f"{message['msg_type']} before load_scene")
        return self._car

    def _start_clock(self) -> None:
        self._next_s, self._owed_s = time.monotonic() + STEP_S, 0.0

    def _on_get_protocol_version(self, message: dict) -> None:
        self._send({"msg_type": "protocol_version", "version": protocol.VERSION})

    def _on_get_scene_names(self, message: dict) -> None:
        self._send({"msg_type": "scene_names", "scene_names": list(self._hosting.scenes)})

    def _on_load_scene(self, message: dict) -> None:
        scene = message.get("scene_name")
        if scene not in self._hosting.scenes:
            known = ", ".join(self._hosting.scenes)
            raise MalformedMessage(f"load_scene: no scene {str(scene)[:60]!r}; one of {known}")
        road = self._hosting.road(scene)
        if self._car is None:
            self._car = self._new_car()
        self._car.load(road)
        self._scene = scene
        log.info("%s: scene %s, road %s (%.1f m)", self.name, scene, road.name, road.length_m)
        self._send({"msg_type": "car_loaded"})
        self._start_clock()
        if self._lockstep:
            self._telemetry()  # something to see before the first control

    def _on_exit_scene(self, message: dict) -> None:
        self._unload()
        self._menu()

    def _on_quit_app(self, message: dict) -> None:
        raise Gone("asked us to quit: its connection is closed, the server stays")

    def _on_regen_road(self, message: dict) -> None:
        car = self._driving(message)
        seed = whole(message, "rand_seed")
        if self._scene != "generated_road":
            raise MalformedMessage(f"regen_road: scene {self._scene!r} has a fixed road; only generated_road has not")
        car.load(self._hosting.spec.road("random", abs(seed) % 1_000_000))
        self._start_clock()

    # ---- driving -------------------------------------------------------------------------------------------------

    def _on_control(self, message: dict) -> None:
        given = [number(message, name) for name in ("steering", "throttle", "brake")]
        if self._car is None or self._car.scenario is None:
            return  # as the simulator: a car that is not there obeys nobody
        self._car.controls(*given)
        self._controls += 1
        if self._lockstep:
            self._advance()
            self._telemetry()

    def _on_reset_car(self, message: dict) -> None:
        if self._car is None or self._car.scenario is None:
            return
        self._car.reset()
        self._start_clock()
        if self._lockstep:
            self._telemetry()

    def _on_step_mode(self, message: dict) -> None:
        """What the simulator promises and does not do: "synchronous" is lock-step here."""
        if message.get("step_mode") not in ("synchronous", "asynchronous"):
            raise MalformedMessage("step_mode: step_mode must be synchronous or asynchronous")
        self._lockstep = message["step_mode"] == "synchronous"
        self._start_clock()

    _on_settings = _on_step_mode  # its older name

    def _on_set_position(self, message: dict) -> None:
        x, _, z = (number(message, f"pos_{axis}") / protocol.UNITY_PER_METRE for axis in "xyz")
        self._driving(message).place(x, z)

    def _on_node_position(self, message: dict) -> None:
        node = self._driving(message).node(whole(message, "index"))
        if node is None:
            raise MalformedMessage(f"node_position: no node {message['index']}")
        self._send(node)

    # ---- configuration -------------------------------------------------------------------------------------------

    def _on_car_config(self, message: dict) -> None:
        for name in ("body_r", "body_g", "body_b"):
            number(message, name)
        log.info("%s: car %.64r, body %.20r", self.name, message.get("car_name"), message.get("body_style"))

    def _on_cam_config(self, message: dict) -> None:
        car = self._driving(message)
        car.set_camera(read_cam_config(message, car.camera))

    def _on_cam_config_b(self, message: dict) -> None:
        car = self._driving(message)
        car.set_second_camera(read_cam_config(message, car.camera_b or car.camera))

    def _on_lidar_config(self, message: dict) -> None:
        self._driving(message).lidar = read_lidar_config(message)

    # ---- what only our own client asks ---------------------------------------------------------------------------

    def _on_pacenote_hello(self, message: dict) -> None:
        """From here on truth comes with the telemetry, at the world's own rate, and the pedals are unfiltered."""
        if str(message.get("version")) != protocol.EXTENSION:
            raise MalformedMessage(f"pacenote_hello: version {message.get('version')!r}, here {protocol.EXTENSION}")
        self._ours = True
        self._lockstep = bool(whole(message, "lockstep", int(self._lockstep)))
        profile = self._hosting.spec.profile.model_dump(mode="json")
        world = self._hosting.spec.name
        self._send({"msg_type": "pacenote_welcome", "world": world, "profile": profile})

    def _on_pacenote_road(self, message: dict) -> None:
        track, seed = message.get("track"), abs(whole(message, "seed", 0))
        if track in self._hosting.scenes:
            road = self._hosting.road(track)
        elif track == "random" or track in self._hosting.spec.tracks():
            road = self._hosting.spec.road(track, seed)
        else:  # never a file name: a client does not read this machine's files
            raise MalformedMessage(f"pacenote_road: no track {str(track)[:60]!r} here")
        self._send({"msg_type": "pacenote_road", "road": road_to_wire(road)})

    def _on_pacenote_start(self, message: dict) -> None:
        scenario, seed = scenario_from_wire(message.get("scenario")), abs(whole(message, "seed", 0))
        randomize = number(message, "randomize", 0.0)
        size = (whole(message, "img_w"), whole(message, "img_h")) if message.get("img_w") else None
        if size is not None and not all(SIZES_PX[0] <= n <= SIZES_PX[1] for n in size):
            raise MalformedMessage(f"pacenote_start: a camera of {SIZES_PX[0]} to {SIZES_PX[1]} pixels, got {size}")
        if self._car is None:
            self._car = self._new_car()
        car = self._car
        car.raw, car.randomize = True, min(max(randomize, 0.0), 1.0)
        car.camera = replace(car.camera, size=size or car.camera.size, encoding="PNG")
        try:
            car.begin(scenario, seed, blind=size is None)
        except (ValueError, OverflowError, IndexError) as error:  # what a world says of a scenario that makes no sense
            raise WorldError(f"the scenario cannot be started: {error}") from error
        self._controls, self._episode = 0, self._episode + 1
        self._start_clock()
        self._telemetry()

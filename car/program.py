"""The on-car program: sensors, link, controller, actuators, once per tick; whatever fails, the car ends up standing.

Knows the vehicle only as a `Vehicle` and the link only by the few calls of `Link`, so tests and simulated cars use the
same program. Nothing in a tick waits.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import cv2
import numpy as np

from bridge.clock import NS_PER_S, Clock, MonotonicClock
from bridge.keys import ClientKeys, ServerKeys
from bridge.link import CarLink, Received, StopListener
from bridge.messages import Frame, Plan, Status, Stop
from bridge.vehicle import Sensors
from car.admission import Admission, admit
from car.settings import CarSettings, DonkeyCarSettings
from car.vehicle import Vehicle, VehicleError
from car.watchdog import Watchdog
from controller.core import Control, Controller
from controller.loop import Loop
from controller.settings import ControllerSettings

log = logging.getLogger("pacenote.car")

JPEG_QUALITY = 80
STATUS_INTERVAL_S = 0.5
FRAME_AGE_LIMIT_S = 0.3  # an older picture is not worth a plan
STANDSTILL_MPS = 0.05
COAST_LIMIT_S = 2.0  # how long the end of a drive may take to brake

OnTick = Callable[[int, Sensors, Control], None]
OnPlan = Callable[[int, Plan, str | None], None]


class Link(Protocol):
    """What is used of `bridge.link.CarLink`."""

    session_id: str
    rtt_s: float | None

    @property
    def connected(self) -> bool: ...
    @property
    def wants_frame(self) -> bool: ...
    @property
    def wants_truth(self) -> bool: ...
    def poll(self) -> Received: ...
    def offer_frame(self, frame: Frame, jpeg: bytes) -> bool: ...
    def send_status(self, status: Status) -> bool: ...


class Stops(Protocol):
    """A second way for stops to come in, past the planner: `bridge.link.StopListener`."""

    def poll(self) -> list[Stop]: ...


class CarProgram:
    """Drives `vehicle`. `stops`: a further source of stops. `hand`: returns [steering, acceleration] to drive by hand,
    None to leave it to the controller. For recorders: `on_tick` is called after each actuation, `on_plan` after each
    plan, with the reason where it was rejected. A vehicle that has a `truth()` (a simulated one) is asked for it when
    the planner wants it. `uncertified`: said in every status, for the planner's and the operator's screens."""

    def __init__(
        self,
        vehicle: Vehicle,
        link: Link,
        controller: Controller,
        clock: Clock | None = None,
        *,
        watchdog: Watchdog | None = None,
        stops: Stops | None = None,
        hand: Callable[[], tuple[float, float] | None] | None = None,
        on_tick: OnTick | None = None,
        on_plan: OnPlan | None = None,
        uncertified: bool = False,
    ):
        self.vehicle, self.link, self.controller = vehicle, link, controller
        self.clock = clock or MonotonicClock()
        self.loop = Loop(self.clock, controller.settings.rate_hz)
        self._watchdog, self._stops, self._hand, self._on_tick = watchdog, stops, hand, on_tick
        self._on_plan = on_plan
        self._uncertified = uncertified
        self._sensors: Sensors | None = None
        self._session = ""
        self._frame_seq = 0
        self._status_due_ns = self.clock.now_ns()
        self._quit = threading.Event()
        self.frames_sent = 0
        self.read_failures = 0

    def quit(self) -> None:
        """End the drive: brake, then return from `run`. From any thread or signal handler."""
        self._quit.set()

    def run(self, seconds: float | None = None) -> None:
        """Drive until `quit`, or for so many seconds. Passes on what vehicle or link raise, after stopping the car."""
        started_ns = self.clock.now_ns()

        def keep_on() -> bool:
            over = seconds is not None and self.clock.now_ns() - started_ns >= seconds * NS_PER_S
            return not over and not self._quit.is_set()

        if self._watchdog is not None:
            self._watchdog.start()
        try:
            self.loop.run(self.step, keep_on)
            self._brake_to_standstill()
        finally:
            # The vehicle first: nothing that fails further down may keep the throttle open.
            self.vehicle.stop()
            if self._watchdog is not None:
                self._watchdog.close()

    def step(self, now_ns: int) -> None:
        """One control tick."""
        received = self.link.poll()
        for stop in (*received.stops, *(self._stops.poll() if self._stops is not None else ())):
            self.controller.on_stop(stop.reason, now_ns)
        if self.link.session_id != self._session:
            self._session = self.link.session_id
            self.controller.start_session(self._session)
        sensors = self._read()
        if sensors is None:
            self.vehicle.stop()
            return
        if received.plan is not None:
            rejected = self.controller.on_plan(received.plan, now_ns)
            if self._on_plan is not None:
                self._on_plan(now_ns, received.plan, rejected)
        if self._hand is not None:
            self.controller.set_manual(self._hand())
        control = self.controller.tick(now_ns, sensors)
        self.vehicle.actuate(control.steering, control.throttle, control.brake)
        if self._watchdog is not None:
            self._watchdog.feed()
        # Only now what may take longer: the actuators have their command.
        self._offer(now_ns, sensors)
        self._report(now_ns, sensors)
        if self._on_tick is not None:
            self._on_tick(now_ns, sensors, control)

    def _read(self) -> Sensors | None:
        """The newest reading; after a failure the last one, whose old stamp makes the controller stop the car."""
        try:
            self._sensors = self.vehicle.read()
        except VehicleError:
            self.read_failures += 1
        return self._sensors

    def _offer(self, now_ns: int, sensors: Sensors) -> None:
        fresh = now_ns - sensors.t_capture_ns <= FRAME_AGE_LIMIT_S * NS_PER_S
        if not (self.link.wants_frame and fresh):
            return
        truth = self.vehicle.truth() if self.link.wants_truth and hasattr(self.vehicle, "truth") else None
        image = sensors.image if sensors.image is not None else np.zeros((16, 16, 3), np.uint8)
        frame = Frame(
            session_id=self.link.session_id,
            seq=self._frame_seq,
            t_capture_ns=sensors.t_capture_ns,
            ego=sensors.ego,
            doing=self.controller.doing(now_ns),
            truth=truth,
        )
        self._frame_seq += 1
        self.frames_sent += self.link.offer_frame(frame, encode_jpeg(image))

    def _report(self, now_ns: int, sensors: Sensors) -> None:
        if now_ns < self._status_due_ns or not self.link.connected:
            return
        self._status_due_ns = now_ns + round(STATUS_INTERVAL_S * NS_PER_S)
        speed_mps, stats = sensors.ego.speed_mps, self.loop.stats()
        status = self.controller.status(now_ns, stats, self.link.session_id, speed_mps, self.link.rtt_s)
        self.link.send_status(status.model_copy(update={"uncertified": self._uncertified}))

    def _brake_to_standstill(self) -> None:
        self.controller.on_stop("the drive ends", self.clock.now_ns())
        end_ns = self.clock.now_ns() + round(COAST_LIMIT_S * NS_PER_S)

        def moving() -> bool:
            rolling = self._sensors is not None and abs(self._sensors.ego.speed_mps) > STANDSTILL_MPS
            return rolling and self.clock.now_ns() < end_ns

        self.loop.run(self.step, moving)


def encode_jpeg(image: np.ndarray) -> bytes:
    """RGB uint8 (h, w, 3) as JPEG. Raises ValueError where it cannot be."""
    good, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    if not good:
        raise ValueError(f"image {image.shape} {image.dtype} cannot be encoded")
    return data.tobytes()


def open_vehicle(settings: CarSettings) -> Vehicle:
    """The hardware that `settings` describe. Raises VehicleError."""
    if isinstance(settings, DonkeyCarSettings):
        from car.donkey import DonkeyVehicle

        return DonkeyVehicle(settings)
    from car.f1tenth import F1tenthVehicle

    return F1tenthVehicle(settings)


@contextlib.contextmanager
def quit_on_signals(program: CarProgram) -> Iterator[None]:
    """SIGINT and SIGTERM end the drive with braking instead of an exception. Main thread only."""
    previous = {s: signal.signal(s, lambda *_: program.quit()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def drive(
    settings: CarSettings,
    endpoint: str,
    *,
    keys: ClientKeys | None = None,
    stop_endpoint: str | None = None,
    stop_keys: ServerKeys | None = None,
    controller: str | None = None,
    uncertified: bool = False,
    admission: Admission | None = None,
    seconds: float | None = None,
    vehicle: Vehicle | None = None,
    on_tick: OnTick | None = None,
    on_plan: OnPlan | None = None,
) -> CarProgram:
    """Drive a real car against the planner at `endpoint`. The policy and its certificate are checked before any
    hardware is opened (`car.admission.admit`; `admission`: where that was done already): raises CertificateError for a
    bundle that did not pass the gate, unless `uncertified`, which every status then tells and the log warns of.
    `vehicle` replaces the hardware that the settings name (a simulated car). `stop_endpoint`: listen there for stops
    that do not pass the planner. Returns the program, for its figures."""
    if admission is None:
        admission = admit(controller or settings.controller, settings.profile, uncertified=uncertified)
    if admission.doubt is not None:
        log.warning(admission.notice)
    core = Controller(settings.profile, admission.policy, ControllerSettings(rate_hz=settings.rate_hz))
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(CarLink(settings.car_id, settings.profile))
        link.connect(endpoint, keys)
        stops = None
        if stop_endpoint is not None:
            stops = stack.enter_context(StopListener(settings.car_id))
            stops.bind(stop_endpoint, stop_keys)
        car = vehicle or open_vehicle(settings)
        stack.callback(car.close)
        watchdog = Watchdog(car.stop, settings.watchdog_s)
        program = CarProgram(
            car, link, core, watchdog=watchdog, stops=stops, on_tick=on_tick, on_plan=on_plan,
            uncertified=admission.doubt is not None,
        )  # fmt: skip
        stack.enter_context(quit_on_signals(program))
        program.run(seconds)
    return program

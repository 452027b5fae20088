"""The planner's end of the link: a ROUTER that serves many cars and operators. For one thread (see `planner_io`).

Knows nothing about models. Bytes that come in never raise: what is not usable is counted in `drops` by reason. A stop
is handed on to its car inside `poll`, before anything else gets to see it.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import zmq

from bridge import topics
from bridge.clock import NS_PER_S, Clock, MonotonicClock
from bridge.codec import MessageError, decode_parts, encode
from bridge.keys import ServerKeys
from bridge.messages import (
    EVERY_CAR,
    Command,
    CommandAck,
    CommandStatus,
    Frame,
    Hello,
    Part,
    Ping,
    Plan,
    Pong,
    Ready,
    Status,
    Stop,
    StopAck,
    Welcome,
)
from bridge.sockets import make_server, readable, receive, send

_KINDS = topics.kinds_for(topics.PLANNER)
_MOST_AT_ONCE = 256
_MOST_CARS = 256
_HOUSEKEEPING_NS = NS_PER_S // 4
_READY_AGAIN_NS = 2 * NS_PER_S  # a car that holds a credit for so long may have lost it


class CarConnected(NamedTuple):
    """A car has said hello with a new session; it waits for `send_welcome`."""

    car_id: str
    hello: Hello


class CarGone(NamedTuple):
    """A car is no longer served; it has to say hello again."""

    car_id: str
    reason: str


class FrameArrived(NamedTuple):
    """The frame that a credit was given for. `t_arrival_ns`: time.monotonic_ns() of this process."""

    car_id: str
    frame: Frame
    jpeg: bytes
    t_arrival_ns: int


class CommandArrived(NamedTuple):
    """An operator's command; it waits for `send_ack(operator, ...)`."""

    operator: bytes
    command: Command


class StopArrived(NamedTuple):
    """A stop that has been handed on already."""

    stop: Stop
    car_ids: tuple[str, ...]


class StatusArrived(NamedTuple):
    """A car's status."""

    car_id: str
    status: Status


Event = CarConnected | CarGone | FrameArrived | CommandArrived | StopArrived | StatusArrived


@dataclass(slots=True)
class _Car:
    identity: bytes
    hello: Hello
    heard_ns: int
    welcome: Welcome | None = None
    credit: bool = False
    credit_ns: int = 0
    frame_seq: int = -1


class PlannerLink:
    """ROUTER for cars and operators. Sessions belong to the connection that said hello: nobody else can speak for a
    car, except by saying hello as that car, which ends the older session."""

    def __init__(self, *, clock: Clock | None = None, car_timeout_s: float = topics.CAR_TIMEOUT_S):
        self.drops: Counter[str] = Counter()
        self.endpoint = ""
        self.context = zmq.Context()  # its own, since there is one authenticator per context
        self._clock = clock or MonotonicClock()
        self._timeout_ns = round(car_timeout_s * NS_PER_S)
        self._by_identity: dict[bytes, _Car] = {}
        self._by_id: dict[str, _Car] = {}
        self._events: list[Event] = []
        self._housekeeping_due_ns = 0
        self._socket: Any = None  # a zmq.Socket once bound
        self._authenticator = None
        self._poller = zmq.Poller()

    def bind(self, endpoint: str, keys: ServerKeys | None = None, insecure: bool = False) -> str:
        """Listen; port 0 takes a free one. Returns the endpoint. Raises LinkError: beyond loopback without keys and
        without `insecure`, or where the port is taken."""
        self._socket, self._authenticator = make_server(self.context, endpoint, keys, insecure)
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._poller.register(self._socket, zmq.POLLIN)
        return self.endpoint

    def close(self) -> None:
        """Close everything at once; unsent messages are lost."""
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
        self.context.destroy(linger=0)

    def __enter__(self) -> PlannerLink:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def car_ids(self) -> list[str]:
        """Cars that have a session."""
        return sorted(self._by_id)

    def session_id(self, car_id: str) -> str | None:
        """The car's present session."""
        car = self._by_id.get(car_id)
        return car.hello.session_id if car else None

    def has_credit(self, car_id: str) -> bool:
        """Whether the car has been told to send a frame that has not come yet."""
        car = self._by_id.get(car_id)
        return car is not None and car.credit

    def watch(self, socket: zmq.Socket) -> None:
        """Let `poll` return when this socket becomes readable, too."""
        self._poller.register(socket, zmq.POLLIN)

    def poll(self, timeout_ms: int = 0) -> list[Event]:
        """Wait at most `timeout_ms` for messages, take in what has come, and return what concerns the planner."""
        if timeout_ms:
            self._poller.poll(timeout_ms)
        for _ in range(_MOST_AT_ONCE):
            if not readable(self._socket):
                break
            parts = receive(self._socket)
            if parts is None:
                self.drops["wrong_parts"] += 1
                continue
            event = self.take_in(parts[0], parts[1:])
            if event is not None:
                self._events.append(event)
        self._keep_house()
        events, self._events = self._events, []
        return events

    def take_in(self, identity: bytes, parts: list[bytes]) -> Event | None:
        """One message of one peer. Never raises, whatever the bytes."""
        try:
            message, jpeg = decode_parts(parts, _KINDS)
        except MessageError as error:
            self.drops[error.reason] += 1
            if error.reason == "wrong_version":  # tell it ours; the rest of the answer means nothing to it
                self._send(identity, Welcome(session_id="none", model="none", rate_hz=1.0))
            return None
        if isinstance(message, Hello):
            return self._take_hello(identity, message)
        if isinstance(message, Command):
            return CommandArrived(identity, message)
        if isinstance(message, Stop):
            return self._take_stop(identity, message)
        car = self._by_identity.get(identity)
        if car is None or car.hello.session_id != message.session_id:
            self.drops["wrong_session"] += 1
            return None
        car.heard_ns = self._clock.now_ns()
        if isinstance(message, Frame):
            return self._take_frame(car, message, jpeg)
        if isinstance(message, Ping):
            self._send(identity, Pong(session_id=message.session_id, t_ns=message.t_ns))
            return None
        return StatusArrived(car.hello.car_id, message)

    def _take_hello(self, identity: bytes, hello: Hello) -> Event | None:
        known = self._by_identity.get(identity)
        if known is not None and known.hello == hello:
            known.heard_ns = self._clock.now_ns()
            if known.welcome is not None:  # the answer was late or lost
                self._send(identity, known.welcome)
            return None
        if len(self._by_id) >= _MOST_CARS and hello.car_id not in self._by_id:
            self.drops["too_many_cars"] += 1
            return None
        if known is not None and known.hello.car_id != hello.car_id:
            self._lose(known, "calls itself another car now")
        older = self._by_id.get(hello.car_id)
        if older is not None:
            self._by_identity.pop(older.identity, None)
        car = _Car(identity, hello, self._clock.now_ns())
        self._by_identity[identity] = self._by_id[hello.car_id] = car
        return CarConnected(hello.car_id, hello)

    def _take_frame(self, car: _Car, frame: Frame, jpeg: bytes | None) -> Event | None:
        if not car.credit or car.welcome is None or jpeg is None:
            self.drops["no_credit"] += 1
            return None
        if frame.seq <= car.frame_seq:
            self.drops["duplicate" if frame.seq == car.frame_seq else "out_of_order"] += 1
            return None
        if frame.truth is not None and not car.welcome.wants_truth:
            self.drops["unasked_truth"] += 1
            frame = frame.model_copy(update={"truth": None})
        car.credit = False
        car.frame_seq = frame.seq
        return FrameArrived(car.hello.car_id, frame, jpeg, time.monotonic_ns())

    def _take_stop(self, identity: bytes, stop: Stop) -> Event:
        wanted = self.car_ids if stop.car_id == EVERY_CAR else [stop.car_id]
        reached = tuple(car_id for car_id in wanted if self.send_stop(stop.model_copy(update={"car_id": car_id})))
        reason = f"handed on to {', '.join(reached)}" if reached else self.describe_missing(stop.car_id)
        self._send(identity, StopAck(car_id=stop.car_id, accepted=bool(reached), reason=reason[:2000]))
        return StopArrived(stop, reached)

    def describe_missing(self, car_id: str) -> str:
        """Words for an operator who named a car that is not there."""
        there = ", ".join(self.car_ids) or "none"
        return f"no car {car_id!r} is connected (connected: {there})"

    def send_welcome(self, car_id: str, welcome: Welcome) -> bool:
        """Answer a hello. False (here and below) if the car is gone, its queue full or the session not its own."""
        car = self._by_id.get(car_id)
        if car is None or not self._send_to_car(car, welcome):
            return False
        car.welcome = welcome
        return True

    def send_ready(self, car_id: str) -> bool:
        """Give the car a credit for one frame."""
        car = self._by_id.get(car_id)
        if car is None or car.welcome is None or not self._send_to_car(car, Ready(session_id=car.hello.session_id)):
            return False
        car.credit, car.credit_ns = True, self._clock.now_ns()
        return True

    def send_plan(self, car_id: str, plan: Plan) -> bool:
        """Send a plan; `plan.seq` must grow within a session, and frame_seq and t_capture_ns must echo the frame."""
        car = self._by_id.get(car_id)
        return car is not None and self._send_to_car(car, plan)

    def send_stop(self, stop: Stop) -> bool:
        """Hand a stop on to the one car that it names."""
        car = self._by_id.get(stop.car_id)
        return car is not None and self._send(car.identity, stop)

    def send_ack(self, operator: bytes, ack: CommandAck) -> bool:
        """Acknowledge a command to the operator that sent it."""
        return self._send(operator, ack)

    def send_command_status(self, operator: bytes, status: CommandStatus) -> bool:
        """Tell the operator of a new verdict."""
        return self._send(operator, status)

    def _send_to_car(self, car: _Car, message: Welcome | Ready | Plan) -> bool:
        if message.session_id != car.hello.session_id:
            self.drops["wrong_session"] += 1
            return False
        return self._send(car.identity, message)

    def _send(self, identity: bytes, message: Part) -> bool:
        try:
            data = encode(message)
        except MessageError as error:
            self.drops[error.reason] += 1
            return False
        if self._socket is not None and send(self._socket, [identity, data]):
            return True
        self.drops["unreachable"] += 1
        return False

    def _keep_house(self) -> None:
        now_ns = self._clock.now_ns()
        if now_ns < self._housekeeping_due_ns:
            return
        self._housekeeping_due_ns = now_ns + _HOUSEKEEPING_NS
        for car in list(self._by_id.values()):
            if now_ns - car.heard_ns > self._timeout_ns:
                self._lose(car, "silent")
            elif car.credit and now_ns - car.credit_ns > _READY_AGAIN_NS:
                self.send_ready(car.hello.car_id)

    def _lose(self, car: _Car, reason: str) -> None:
        self._by_identity.pop(car.identity, None)
        self._by_id.pop(car.hello.car_id, None)
        self._events.append(CarGone(car.hello.car_id, reason))

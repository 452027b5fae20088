"""The car's end of the link: hello, credit, the newest plan, stops. For one thread; nothing here ever waits.

Knows nothing about driving. Bytes that come in never raise: what is not usable is counted in `drops` by reason.
"""

from __future__ import annotations

import secrets
from collections import Counter
from contextlib import suppress
from typing import Any, NamedTuple

import zmq
from zmq.utils.monitor import recv_monitor_message

from bridge import topics
from bridge.clock import NS_PER_S, Clock, MonotonicClock
from bridge.codec import MessageError, decode_parts, encode
from bridge.keys import ClientKeys
from bridge.messages import (
    EVERY_CAR,
    Frame,
    Hello,
    Part,
    Ping,
    Plan,
    Pong,
    Ready,
    Status,
    Stop,
    VehicleProfile,
    Welcome,
)
from bridge.sockets import make_client, readable, receive, send

_KINDS = topics.kinds_for(topics.CAR)
_HELLO_INTERVAL_S = 0.5
_RETRY_INTERVAL_S = 1.0  # after a refusal, which libzmq takes as final
_MOST_AT_ONCE = 64  # messages taken in per poll, so that a flood cannot hold up the control loop
_FRAMES_REMEMBERED = 16
_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


class Received(NamedTuple):
    """What one poll brought: the newest valid plan, if any, and all stops."""

    plan: Plan | None
    stops: list[Stop]


class CarLink:
    """DEALER that connects out to one planner and keeps a session with it, however often either side goes away.

    Call `poll` in every control tick. `drops` counts what was thrown away, by reason; `problem` says in words why there
    is no session, where that is known ("" otherwise).
    """

    def __init__(
        self,
        car_id: str,
        profile: VehicleProfile | None = None,
        *,
        clock: Clock | None = None,
        context: zmq.Context | None = None,
        planner_timeout_s: float = topics.PLANNER_TIMEOUT_S,
    ):
        self.car_id = car_id
        self.drops: Counter[str] = Counter()
        self.problem = ""
        self.rtt_s: float | None = None
        self.session_id = ""
        self.welcome: Welcome | None = None
        self.profile = profile or VehicleProfile()
        self._clock = clock or MonotonicClock()
        self._context = context or zmq.Context.instance()
        self._timeout_ns = round(planner_timeout_s * NS_PER_S)
        self._socket: Any = None  # a zmq.Socket once connected
        self._plan_seq: int = -1
        self._monitor: Any = None
        self._poller = zmq.Poller()
        self._on_line = False
        self._endpoint = ""
        self._retry_due_ns: int | None = None
        self._begin_session()

    def connect(self, endpoint: str, keys: ClientKeys | None = None) -> None:
        """Begin to connect, and go on trying for ever. The planner need not be there yet."""
        self.close()
        self._socket = make_client(self._context, keys)
        watched = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _REFUSED
        self._monitor = self._socket.get_monitor_socket(watched)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._endpoint = endpoint
        self._begin_session()
        self._socket.connect(endpoint)

    def close(self) -> None:
        """Close the sockets; the link may be connected again afterwards."""
        if self._socket is not None:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(0)
        self._socket = self._monitor = None
        self._on_line = False

    def __enter__(self) -> CarLink:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether a session stands."""
        return self.welcome is not None

    @property
    def wants_frame(self) -> bool:
        """Whether a frame would be sent now: the car holds the planner's credit."""
        return self._credit and self.welcome is not None

    @property
    def wants_truth(self) -> bool:
        """Whether the planner asked for the simulated world's truth in its frames."""
        return self.welcome is not None and self.welcome.wants_truth

    def poll(self, timeout_ms: int = 0) -> Received:
        """Take in what has come and do what is due (hello, ping). Waits only if a timeout is given."""
        if timeout_ms:
            self._poller.poll(timeout_ms)
        self._watch_connection()
        newest, stops = None, []
        for _ in range(_MOST_AT_ONCE):
            if not readable(self._socket):
                break
            message = self.take_in(receive(self._socket))
            if isinstance(message, Plan):
                if newest is not None:
                    self.drops["superseded"] += 1
                newest = message
            elif message is not None:
                stops.append(message)
        self._do_what_is_due()
        return Received(newest, stops)

    def take_in(self, parts: list[bytes] | None) -> Plan | Stop | None:
        """One message from the planner; gives back plans and stops that are good. Never raises, whatever the bytes."""
        try:
            message, _ = decode_parts(parts, _KINDS)
        except MessageError as error:
            self.drops[error.reason] += 1
            if error.reason == "wrong_version":
                self.problem = f"the planner refuses this car: {error}"
            return None
        if isinstance(message, Stop):
            if message.car_id in (self.car_id, EVERY_CAR):
                return message
            self.drops["wrong_car"] += 1
            return None
        if message.session_id != self.session_id:
            self.drops["wrong_session"] += 1
            return None
        self._heard_ns = self._clock.now_ns()
        if isinstance(message, Plan):
            return self._check_plan(message)
        if isinstance(message, Ready):
            self._credit = True
        elif isinstance(message, Pong):
            self.rtt_s = max(0, self._heard_ns - message.t_ns) / NS_PER_S
        elif isinstance(message, Welcome):
            self.welcome, self.problem = message, ""
        return None

    def _check_plan(self, plan: Plan) -> Plan | None:
        if plan.seq <= self._plan_seq:
            self.drops["duplicate" if plan.seq == self._plan_seq else "out_of_order"] += 1
            return None
        if self._sent.get(plan.frame_seq) != plan.t_capture_ns:
            self.drops["unknown_frame"] += 1
            return None
        self._plan_seq = plan.seq
        return plan

    def offer_frame(self, frame: Frame, jpeg: bytes) -> bool:
        """Send the frame if the car holds a credit, and use the credit up; otherwise nothing happens.
        `frame.session_id` must be this link's. Returns whether it was sent; failures are counted."""
        if not self.wants_frame:
            return False
        if frame.session_id != self.session_id:
            self.drops["wrong_session"] += 1
            return False
        if not 0 < len(jpeg) <= topics.JPEG_BYTES:
            self.drops["oversized" if jpeg else "wrong_parts"] += 1
            return False
        if not self._send(frame, jpeg):
            return False
        self._credit = False
        self._sent[frame.seq] = frame.t_capture_ns
        if len(self._sent) > _FRAMES_REMEMBERED:
            del self._sent[next(iter(self._sent))]
        return True

    def send_status(self, status: Status) -> bool:
        """Send a status of this session; False where it could not be sent."""
        return self.connected and status.session_id == self.session_id and self._send(status)

    def _send(self, message: Part, *further: bytes) -> bool:
        try:
            data = encode(message)
        except MessageError as error:
            self.drops[error.reason] += 1
            return False
        return send(self._socket, [data, *further])

    def _begin_session(self) -> None:
        self.session_id = secrets.token_hex(8)
        self.welcome = None
        self.rtt_s = None
        self._credit = False
        self._plan_seq = -1
        self._sent: dict[int, int] = {}
        self._heard_ns = self._hello_due_ns = self._ping_due_ns = self._clock.now_ns()

    def _watch_connection(self) -> None:
        while readable(self._monitor):
            event: Any = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            if event["event"] & _REFUSED:
                self.problem = "the planner refused the connection: its allow-list lacks our key, or keys do not match"
                self._retry_due_ns = self._clock.now_ns() + round(_RETRY_INTERVAL_S * NS_PER_S)
            else:
                self._on_line = event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
                if self._on_line:
                    self._retry_due_ns = None
                self._begin_session()

    def _do_what_is_due(self) -> None:
        now_ns = self._clock.now_ns()
        if self._retry_due_ns is not None and now_ns >= self._retry_due_ns:
            self._retry_due_ns = None
            with suppress(zmq.ZMQError):  # libzmq may have forgotten the endpoint already
                self._socket.disconnect(self._endpoint)
            self._socket.connect(self._endpoint)
        if self.welcome is not None and now_ns - self._heard_ns > self._timeout_ns:
            self.problem = "the planner has fallen silent"
            self._begin_session()
        if self.welcome is None and self._on_line and now_ns >= self._hello_due_ns:
            if self._send(Hello(car_id=self.car_id, session_id=self.session_id, profile=self.profile)):
                self._hello_due_ns = now_ns + round(_HELLO_INTERVAL_S * NS_PER_S)
        elif self.welcome is not None and now_ns >= self._ping_due_ns:
            self._send(Ping(session_id=self.session_id, t_ns=now_ns))
            self._ping_due_ns = now_ns + round(topics.PING_INTERVAL_S * NS_PER_S)

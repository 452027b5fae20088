"""The direct way to stop a car, past the planner: a socket on the car that takes stops and nothing else.

Optional. Loopback by default; binding elsewhere follows the planner's rule (keys, or said to be insecure).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import zmq

from bridge.codec import MessageError, decode_parts, encode
from bridge.keys import ClientKeys, ServerKeys
from bridge.messages import EVERY_CAR, Stop, StopAck
from bridge.operator_link import OperatorLink
from bridge.sockets import make_server, readable, receive, send

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5556"
_MOST_AT_ONCE = 64


class StopListener:
    """ROUTER on the car. Call `poll` in every control tick; it never waits and never raises."""

    def __init__(self, car_id: str):
        self.car_id = car_id
        self.drops: Counter[str] = Counter()
        self._context = zmq.Context()
        self._socket: Any = None  # a zmq.Socket once bound
        self._authenticator = None

    def bind(self, endpoint: str = DEFAULT_ENDPOINT, keys: ServerKeys | None = None, insecure: bool = False) -> str:
        """Listen; returns the endpoint. Raises LinkError as PlannerLink.bind does."""
        self._socket, self._authenticator = make_server(self._context, endpoint, keys, insecure)
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def poll(self) -> list[Stop]:
        """Stops for this car that have come since the last call."""
        stops = []
        for _ in range(_MOST_AT_ONCE):
            if not readable(self._socket):
                break
            parts = receive(self._socket)
            stop = self.take_in(parts[0], parts[1:]) if parts else None
            if stop is not None:
                stops.append(stop)
        return stops

    def take_in(self, identity: bytes, parts: list[bytes]) -> Stop | None:
        """One message. Never raises, whatever the bytes."""
        try:
            stop, _ = decode_parts(parts, (Stop,))
        except MessageError as error:
            self.drops[error.reason] += 1
            return None
        mine = stop.car_id in (self.car_id, EVERY_CAR)
        ack = StopAck(car_id=stop.car_id, accepted=mine, reason="" if mine else f"this is car {self.car_id!r}")
        if self._socket is not None:
            send(self._socket, [identity, encode(ack)])
        if not mine:
            self.drops["wrong_car"] += 1
        return stop if mine else None

    def close(self) -> None:
        """Close everything at once."""
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
        self._context.destroy(linger=0)

    def __enter__(self) -> StopListener:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def send_stop_to_car(
    endpoint: str,
    car_id: str = EVERY_CAR,
    reason: str = "operator",
    keys: ClientKeys | None = None,
    timeout_s: float = 2.0,
) -> StopAck:
    """Stop a car through its StopListener. Returns the car's own acknowledgement; raises LinkTimeout without one."""
    with OperatorLink() as link:
        link.connect(endpoint, keys)
        return link.stop(car_id, reason, timeout_s=timeout_s)

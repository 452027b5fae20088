"""The operator's end of the link: commands with their acknowledgement and verdicts, and stops. It waits; not for a car.

Knows nothing about what commands mean.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from bridge import topics
from bridge.codec import MessageError, decode_parts, encode
from bridge.keys import ClientKeys
from bridge.messages import EVERY_CAR, Command, CommandAck, CommandStatus, Part, Stop, StopAck, Verdict
from bridge.sockets import LinkTimeout, make_client, receive, send

_KINDS = topics.kinds_for(topics.OPERATOR)
_RESEND_S = 0.5
_POLL_MS = 20  # while there is no connection to send through
FINAL_VERDICTS = (Verdict.DONE, Verdict.REFUSED)


class OperatorLink:
    """DEALER to a planner (or, for stops, straight to a car's StopListener)."""

    def __init__(self, *, context: zmq.Context | None = None):
        self.drops: Counter[str] = Counter()
        self._context = context or zmq.Context.instance()
        self._socket: Any = None  # a zmq.Socket once connected
        self._endpoint = ""
        self._waiting: list[CommandStatus] = []  # verdicts that came while something else was awaited

    def connect(self, endpoint: str, keys: ClientKeys | None = None) -> None:
        """Begin to connect; the other side need not be there yet."""
        self.close()
        self._endpoint = endpoint
        self._socket = make_client(self._context, keys)
        self._socket.connect(endpoint)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close(0)
        self._socket = None

    def __enter__(self) -> OperatorLink:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def send_command(
        self, text: str, car_id: str = EVERY_CAR, *, timeout_s: float = 5.0, command_id: str | None = None
    ) -> CommandAck:
        """Send an instruction and wait for its acknowledgement (resent under the same id until it comes). EVERY_CAR
        means the only car that is connected. Raises LinkTimeout, and ValidationError for an empty or too long text."""
        command = Command(id=command_id or secrets.token_hex(6), car_id=car_id, text=text)
        return self._ask(command, lambda m: isinstance(m, CommandAck) and m.id == command.id, timeout_s)

    def verdicts(self, command_id: str, timeout_s: float) -> Iterator[CommandStatus]:
        """The planner's verdicts on a command as they come, until a final one (done, refused) or until `timeout_s` is
        over."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            mine = [s for s in self._waiting if s.verdict.command_id == command_id]
            self._waiting = [s for s in self._waiting if s.verdict.command_id != command_id]
            for status in mine:
                yield status
                if status.verdict.verdict in FINAL_VERDICTS:
                    return
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return
            self._receive_until(lambda m: False, min(left_s, _RESEND_S), stop_at_verdict=True)

    def stop(self, car_id: str = EVERY_CAR, reason: str = "operator", *, timeout_s: float = 2.0) -> StopAck:
        """Stop a car (or all). Resent until acknowledged. Raises LinkTimeout."""
        stop = Stop(car_id=car_id, reason=reason)
        return self._ask(stop, lambda m: isinstance(m, StopAck) and m.car_id == car_id, timeout_s)

    def _ask(self, message: Part, is_answer: Callable[[Part], bool], timeout_s: float):
        data = encode(message)
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            sent = send(self._socket, [data])
            answer = self._receive_until(is_answer, min(left_s, _RESEND_S if sent else _POLL_MS / 1000))
            if answer is not None:
                return answer
        raise LinkTimeout(
            f"no answer from {self._endpoint} within {timeout_s:g} s; is it running, and does it allow this side's key?"
        )

    def _receive_until(self, is_wanted: Callable[[Part], bool], timeout_s: float, stop_at_verdict: bool = False):
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            if not self._socket.poll(max(1, round(left_s * 1000))):
                continue
            message = self.take_in(receive(self._socket))
            if isinstance(message, CommandStatus):
                self._waiting.append(message)
                if stop_at_verdict:
                    return None
            elif message is not None and is_wanted(message):
                return message
        return None

    def take_in(self, parts: list[bytes] | None) -> CommandAck | CommandStatus | StopAck | None:
        """One message. Never raises, whatever the bytes."""
        try:
            return decode_parts(parts, _KINDS)[0]
        except MessageError as error:
            self.drops[error.reason] += 1
            return None

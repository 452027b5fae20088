"""A client of the Donkey simulator's protocol: connect, choose a scene, configure, drive.

Knows the protocol and nothing of roads and worlds. Every wait has a deadline; whatever goes wrong is a WorldError that
says what happened and what to do, and leaves the client closed, so that the next `connect` begins anew. One thread:
messages are read when somebody waits for one.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from sims.donkey import protocol
from sims.donkey.protocol import MalformedMessage
from sims.world import WorldError

HOW_TO_START = (
    "start the Donkey simulator, or our own server with `pacenote donkey-server`, or say where one runs with "
    "PACENOTE_DONKEY=host:port"
)
EVENTS_KEPT = 256
SPACING_S = 0.05  # between two messages to Unity, which takes what arrives together for one object
DRAIN_S = 0.5
CONTROL_SPACING_S = 0.01  # controls are sent one for each telemetry, and may be lost for once


@dataclass(frozen=True)
class Patience:
    """Seconds before a wait is given up."""

    connect_s: float = 5.0
    answer_s: float = 5.0  # to a question
    scene_s: float = 60.0  # loading a scene, or making a world behind our server
    telemetry_s: float = 5.0


class DonkeyClient:
    """`connect`, `load_scene`, `send` controls, `telemetry`. `extension` after connecting: the other end is a server of
    ours. `events` are messages besides telemetry that nobody waited for, newest last."""

    def __init__(self, host: str, port: int, patience: Patience | None = None):
        self.host, self.port, self.patience = host, port, patience or Patience()
        self.extension = False
        self.scene: str | None = None
        self._in_scene = False
        self.latest: dict | None = None  # the newest telemetry
        self.events: deque[dict] = deque(maxlen=EVENTS_KEPT)
        self._sock: socket.socket | None = None
        self._free_s = 0.0  # on our clock; nothing may be sent before
        self._lines = protocol.LineSplitter()
        self._inbox: deque[dict] = deque()

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._sock is not None

    @property
    def where(self) -> str:
        """For messages."""
        return f"the Donkey simulator at {self.host}:{self.port}"

    # ---- connection ----------------------------------------------------------------------------------------------

    def connect(self) -> dict:
        """Connect and check the version; returns the first message (the menu's, or car_loaded where a scene is open
        already). Raises WorldError."""
        self.close()
        try:
            self._sock = socket.create_connection((self.host, self.port), self.patience.connect_s)
        except OSError as error:
            self._fail(f"cannot be reached ({_reason(error)}): {HOW_TO_START}")
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.settimeout(self.patience.telemetry_s)
        first = self.wait_for(("scene_selection_ready", "car_loaded"), self.patience.answer_s, "greet")
        self._in_scene = first["msg_type"] == "car_loaded"
        self.extension = first.get("pacenote") is not None
        if self.extension and str(first["pacenote"]) != protocol.EXTENSION:
            self._fail(
                f"speaks version {first['pacenote']!r} of our additions, here {protocol.EXTENSION} is needed: use the "
                "same release of Pacenote at both ends"
            )
        said = self.ask({"msg_type": "get_protocol_version"}, "protocol_version").get("version")
        if str(said) != protocol.VERSION:
            self._fail(
                f"speaks protocol version {said!r}, here {protocol.VERSION!r} is needed: take a simulator of "
                "2021 or later"
            )
        return first

    def close(self) -> None:
        """Let the connection go."""
        if self._sock is not None:
            self._sock.close()
        self._sock, self.latest, self.scene, self.extension = None, None, None, False
        self._in_scene = False
        self._lines = protocol.LineSplitter()
        self._inbox.clear()
        self.events.clear()

    def _fail(self, what: str) -> NoReturn:
        self.close()
        raise WorldError(f"{self.where} {what}")

    # ---- messages ------------------------------------------------------------------------------------------------

    def send(self, message: dict) -> None:
        """One message in one segment, a little after the last one (see SPACING_S). Values that Unity must read have to
        be strings already."""
        while (left_s := self._free_s - time.monotonic()) > 0.0 and not self.extension:
            self._take_in(left_s)
        if self._sock is None:
            self._fail("is not connected")
        spacing_s = CONTROL_SPACING_S if message["msg_type"] == "control" else SPACING_S
        self._free_s = time.monotonic() + spacing_s
        try:
            self._sock.sendall(protocol.encode(message))
        except OSError as error:
            self._fail(f"went away ({_reason(error)}): {HOW_TO_START}; the next reset connects again")

    def ask(self, message: dict, answer: str, patience_s: float | None = None) -> dict:
        """Send, and wait for the message `answer`. Raises WorldError."""
        self.send(message)
        told = self.wait_for((answer,), patience_s or self.patience.answer_s, f"answer {message['msg_type']}")
        self._free_s = 0.0  # it has been read
        return told

    def control(self, steering: float, throttle: float, brake: float) -> None:
        """All three as on the wire: steering positive to the right."""
        numbers = {"steering": steering, "throttle": throttle, "brake": brake}
        self.send({"msg_type": "control", **{name: repr(float(value)) for name, value in numbers.items()}})

    def wait_for(
        self, kinds: tuple[str, ...], patience_s: float, what: str, accept: Callable[[dict], bool] | None = None
    ) -> dict:
        """The next message of one of these kinds that `accept` agrees with. Others are kept (telemetry as `latest`, the
        rest in `events`). Raises WorldError after `patience_s`, and when our server reports an error."""
        deadline = time.monotonic() + patience_s
        while True:
            while self._inbox:
                message = self._inbox.popleft()
                self._note(message)
                if message["msg_type"] in kinds and (accept is None or accept(message)):
                    return message
            self._receive(deadline, patience_s, what)

    def drain(self) -> None:
        """Take in what has arrived, without waiting; at most for DRAIN_S, whatever is poured in."""
        until_s = time.monotonic() + DRAIN_S
        while self._take_in(0.0) and time.monotonic() < until_s:
            pass
        while self._inbox:
            self._note(self._inbox.popleft())

    def _note(self, message: dict) -> None:
        kind = message["msg_type"]
        if kind == "telemetry":
            self.latest = message
        elif kind == "pacenote_error":
            self._fail(f"reports: {message.get('message')}")
        elif kind not in ("scene_names", "protocol_version", "pacenote_road", "node_position", "ping"):
            self.events.append(message)

    def _receive(self, deadline: float, patience_s: float, what: str) -> None:
        left_s = deadline - time.monotonic()
        if left_s <= 0.0 or not self._take_in(left_s):
            half = f"; {self._lines.pending} bytes of an unfinished message are here" if self._lines.pending else ""
            self._fail(
                f"did not {what} within {patience_s:g} s{half}: does it still run? The next reset connects again"
            )

    def _take_in(self, wait_s: float) -> bool:
        """Read what arrives within `wait_s`; False where nothing does."""
        if self._sock is None:
            self._fail("is not connected")
        if not select.select([self._sock], [], [], wait_s)[0]:
            return False
        try:
            data = self._sock.recv(1 << 18)
        except OSError as error:
            self._fail(f"went away ({_reason(error)}): {HOW_TO_START}; the next reset connects again")
        if not data:
            half = " in the middle of a message" if self._lines.pending else ""
            self._fail(f"closed the connection{half}: {HOW_TO_START}; the next reset connects again")
        try:
            self._inbox.extend(protocol.parse(line) for line in self._lines.feed(data))
        except (MalformedMessage, protocol.OverlongMessage) as error:
            self._fail(f"sent what is no message of this protocol: {error}")
        return True

    # ---- scenes --------------------------------------------------------------------------------------------------

    def scene_names(self) -> list[str]:
        """Asked in the menu."""
        names = self.ask({"msg_type": "get_scene_names"}, "scene_names").get("scene_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self._fail("sent scene_names without a list of names")
        return names

    def load_scene(self, scene: str) -> None:
        """Connect if need be, leave another scene, and load this one, until the car stands there. Raises WorldError for
        a scene that is not there."""
        if self.connected and self.scene == scene:
            return
        patience = self.patience.scene_s
        if not self.connected:
            self.connect()
        if self._in_scene:  # perhaps another one, opened by hand or by an earlier client
            self.ask({"msg_type": "exit_scene"}, "scene_selection_ready", patience)
            self._in_scene, self.scene = False, None
        names = self.scene_names()
        if scene not in names:
            raise WorldError(f"{self.where} has no scene {scene!r}; it has {', '.join(names)}")
        self.ask({"msg_type": "load_scene", "scene_name": scene}, "car_loaded", patience)
        self._in_scene, self.scene = True, scene

    def telemetry(
        self,
        accept: Callable[[dict], bool] | None = None,
        patience_s: float | None = None,
        what: str = "send telemetry",
    ) -> dict:
        """The next telemetry that `accept` agrees with; `what` is what the other end failed to do otherwise."""
        return self.wait_for(("telemetry",), patience_s or self.patience.telemetry_s, what, accept)

    def telemetry_at(self, time_s: float) -> dict:
        """The next telemetry of the simulator's time `time_s` or later."""
        return self.telemetry(lambda m: protocol.number(m, "time") >= time_s - 1e-6, what="let its time pass")

    def configure(self, msg_type: str, values: dict[str, object]) -> None:
        """Send car_config, cam_config, cam_config_b or lidar_config, all values as strings, and wait for telemetry, so
        that two such messages never share a segment."""
        self.send({"msg_type": msg_type, **{name: str(value) for name, value in values.items()}})
        if not self.extension:
            self.telemetry()


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return "connection refused" if error.errno == errno.ECONNREFUSED else (error.strerror or str(error)).lower()


def reachable(host: str, port: int, patience_s: float = 1.0) -> str | None:
    """None where something listens, else what is wrong and what to do."""
    try:
        socket.create_connection((host, port), patience_s).close()
    except OSError as error:
        return f"no Donkey simulator at {host}:{port} ({_reason(error)}): {HOW_TO_START}"
    return None

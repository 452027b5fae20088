"""The Donkey simulator's protocol as facts: port, scenes, units, frames, and how bytes become messages. No sockets.

Both ways UTF-8 JSON objects with a field `msg_type`. The simulator ends each object with a newline; a client ends its
objects with nothing, so a server has to count braces. Unity's world is 8 times as large as the model cars it shows:
telemetry has positions and speeds in metres already (divided by 8), `cte`, `node_position`, `set_position` and lidar
are in Unity units. Unity's frame is left-handed: x right (our east), y up, z forward (our north); yaw turns clockwise
seen from above and is 0 towards +z. Steering is positive to the right there, to the left here.
"""

from __future__ import annotations

import json
import math
import re

PORT = 9091
VERSION = "2"  # of the protocol, as today's simulators say it
EXTENSION = "1"  # of our own additions; a server of ours says it in its first message, the Unity simulator never does
UNITY_PER_METRE = 8.0
UNITY_FULL_LOCK_RAD = math.radians(16.0)
TELEMETRY_HZ = 20.0
SCENES = (
    "generated_road",
    "warehouse",
    "sparkfun_avc",
    "generated_track",
    "mountain_track",
    "roboracingleague_1",
    "waveshare",
    "mini_monaco",
    "warren",
    "thunderhill",
    "circuit_launch",
)
MESSAGE_CAP = 64 * 1024  # bytes of one message of a client
EXTENSION_CAP = 16 * 1024 * 1024  # of one that carries a road
TELEMETRY_CAP = 16 * 1024 * 1024  # of one line of a simulator: a large picture
_MARKS = re.compile(rb'["\\{}]')
_COMMA_NUMBER = re.compile(r'("[A-Za-z_]+":\s*-?\d+),(\d+(?:[Ee]-?\d+)?)(?=\s*[,}])')


class MalformedMessage(ValueError):
    """A message that cannot be understood; says which field and why."""


class OverlongMessage(ValueError):
    """More bytes without the end of a message than are taken."""


class ObjectSplitter:
    """Cuts a stream of JSON objects without terminators by counting braces outside of strings."""

    def __init__(self, cap: int = MESSAGE_CAP):
        self.cap, self.noise = cap, 0  # noise: bytes between objects that are no blanks
        self._buffer = bytearray()
        self._at = self._depth = 0
        self._quoted = False

    def feed(self, data: bytes) -> list[bytes]:
        """The objects that end in `data`. Raises OverlongMessage when an unfinished one is larger than `cap`."""
        self._buffer += data
        begin, objects = 0, []
        while (mark := _MARKS.search(self._buffer, self._at)) is not None:
            k, char = mark.start(), mark.group()
            if char == b"\\" and self._quoted:
                if k + 1 == len(self._buffer):
                    self._at = k
                    break
                self._at = k + 2
                continue
            self._at = k + 1
            if char == b'"' and self._depth:
                self._quoted = not self._quoted
            elif self._quoted or char in b'"\\':
                continue
            elif char == b"{":
                if not self._depth:
                    self._skip(begin, k)
                    begin = k
                self._depth += 1
            elif self._depth:
                self._depth -= 1
                if not self._depth:
                    objects.append(bytes(self._buffer[begin : k + 1]))
                    begin = k + 1
        else:
            self._at = len(self._buffer)
        if not self._depth:
            self._skip(begin, len(self._buffer))
            begin = len(self._buffer)
        del self._buffer[:begin]
        self._at -= begin
        if len(self._buffer) > self.cap or any(len(o) > self.cap for o in objects):
            raise OverlongMessage(f"a message of more than {self.cap} bytes")
        return objects

    def _skip(self, first: int, last: int) -> None:
        self.noise += len(bytes(self._buffer[first:last]).strip())


class LineSplitter:
    """Cuts a stream at newlines."""

    def __init__(self, cap: int | None = None):
        self.cap = TELEMETRY_CAP if cap is None else cap
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of the line that has not ended yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in `data`. Raises OverlongMessage when an unfinished one is larger than `cap`."""
        if b"\n" not in data:
            self._buffer += data
            lines: list[bytes] = []
        else:
            first, *lines = data.split(b"\n")
            lines = [bytes(self._buffer) + first, *lines]
            self._buffer = bytearray(lines.pop())
        if len(self._buffer) > self.cap:
            raise OverlongMessage(f"a line of more than {self.cap} bytes")
        return [line for line in lines if line.strip()]


def parse(raw: bytes) -> dict:
    """A message from its bytes. Numbers of a localised Unity ("1,5") are read too. Raises MalformedMessage."""
    try:
        text = raw.decode("utf-8")
        try:
            message = json.loads(text, parse_constant=_no_constant)
        except json.JSONDecodeError:
            message = json.loads(_COMMA_NUMBER.sub(r"\1.\2", text), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not a JSON object ({_short(error)}): {_short(raw[:80])}") from None
    if not isinstance(message, dict) or not isinstance(message.get("msg_type"), str):
        raise MalformedMessage(f"no msg_type in {_short(raw[:80])}")
    return message


def _no_constant(name: str):
    raise ValueError(f"{name} is no number")


def _short(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def encode(message: dict) -> bytes:
    """The bytes of a message, without a terminator. Compact: the blanks would trip other clients' number repair."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()


def number(message: dict, field: str, default: float | None = None) -> float:
    """A field as a number, whether it came as a string (as Unity wants it) or as a number. Raises MalformedMessage."""
    value = message.get(field, default)
    if value is None:
        raise MalformedMessage(f"{message['msg_type']}: {field} is missing")
    try:
        if isinstance(value, bool):
            raise ValueError
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise MalformedMessage(f"{message['msg_type']}: {field} must be a number, got {_short(repr(value))}")
    return result


def whole(message: dict, field: str, default: int | None = None) -> int:
    """A field as a whole number. Raises MalformedMessage."""
    value = number(message, field, default)
    if value != int(value):
        raise MalformedMessage(f"{message['msg_type']}: {field} must be a whole number, got {value}")
    return int(value)


def unity_yaw_deg(yaw_rad: float) -> float:
    """Our yaw as Unity's, degrees in [0, 360)."""
    return math.degrees(0.5 * math.pi - yaw_rad) % 360.0


def yaw_from_unity(yaw_deg: float) -> float:
    """Unity's yaw in degrees as ours, rad in [-pi, pi)."""
    return (1.5 * math.pi - math.radians(yaw_deg)) % (2.0 * math.pi) - math.pi


def unity_quaternion(yaw_rad: float) -> tuple[float, float, float, float]:
    """(x, y, z, w) of our yaw, level."""
    half = 0.5 * math.radians(unity_yaw_deg(yaw_rad))
    return 0.0, math.sin(half), 0.0, math.cos(half)


def yaw_from_quaternion(x: float, y: float, z: float, w: float) -> float:
    """Our yaw, rad, of the direction in which a Unity quaternion turns +z."""
    return yaw_from_unity(math.degrees(math.atan2(2.0 * (x * z + w * y), 1.0 - 2.0 * (x * x + y * y))))

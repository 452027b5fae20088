"""The records on the socket between Python and the driver module (`driver/PROTOCOL.md`). Knows no TORCS."""

from __future__ import annotations

import struct

import numpy as np

VERSION = 1
MAGIC = 0x314E4350  # "PCN1"
ACT, PLACE, ROAD, CAMERA = 1, 2, 3, 4
HELLO, STATE, ROAD_POINTS, FAILED = 1, 2, 3, 4
LARGEST = 64 << 20  # bytes after a header; more is not believed

HEADER = struct.Struct("<4I")  # magic, type, count, size
ACT_HEAD = struct.Struct("<2I")  # control steps, picture wanted
COMMAND = ("steer", "throttle", "brake")  # columns of a (n, 3) float32 table, by car index
PLACEMENT = np.dtype(
    [("present", "<u4"), ("distance", "<f4"), ("x", "<f4"), ("y", "<f4"), ("yaw", "<f4"), ("speed", "<f4")]
)
CAMERA_POSE = struct.Struct("<4f")  # x, y, z, pitch
HELLO_HEAD = struct.Struct("<I2f32s")  # version, track length, control period, name of the track
CAR_SHAPE = np.dtype(
    [
        ("name", "S32"), ("length", "<f4"), ("width", "<f4"), ("height", "<f4"), ("steer_lock", "<f4"),
        ("wheel_radius", "<f4"), ("front_axle", "<f4"), ("rear_axle", "<f4"), ("front_end", "<f4"),
        ("rear_end", "<f4"), ("gears", "<i4"), ("gear_ratio", "<f4", 8),
    ]
)  # fmt: skip
STATE_HEAD = struct.Struct("<d3I")  # time, control steps since the placing, width and height of the picture
CAR_STATE = (  # columns of a (n, 18) float32 table, by car index
    "present", "x", "y", "z", "yaw", "pitch", "roll", "vx", "vy", "yaw_rate", "ax", "distance", "to_middle", "steer",
    "rpm", "gear", "damage", "contact",
)  # fmt: skip
ROAD_POINT = np.dtype([(name, "<f4") for name in ("distance", "x", "y", "z", "width", "curvature")])


class ProtocolError(ValueError):
    """The other side sent something that is not of this protocol; the message says what."""


def request(kind: int, body: bytes = b"", count: int = 0) -> bytes:
    """One request, ready to be sent."""
    return HEADER.pack(MAGIC, kind, count, len(body)) + body


def act(commands: np.ndarray, control_steps: int, picture: bool) -> bytes:
    """ACT: drive on for `control_steps` of 20 ms under `commands`, (n, COMMAND) float32, one for every car."""
    return request(ACT, ACT_HEAD.pack(control_steps, picture) + commands.tobytes(), len(commands))


def read_header(data: bytes) -> tuple[int, int, int]:
    """(type, count, size) of a reply. Raises ProtocolError."""
    magic, kind, count, size = HEADER.unpack(data)
    if magic != MAGIC:
        raise ProtocolError(f"reply begins with {data[:4]!r}, not with the magic number")
    if kind not in (HELLO, STATE, ROAD_POINTS, FAILED) or size > LARGEST:
        raise ProtocolError(f"reply of type {kind} and {size} bytes")
    return kind, count, size


def read_hello(body: bytes, count: int) -> tuple[str, float, float, np.ndarray]:
    """(name of the track, its length [m], control period [s], (count,) CAR_SHAPE). Raises ProtocolError."""
    if len(body) != HELLO_HEAD.size + count * CAR_SHAPE.itemsize:
        raise ProtocolError(f"HELLO of {len(body)} bytes for {count} cars")
    version, length, period, name = HELLO_HEAD.unpack_from(body)
    if version != VERSION:
        raise ProtocolError(f"the driver module speaks version {version}, this side {VERSION}")
    shapes = np.frombuffer(body, CAR_SHAPE, count, HELLO_HEAD.size)
    return name.split(b"\0")[0].decode("utf-8", "replace"), length, period, shapes


def read_state(body: memoryview, count: int) -> tuple[float, int, np.ndarray, np.ndarray | None]:
    """(time [s], control steps, (count, CAR_STATE), picture (h, w, 3) uint8 or None). Raises ProtocolError."""
    cars_end = STATE_HEAD.size + count * 4 * len(CAR_STATE)
    if len(body) < cars_end:
        raise ProtocolError(f"STATE of {len(body)} bytes for {count} cars")
    time_s, steps, width, height = STATE_HEAD.unpack_from(body)
    if len(body) != cars_end + 3 * width * height:
        raise ProtocolError(f"STATE of {len(body)} bytes for {count} cars and a picture of {width} x {height}")
    cars = np.frombuffer(body, np.float32, count * len(CAR_STATE), STATE_HEAD.size).reshape(count, -1)
    if not width:
        return time_s, steps, cars, None
    pixels = np.frombuffer(body, np.uint8, 3 * width * height, cars_end).reshape(height, width, 3)
    return time_s, steps, cars, pixels[::-1]  # OpenGL's first row is the lowest

"""Pictures on the wire: encoding, decoding, and what `cam_config` asks of a camera."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from dataclasses import dataclass

import cv2
import numpy as np

from bridge.messages import CameraModel
from sims.donkey.protocol import UNITY_PER_METRE, MalformedMessage, number, whole

ENCODINGS = ("JPG", "PNG", "TGA")
SIZES_PX = (16, 1024)
DEFAULT_SIZE = (160, 120)
JPEG_QUALITY = 90


@dataclass(frozen=True)
class CameraSettings:
    """What a client asked of a camera; None and 0 keep the world's own."""

    size: tuple[int, int] = DEFAULT_SIZE  # width, height
    depth: int = 3
    encoding: str = "JPG"
    fov_deg: float = 0.0  # vertical, as Unity has it
    fisheye: bool = False
    offset_units: tuple[float, float, float] = (0.0, 0.0, 0.0)  # right, up, forward
    turn_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)  # down, right, roll

    def pose(self, model: CameraModel) -> dict[str, float | bool]:
        """Place and lens, from the camera `model` that the car has: x, y, z [m], pitch (down), yaw (left), roll and
        hfov [rad], fisheye."""
        right, up, forward = (o / UNITY_PER_METRE for o in self.offset_units)
        down, turn, roll = (math.radians(a) for a in self.turn_deg)
        hfov, fisheye = model.hfov_rad, model.lens == "fisheye"
        if self.fov_deg:
            aspect = self.size[0] / self.size[1]
            hfov, fisheye = 2.0 * math.atan(aspect * math.tan(math.radians(0.5 * self.fov_deg))), self.fisheye
        return {
            "x": model.x_m + forward, "y": model.y_m - right, "z": max(model.z_m + up, 0.02),
            "pitch": model.pitch_rad + down, "yaw": -turn, "roll": roll, "hfov": hfov, "fisheye": fisheye,
        }  # fmt: skip


def read_cam_config(message: dict, before: CameraSettings) -> CameraSettings:
    """Raises MalformedMessage for sizes and angles that no camera has."""
    width, height = whole(message, "img_w", 0), whole(message, "img_h", 0)
    size = (width, height) if width and height else before.size
    if not all(SIZES_PX[0] <= n <= SIZES_PX[1] for n in size):
        raise MalformedMessage(f"cam_config: img_w and img_h must be {SIZES_PX[0]} to {SIZES_PX[1]}, got {size}")
    encoding = str(message.get("img_enc", "0"))
    if len(encoding) != 3:
        encoding = before.encoding  # as Unity: only names of three letters count
    elif encoding not in ENCODINGS:
        raise MalformedMessage(f"cam_config: img_enc must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
    fov = number(message, "fov", 0.0)
    if fov and not 10.0 <= fov <= 150.0:
        raise MalformedMessage(f"cam_config: fov must be 0 or 10 to 150 degrees, got {fov}")
    depth = whole(message, "img_d", 0) or before.depth
    if depth not in (1, 3):
        raise MalformedMessage(f"cam_config: img_d must be 0, 1 or 3, got {depth}")
    return CameraSettings(
        size, depth, encoding, fov,
        number(message, "fish_eye_x", 0.0) != 0.0 or number(message, "fish_eye_y", 0.0) != 0.0,
        tuple(number(message, f"offset_{axis}", 0.0) for axis in "xyz"),
        tuple(number(message, f"rot_{axis}", 0.0) for axis in "xyz"),
    )  # fmt: skip


def encode_picture(image: np.ndarray, settings: CameraSettings) -> str:
    """RGB (h, w, 3) uint8 as base64 of the asked encoding, resized where the size differs."""
    height, width = image.shape[:2]
    if (width, height) != settings.size:
        image = cv2.resize(image, settings.size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR if settings.depth == 3 else cv2.COLOR_RGB2GRAY)
    if settings.encoding == "TGA":
        data = _tga(bgr)
    elif settings.encoding == "PNG":
        data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    else:
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    return base64.b64encode(data).decode("ascii")


def _tga(image: np.ndarray) -> bytes:
    """Uncompressed Targa, top row first (Truevision TGA 2.0 specification, types 2 and 3)."""
    grey = image.ndim == 2
    kind, bits = (3, 8) if grey else (2, 24)
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, kind, 0, 0, 0, 0, 0, image.shape[1], image.shape[0], bits, 0x20)
    return header + image.tobytes()


def decode_picture(text: object) -> np.ndarray:
    """base64 of a JPEG or PNG as RGB (h, w, 3) uint8. Raises MalformedMessage."""
    try:
        data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except (binascii.Error, TypeError, ValueError, cv2.error) as error:
        raise MalformedMessage(f"telemetry: the picture is not base64 of a picture: {error}") from None
    if bgr is None:
        raise MalformedMessage("telemetry: the picture can be read neither as JPEG nor as PNG")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

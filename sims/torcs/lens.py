"""From TORCS's pinhole picture to the picture of the profile's lens. Knows cameras and pixels only.

TORCS draws a pinhole picture along the car's axis; the module turns it down by the camera's pitch. For a fisheye lens a
wider and finer picture is drawn and resampled; the two share the optical axis and the eye.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from bridge.messages import CameraModel

WIDEST_RAD = 1.30  # from the axis: a pinhole picture wider than this is nearly all edge
FINENESS = 0.8  # pixels drawn per pixel of the fisheye in the middle; off the axis a pinhole has more of them


class Lens:
    """`draw_size` (width, height) and `fovy_deg` of the pinhole picture to draw; `develop` makes the camera's of it."""

    def __init__(self, camera: CameraModel, size: tuple[int, int]):
        self.size = width, height = size
        half = 0.5 * camera.hfov_rad
        self._map = None
        if camera.lens == "pinhole":
            if half >= WIDEST_RAD:
                raise ValueError(f"a pinhole camera of {camera.hfov_rad:.2f} rad is too wide; at most {2 * WIDEST_RAD}")
            self.draw_size = size
            self.fovy_deg = math.degrees(2 * math.atan(math.tan(half) * height / width))
            return
        focal_px = 0.5 * width / half
        columns, rows = np.meshgrid(np.arange(width) + 0.5 - 0.5 * width, np.arange(height) + 0.5 - 0.5 * height)
        radius = np.hypot(columns, rows) + 1e-9
        reach = np.tan(np.minimum(radius / focal_px, WIDEST_RAD)) / radius
        across, down = columns * reach, rows * reach  # of the ray, per unit ahead
        most_across, most_down = float(np.abs(across).max()), float(np.abs(down).max())
        draw_px = FINENESS * focal_px
        self.draw_size = _even(2 * most_across * draw_px), _even(2 * most_down * draw_px)
        # TORCS's pixels are square: the vertical field of view and the size fix the horizontal one.
        draw_px = min(0.5 * self.draw_size[0] / most_across, 0.5 * self.draw_size[1] / most_down)
        self.fovy_deg = math.degrees(2 * math.atan(0.5 * self.draw_size[1] / draw_px))
        x = across * draw_px + 0.5 * self.draw_size[0] - 0.5
        y = down * draw_px + 0.5 * self.draw_size[1] - 0.5
        self._map = cv2.convertMaps(x.astype(np.float32), y.astype(np.float32), cv2.CV_16SC2)

    def develop(self, drawn: np.ndarray) -> np.ndarray:
        """The camera's picture (h, w, 3) uint8, from the drawn one; a copy."""
        if self._map is None:
            return np.ascontiguousarray(drawn)
        return cv2.remap(
            np.ascontiguousarray(drawn), *self._map, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )


def _even(pixels: float) -> int:
    return 2 * math.ceil(pixels / 2)

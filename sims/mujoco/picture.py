"""The car's camera: MuJoCo's renderer, and a warp that gives its pinhole pictures the lens of the profile.

MuJoCo draws pinhole pictures only. A wide fisheye needs two of them, looking to the left and to the right of the axis,
side by side in one buffer; a table says where each pixel of the camera comes from. Knows no roads.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import cv2
import mujoco
import numpy as np

from sims.mujoco.graphics import GRAPHICS
from sims.track import rays
from sims.world import WorldError

DENSITY = 2.0  # pixels drawn for one of the camera, each way, on the axis of a view; more towards its borders
FINE = 2  # pixels looked up for one of the camera, each way
MARGIN_PX = 2


# ---- lens --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """A pinhole picture: turned by `yaw_rad` (left) from the camera's axis; bounds are tangents in its plane."""

    yaw_rad: float
    low: float
    high: float
    centre: float
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Lens:
    """How to draw a camera's picture: the views, left to right in the buffer, and the table for `cv2.remap` (rows of
    the buffer counted from below, as OpenGL gives them)."""

    views: tuple[View, ...]
    map_x: np.ndarray
    map_y: np.ndarray
    size: tuple[int, int]


def directions(camera, width: int, height: int) -> np.ndarray:
    """(height, width, 3) unit vectors forward, left, up of the pixels of a camera (a `look.CAMERA` record)."""
    f = rays.focal_px(camera, width)
    u, v = np.meshgrid((np.arange(width) + 0.5 - 0.5 * width) / f, (np.arange(height) + 0.5 - 0.5 * height) / f)
    r = np.hypot(u, v)
    a = np.minimum(r, 3.1) if camera["fisheye"] else np.arctan(r)
    sine = np.where(r > 1e-6, np.sin(a) / np.maximum(r, 1e-6), 1.0)
    return np.stack([np.cos(a), -sine * u, -sine * v], -1)


def make_lens(camera, size: tuple[int, int]) -> Lens:
    """Views and table of a camera whose picture has `size` (width, height)."""
    ways = directions(camera, FINE * size[0], FINE * size[1])
    density = DENSITY * rays.focal_px(camera, size[0])
    halves = (ways[..., 1] > 0, ways[..., 1] <= 0) if camera["fisheye"] else (np.ones(ways.shape[:2], bool),)
    map_x, map_y = np.zeros(ways.shape[:2], np.float32), np.zeros(ways.shape[:2], np.float32)
    heights, planes = [], []
    for half in halves:
        yaw = np.arctan2(ways[half][:, 1], ways[half][:, 0])
        turn = float(0.5 * (yaw.min() + yaw.max())) if len(halves) > 1 else 0.0
        c, s = np.cos(turn), np.sin(turn)
        ahead = c * ways[half][:, 0] + s * ways[half][:, 1]
        across = (s * ways[half][:, 0] - c * ways[half][:, 1]) / ahead  # to the right
        up = ways[half][:, 2] / ahead
        planes.append((half, turn, across, up))
        heights.append(np.abs(up).max())
    rows = int(np.ceil(2 * max(heights) * density)) + 2 * MARGIN_PX
    views, at = [], 0
    for half, turn, across, up in planes:
        columns = int(np.ceil((across.max() - across.min()) * density)) + 2 * MARGIN_PX
        centre = 0.5 * float(across.min() + across.max())
        map_x[half] = at + columns / 2 + (across - centre) * density - 0.5
        map_y[half] = rows / 2 + up * density - 0.5
        views.append(View(turn, -rows / 2 / density, rows / 2 / density, centre, columns, rows))
        at += columns
    return Lens(tuple(views), *cv2.convertMaps(map_x, map_y, cv2.CV_16SC2), size)


# ---- camera ------------------------------------------------------------------------------------------------------


class Eye:
    """The camera of one model, mounted on its chassis. `camera` is a `look.CAMERA` record, `size` (width, height).
    `close` lets its graphics memory go; a forgotten eye does so when it is collected."""

    def __init__(self, model, camera, size: tuple[int, int]):
        self._model, self._camera, self.lens = model, camera.copy(), make_lens(camera, size)
        self._mount = rays.rotation(self._camera)
        self._chassis = model.body("chassis").id
        width = sum(view.width_px for view in self.lens.views)
        height = self.lens.views[0].height_px
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._scene, self._option = mujoco.MjvScene(model, maxgeom=model.ngeom + 16), mujoco.MjvOption()
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE):
            self._scene.flags[flag] = 0
        self._free = mujoco.MjvCamera()
        self._buffer = np.zeros((height, width, 3), np.uint8)
        GRAPHICS.join()
        try:
            with GRAPHICS.current():
                self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        except BaseException:
            GRAPHICS.leave()
            raise
        self.close = weakref.finalize(self, _release, self._context)

    def look(self, data) -> np.ndarray:
        """The picture (h, w, 3) uint8 RGB as things stand in `data`."""
        if not self.close.alive:
            raise WorldError("mujoco: this camera has been closed")
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_camlight(self._model, data)
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._free, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        whole = mujoco.MjrRect(0, 0, self._buffer.shape[1], self._buffer.shape[0])
        with GRAPHICS.current():
            # Each eye has a buffer of its own; the last one used is still bound.
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
            at = 0
            for view in self.lens.views:
                self._aim(data, view)
                mujoco.mjr_render(mujoco.MjrRect(at, 0, view.width_px, view.height_px), self._scene, self._context)
                at += view.width_px
            mujoco.mjr_readPixels(self._buffer, None, whole, self._context)
        fine = cv2.remap(self._buffer, self.lens.map_x, self.lens.map_y, cv2.INTER_LINEAR)
        return cv2.resize(fine, self.lens.size, interpolation=cv2.INTER_AREA)

    def _aim(self, data, view: View) -> None:
        camera, near = self._camera, 0.02
        turn = data.xmat[self._chassis].reshape(3, 3)
        position = data.xpos[self._chassis] + turn @ [camera["x"], camera["y"], camera["z"]]
        c, s = np.cos(view.yaw_rad), np.sin(view.yaw_rad)
        frame = turn @ self._mount
        for gl in self._scene.camera:
            gl.pos, gl.forward, gl.up = position, frame @ [c, s, 0.0], frame[:, 2]
            gl.frustum_bottom, gl.frustum_top = near * view.low, near * view.high
            gl.frustum_center, gl.frustum_width = near * view.centre, 0.0
            gl.frustum_near, gl.frustum_far, gl.orthographic = near, 80.0, 0


def _release(context) -> None:
    with GRAPHICS.current():
        context.free()
    GRAPHICS.leave()

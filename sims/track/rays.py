"""Where the pixels of a camera look: per-pixel tables for pinhole and equidistant fisheye lenses, and projection.

Knows cameras only. Tables are in the ego frame; a pixel either meets the ground (`code` < 0) or looks above the horizon.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from sims.track.look import MIRROR_ROWS, PANO_COLUMNS, PANO_ROWS

FAR_M = 40.0
TABLE = 1024


@njit(cache=True)
def _lens_tables(limit2, fisheye, sines, cosines):
    """sin(a) / r and cos(a) as functions of r^2, r in units of the focal length."""
    for k in range(TABLE + 2):
        r2 = limit2 * k / TABLE
        r = math.sqrt(r2)
        a = min(r, 3.1) if fisheye else math.atan(r)
        sines[k] = math.sin(a) / r if r > 1e-6 else 1.0
        cosines[k] = math.cos(a)


@njit(cache=True, inline="always")
def _fast_atan2(y, x):
    ax, ay = abs(x), abs(y)
    low, high = min(ax, ay), max(ax, ay)
    t = low / high if high > 0 else 0.0
    t2 = t * t
    r = ((-0.0464964749 * t2 + 0.15931422) * t2 - 0.327622764) * t2 * t + t
    if ay > ax:
        r = 1.57079637 - r
    if x < 0:
        r = 3.14159274 - r
    return -r if y < 0 else r


@njit(cache=True)
def focal_px(cam, width):
    """Focal length in pixels."""
    half = 0.5 * cam.hfov
    return 0.5 * width / half if cam.fisheye else 0.5 * width / math.tan(half)


@njit(cache=True)
def rotation(cam):
    """ego_from_camera, 3 x 3; camera axes are forward, left, up."""
    cp, sp = math.cos(cam.pitch), math.sin(cam.pitch)
    cr, sr = math.cos(cam.roll), math.sin(cam.roll)
    cy, sy = math.cos(cam.yaw), math.sin(cam.yaw)
    m = np.empty((3, 3))
    m[0, 0], m[0, 1], m[0, 2] = cy * cp, -sy * cr + cy * sp * sr, sy * sr + cy * sp * cr
    m[1, 0], m[1, 1], m[1, 2] = sy * cp, cy * cr + sy * sp * sr, -cy * sr + sy * sp * cr
    m[2, 0], m[2, 1], m[2, 2] = -sp, cp * sr, cp * cr
    return m


@njit(cache=True)
def _trace_one(cam, along, across, code):
    """Fill the tables (h, w) of one camera. Ground pixels: `along`, `across` are the ground point in the ego frame [m].
    Others: the direction divided by its upward part. `code`: panorama row * columns + column, bitwise inverted on the
    ground."""
    height, width = along.shape
    f = focal_px(cam, width)
    m = rotation(cam)
    sines, cosines = np.empty(TABLE + 2), np.empty(TABLE + 2)
    limit2 = (width * width + height * height) / (4.0 * f * f) * 1.001
    _lens_tables(limit2, cam.fisheye, sines, cosines)
    scale = TABLE / limit2
    for row in range(height):
        v = (row + 0.5 - 0.5 * height) / f
        for col in range(width):
            u = (col + 0.5 - 0.5 * width) / f
            k = (u * u + v * v) * scale
            i = int(k)
            t = k - i
            sine = sines[i] + t * (sines[i + 1] - sines[i])
            forward = cosines[i] + t * (cosines[i + 1] - cosines[i])
            left, up = -sine * u, -sine * v
            dx = m[0, 0] * forward + m[0, 1] * left + m[0, 2] * up
            dy = m[1, 0] * forward + m[1, 1] * left + m[1, 2] * up
            dz = m[2, 0] * forward + m[2, 1] * left + m[2, 2] * up
            column = int(_fast_atan2(dy, dx) * (PANO_COLUMNS / (2.0 * math.pi)) + PANO_COLUMNS) & (PANO_COLUMNS - 1)
            if dz < -cam.z / FAR_M:
                gain = -cam.z / dz
                along[row, col] = cam.x + gain * dx
                across[row, col] = cam.y + gain * dy
                depth = min(int(-dz * MIRROR_ROWS), MIRROR_ROWS - 1) + PANO_ROWS
                code[row, col] = ~(depth * PANO_COLUMNS + column)
            else:
                dz = max(dz, 1e-5)
                along[row, col] = dx / dz
                across[row, col] = dy / dz
                code[row, col] = min(int(dz * PANO_ROWS), PANO_ROWS - 1) * PANO_COLUMNS + column


@njit(cache=True)
def trace_serial(which, cameras, along, across, code):
    """Tables of the cameras `which`, on this thread."""
    for m in range(len(which)):
        _trace_one(cameras[which[m]], along[which[m]], across[which[m]], code[which[m]])


@njit(cache=True, parallel=True)
def trace_parallel(which, cameras, along, across, code):
    """Tables of the cameras `which`, on all threads."""
    for m in prange(len(which)):
        _trace_one(cameras[which[m]], along[which[m]], across[which[m]], code[which[m]])


@njit(cache=True)
def project(cam, m, f, x, y, z, width, height):
    """(column, row) of an ego-frame point; far outside the picture when it is behind a pinhole."""
    px, py, pz = x - cam.x, y - cam.y, z - cam.z
    forward = m[0, 0] * px + m[1, 0] * py + m[2, 0] * pz
    left = m[0, 1] * px + m[1, 1] * py + m[2, 1] * pz
    up = m[0, 2] * px + m[1, 2] * py + m[2, 2] * pz
    side = math.sqrt(left * left + up * up)
    if side < 1e-9:
        return 0.5 * width, 0.5 * height
    a = math.atan2(side, forward)
    r = f * a if cam.fisheye else f * math.tan(min(a, 1.5))
    return 0.5 * width - r * left / side, 0.5 * height - r * up / side

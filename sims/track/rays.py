"""Where the pixels of a camera look: per-pixel tables for pinhole and equidistant fisheye lenses, and projection.

Knows cameras only. Tables are in the ego frame; a pixel either meets the ground (`code` < 0) or looks above the
horizon.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

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


@njit(cache=True, inline="always", fastmath=True)
def _fast_atan2(y, x):
    """Within 0.005 rad: good enough to pick a column of the panorama."""
    ax, ay = abs(x), abs(y)
    t = min(ax, ay) / (max(ax, ay) + np.float32(1e-12))
    t2 = t * t
    r = t + t * t2 * (np.float32(-0.327622764) + t2 * (np.float32(0.15931422) + t2 * np.float32(-0.0464964749)))
    if ay > ax:
        r = np.float32(1.57079637) - r
    if x < 0:
        r = np.float32(3.14159274) - r
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


@njit(cache=True, fastmath=True)
def _trace_one(cam, along, across, code):
    """Fill the tables (h, w) of one camera. Ground pixels: `along`, `across` are the ground point in the ego frame [m].
    Others: the direction divided by its upward part. `code`: panorama row * columns + column, bitwise inverted on the
    ground."""
    height, width = along.shape
    f = focal_px(cam, width)
    m = rotation(cam)
    sines, cosines = np.empty(TABLE + 2, np.float32), np.empty(TABLE + 2, np.float32)
    limit2 = (width * width + height * height) / (4.0 * f * f) * 1.001
    _lens_tables(limit2, cam.fisheye, sines, cosines)
    scale = np.float32(TABLE / limit2)
    m00, m01, m02 = np.float32(m[0, 0]), np.float32(m[0, 1]), np.float32(m[0, 2])
    m10, m11, m12 = np.float32(m[1, 0]), np.float32(m[1, 1]), np.float32(m[1, 2])
    m20, m21, m22 = np.float32(m[2, 0]), np.float32(m[2, 1]), np.float32(m[2, 2])
    cam_x, cam_y, cam_z = np.float32(cam.x), np.float32(cam.y), np.float32(cam.z)
    near_level = np.float32(-cam.z / FAR_M)
    per_turn = np.float32(PANO_COLUMNS / (2.0 * math.pi))
    inv_f, mid_u = np.float32(1.0 / f), np.float32(0.5 - 0.5 * width)
    for row in range(height):
        v = np.float32((row + 0.5 - 0.5 * height) / f)
        for col in range(width):
            u = (np.float32(col) + mid_u) * inv_f
            k = (u * u + v * v) * scale
            i = np.uint32(k)
            t = k - np.float32(i)
            j = i + np.uint32(1)
            sine = sines[i] + t * (sines[j] - sines[i])
            forward = cosines[i] + t * (cosines[j] - cosines[i])
            left, up = -sine * u, -sine * v
            dx = m00 * forward + m01 * left + m02 * up
            dy = m10 * forward + m11 * left + m12 * up
            dz = m20 * forward + m21 * left + m22 * up
            column = np.int32(_fast_atan2(dy, dx) * per_turn + np.float32(PANO_COLUMNS)) & (PANO_COLUMNS - 1)
            if dz < near_level:
                gain = -cam_z / dz
                along[row, col] = cam_x + gain * dx
                across[row, col] = cam_y + gain * dy
                depth = min(np.int32(-dz * np.float32(MIRROR_ROWS)), MIRROR_ROWS - 1) + PANO_ROWS
                code[row, col] = ~(depth * PANO_COLUMNS + column)
            else:
                dz = max(dz, np.float32(1e-5))
                gain = np.float32(1.0) / dz
                along[row, col] = dx * gain
                across[row, col] = dy * gain
                code[row, col] = min(np.int32(dz * np.float32(PANO_ROWS)), PANO_ROWS - 1) * PANO_COLUMNS + column


@njit(cache=True, nogil=True)
def trace(which, cameras, along, across, code):
    """Tables of the cameras `which`."""
    for m in range(len(which)):
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

"""Bodies in the picture: cars, cones and boxes by ray casting, only inside their projected bounds.

Draws into a linear float image and a class map. Knows cameras and bodies, no roads.
"""

from __future__ import annotations

import math

from numba import njit

from sims.track.rays import focal_px, project, rotation

CAR, CONE, BOX = 0, 1, 2
CLASS_CAR, CLASS_CONE = 4, 5
# columns of a prop
KIND, PX, PY, PYAW, LENGTH, WIDTH, HEIGHT, RED, GREEN, BLUE, BAND, DIST = range(12)
MAX_PROPS = 48


@njit(cache=True, inline="always")
def _slab(ox, oy, oz, dx, dy, dz, hx, hy, z0, z1):
    """(distance, face) where a ray enters a box centred on the z axis; distance -1 for a miss. Faces: 0 rear, 1 front,
    2 side, 3 top or bottom."""
    near, far, face = 1e-4, 1e9, -1
    ix = 1.0 / dx if abs(dx) > 1e-12 else 1e12
    a, b = (-hx - ox) * ix, (hx - ox) * ix
    if min(a, b) > near:
        near = min(a, b)
        face = 0 if a < b else 1
    far = min(far, max(a, b))
    iy = 1.0 / dy if abs(dy) > 1e-12 else 1e12
    a, b = (-hy - oy) * iy, (hy - oy) * iy
    if min(a, b) > near:
        near = min(a, b)
        face = 2
    far = min(far, max(a, b))
    iz = 1.0 / dz if abs(dz) > 1e-12 else 1e12
    a, b = (z0 - oz) * iz, (z1 - oz) * iz
    if min(a, b) > near:
        near = min(a, b)
        face = 3
    far = min(far, max(a, b))
    if near > far or face < 0:
        return -1.0, -1
    return near, face


@njit(cache=True, inline="always")
def _shade(face):
    return 0.75 if face == 0 else 0.8 if face == 1 else 0.6 if face == 2 else 1.1


@njit(cache=True)
def _car(p, ox, oy, oz, dx, dy, dz):
    """(hit, r, g, b) of a ray with a car: body with wheels and lights, and a cabin with windows."""
    hx, hy, top = 0.5 * p[LENGTH], 0.5 * p[WIDTH], p[HEIGHT]
    waist = 0.58 * top
    t1, face1 = _slab(ox, oy, oz, dx, dy, dz, hx, hy, 0.1 * top, waist)
    t2, face2 = _slab(ox + 0.08 * hx, oy, oz, dx, dy, dz, 0.55 * hx, 0.82 * hy, waist, top)
    if t1 < 0 and t2 < 0:
        return False, 0.0, 0.0, 0.0
    if t2 >= 0 and (t1 < 0 or t2 < t1):
        if face2 == 3:
            return True, 1.1 * p[RED], 1.1 * p[GREEN], 1.1 * p[BLUE]
        return True, 0.05, 0.06, 0.08
    x, y, z = ox + t1 * dx, oy + t1 * dy, (oz + t1 * dz) / top
    k = _shade(face1)
    if face1 == 0:
        if z < 0.26:
            return True, 0.02, 0.02, 0.02
        if abs(y) > 0.55 * hy and z > 0.34 and z < 0.5:
            return True, 0.9, 0.03, 0.02
    elif face1 == 1:
        if z < 0.22:
            return True, 0.02, 0.02, 0.02
        if abs(y) > 0.6 * hy and z > 0.3 and z < 0.45:
            return True, 0.95, 0.95, 0.8
    elif face1 == 2 and z < 0.40 and abs(abs(x) - 0.6 * hx) < 0.24 * hx:
        return True, 0.015, 0.015, 0.015
    return True, k * p[RED], k * p[GREEN], k * p[BLUE]


@njit(cache=True)
def _cone(p, ox, oy, oz, dx, dy, dz):
    """(hit, r, g, b) with a cone seen as a flat shape that faces the camera, on a square foot."""
    dist = math.sqrt(ox * ox + oy * oy)
    if dist < 1e-3:
        return False, 0.0, 0.0, 0.0
    nx, ny = -ox / dist, -oy / dist
    closing = dx * nx + dy * ny
    if closing <= 1e-9:
        return False, 0.0, 0.0, 0.0
    t = dist / closing
    z = (oz + t * dz) / p[HEIGHT]
    if z < 0 or z > 1:
        return False, 0.0, 0.0, 0.0
    u = abs((oy + t * dy) * nx - (ox + t * dx) * ny) / (0.5 * p[WIDTH])
    limit = 1.0 if z < 0.08 else 0.74 * (1 - z) + 0.12
    if u > limit:
        return False, 0.0, 0.0, 0.0
    k = 1.0 - 0.45 * (u / limit) ** 2
    if p[BAND] > 0 and z > 0.42 and z < 0.66:
        return True, 0.85 * k, 0.85 * k, 0.82 * k
    return True, k * p[RED], k * p[GREEN], k * p[BLUE]


@njit(cache=True)
def _bounds(p, cam, m, f, height, width):
    """(row0, row1, col0, col1) that hold the body, end exclusive; empty when it is out of sight."""
    c, s = math.cos(p[PYAW]), math.sin(p[PYAW])
    low_u, high_u, low_v, high_v = 1e9, -1e9, 1e9, -1e9
    for k in range(12):
        ux = (0.5 if k & 1 else -0.5) * p[LENGTH] * 1.15
        uy = (0.5 if k & 2 else -0.5) * p[WIDTH] * 1.2
        z = 0.0 if k < 4 else p[HEIGHT] if k < 8 else 0.5 * p[HEIGHT]
        u, v = project(cam, m, f, p[PX] + ux * c - uy * s, p[PY] + ux * s + uy * c, z, width, height)
        low_u, high_u = min(low_u, u), max(high_u, u)
        low_v, high_v = min(low_v, v), max(high_v, v)
    pad_u, pad_v = 1.5 + 0.06 * (high_u - low_u), 1.5 + 0.08 * (high_v - low_v)
    if p[DIST] < 0.7:
        return 0, height, 0, width
    return (
        max(0, int(low_v - pad_v)), min(height, int(high_v + pad_v) + 1),
        max(0, int(low_u - pad_u)), min(width, int(high_u + pad_u) + 1),
    )  # fmt: skip


@njit(cache=True)
def sort_far_first(props, count):
    """Insertion sort by distance, farthest first."""
    for i in range(1, count):
        for j in range(i, 0, -1):
            if props[j, DIST] <= props[j - 1, DIST]:
                break
            for k in range(12):
                props[j, k], props[j - 1, k] = props[j - 1, k], props[j, k]


@njit(cache=True)
def draw_props(props, count, cam, along, across, code, image, classes):
    """Paint the props (ego frame, farthest first) over `image` (h, 3, w) and `classes` (h, w)."""
    height, width = along.shape
    m = rotation(cam)
    f = focal_px(cam, width)
    for i in range(count):
        p = props[i]
        row0, row1, col0, col1 = _bounds(p, cam, m, f, height, width)
        c, s = math.cos(p[PYAW]), math.sin(p[PYAW])
        rx, ry = cam.x - p[PX], cam.y - p[PY]
        ox, oy = rx * c + ry * s, ry * c - rx * s
        kind = int(p[KIND])
        for row in range(row0, row1):
            for col in range(col0, col1):
                ground = code[row, col] < 0
                if ground:
                    ax, ay, dz = along[row, col] - cam.x, across[row, col] - cam.y, -cam.z
                else:
                    ax, ay, dz = along[row, col], across[row, col], 1.0
                dx, dy = ax * c + ay * s, ay * c - ax * s
                if kind == CONE:
                    hit, r, g, b = _cone(p, ox, oy, cam.z, dx, dy, dz)
                elif kind == CAR:
                    hit, r, g, b = _car(p, ox, oy, cam.z, dx, dy, dz)
                else:
                    t, face = _slab(ox, oy, cam.z, dx, dy, dz, 0.5 * p[LENGTH], 0.5 * p[WIDTH], 0.0, p[HEIGHT])
                    hit = t >= 0
                    k = _shade(face)
                    r, g, b = k * p[RED], k * p[GREEN], k * p[BLUE]
                if hit:
                    image[row, 0, col] = r
                    image[row, 1, col] = g
                    image[row, 2, col] = b
                    classes[row, col] = CLASS_CAR if kind == CAR else CLASS_CONE
                elif ground and kind != CONE:
                    # contact shadow
                    gx, gy = abs(ox + dx) / (0.55 * p[LENGTH]), abs(oy + dy) / (0.58 * p[WIDTH])
                    if gx < 1 and gy < 1:
                        image[row, 0, col] *= 0.4
                        image[row, 1, col] *= 0.4
                        image[row, 2, col] *= 0.4

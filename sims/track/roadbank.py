"""Many roads in flat arrays, with a lookup grid of signed distance for each, so that kernels can read them.

A grid cell stores d (signed distance to the reference line, left positive, clipped to the reach of the grid) and s.
Knows roads only: no cars, no pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from sims.road import Road, RoadError

CELL_M = 0.1

META = np.dtype(
    [
        ("x0", "f8"), ("y0", "f8"), ("inv_cell", "f8"), ("nx", "i8"), ("ny", "i8"), ("grid", "i8"),
        ("first", "i8"), ("n", "i8"), ("step", "f8"), ("length", "f8"), ("lanes", "i8"), ("uniform", "i8"),
        ("left", "f8"), ("right", "f8"),
    ]
)  # fmt: skip
# columns of `samples`
X, Y, YAW, KAPPA, LEFT, RIGHT = range(6)


@njit(cache=True, inline="always")
def local_frenet(px, py, x, y, yaw, kappa):
    """(s offset, d) of point p against the osculating circle of a sample, in metres; exact on arcs and straights."""
    dx = px - x
    dy = py - y
    c = math.cos(yaw)
    s = math.sin(yaw)
    u = dx * c + dy * s
    v = dy * c - dx * s
    q = kappa * (u * u + v * v) - 2.0 * v
    root = math.sqrt(max(1.0 + kappa * q, 0.0))
    d = -q / (1.0 + root)
    w = 1.0 - kappa * v
    if abs(kappa) * max(abs(u), abs(v)) < 1e-4 or w <= 1e-6:
        return u, d
    return math.atan2(kappa * u, w) / kappa, d


@njit(cache=True)
def frenet_near(px, py, k, samples, first, n, step):
    """(index, s, d) of p, walking downhill from sample k. s is in [0, n * step)."""
    best = (samples[first + k, X] - px) ** 2 + (samples[first + k, Y] - py) ** 2
    for way in (1, -1):
        moved = False
        for _ in range(n):
            j = (k + way) % n
            dist = (samples[first + j, X] - px) ** 2 + (samples[first + j, Y] - py) ** 2
            if dist >= best:
                break
            best = dist
            k = j
            moved = True
        if moved:
            break
    row = samples[first + k]
    ds, d = local_frenet(px, py, row[X], row[Y], row[YAW], row[KAPPA])
    return k, (k * step + ds) % (n * step), d


@njit(cache=True)
def at_s(s, samples, first, n, step):
    """(x, y, yaw, curvature, left, right) of the reference line at s, metres and rad, linear between samples."""
    pos = (s / step) % n
    i = int(pos)
    if i >= n:
        i = 0
    t = pos - i
    j = i + 1 if i + 1 < n else 0
    a = samples[first + i]
    b = samples[first + j]
    turn = b[YAW] - a[YAW]
    turn -= 2.0 * math.pi * round(turn / (2.0 * math.pi))
    return (
        a[X] + t * (b[X] - a[X]), a[Y] + t * (b[Y] - a[Y]), a[YAW] + t * turn,
        a[KAPPA] + t * (b[KAPPA] - a[KAPPA]), a[LEFT] + t * (b[LEFT] - a[LEFT]), a[RIGHT] + t * (b[RIGHT] - a[RIGHT]),
    )  # fmt: skip


@njit(cache=True)
def _fill_grid(samples, step, x0, y0, cell, nx, ny, reach, outside, grid_d, grid_s):
    n = len(samples)
    nearest = np.full((ny, nx), 1e18)
    owner = np.full((ny, nx), -1, np.int64)
    limit = (reach + cell) ** 2
    for k in range(0, n, 2):
        px, py = samples[k, X], samples[k, Y]
        ix0 = max(0, int((px - reach - x0) / cell))
        ix1 = min(nx - 1, int((px + reach - x0) / cell) + 1)
        iy0 = max(0, int((py - reach - y0) / cell))
        iy1 = min(ny - 1, int((py + reach - y0) / cell) + 1)
        for iy in range(iy0, iy1 + 1):
            dy = y0 + iy * cell - py
            for ix in range(ix0, ix1 + 1):
                dx = x0 + ix * cell - px
                dist = dx * dx + dy * dy
                if dist < limit and dist < nearest[iy, ix]:
                    nearest[iy, ix] = dist
                    owner[iy, ix] = k
    for iy in range(ny):
        sign = outside
        for ix in range(nx):
            k = owner[iy, ix]
            if k < 0:
                grid_d[iy, ix] = sign * reach
                grid_s[iy, ix] = 0.0
                continue
            k, s, d = frenet_near(x0 + ix * cell, y0 + iy * cell, k, samples, 0, n, step)
            grid_d[iy, ix] = min(max(d, -reach), reach)
            grid_s[iy, ix] = s
            sign = 1.0 if d > 0 else -1.0


class RoadBank:
    """Roads as flat arrays: `meta` (META, one per road), `samples` (all samples, 6), `grid_d` and `grid_s` (float32).

    Raises RoadError when there is no road."""

    def __init__(self, roads: Sequence[Road]):
        if not len(roads):
            raise RoadError("a world needs at least one road")
        self.roads = tuple(roads)
        self.meta = np.zeros(len(roads), META)
        samples, grids_d, grids_s, first, cell_first = [], [], [], 0, 0
        for meta, road in zip(self.meta, self.roads, strict=True):
            table = np.column_stack(
                [road.x_m, road.y_m, road.yaw_rad, road.curvature_pm, road.left_m, road.right_m]
            ).astype(np.float64)
            grid_d, grid_s = self._grid(meta, road, table)
            meta["grid"], meta["first"], meta["n"] = cell_first, first, len(table)
            meta["step"], meta["length"], meta["lanes"] = road.step_m, road.length_m, road.lane_count
            meta["uniform"] = np.ptp(road.left_m) < 1e-6 and np.ptp(road.right_m) < 1e-6
            meta["left"], meta["right"] = road.left_m[0], road.right_m[0]
            samples.append(table)
            grids_d.append(grid_d.ravel())
            grids_s.append(grid_s.ravel())
            first += len(table)
            cell_first += grid_d.size
        self.samples = np.concatenate(samples)
        self.grid_d = np.concatenate(grids_d)
        self.grid_s = np.concatenate(grids_s)

    @staticmethod
    def _grid(meta, road, table):
        half = float(max(road.left_m.max(), road.right_m.max()))
        reach = half + max(0.6, min(1.5 * half, 1.5))
        x0, y0 = table[:, X].min() - reach - CELL_M, table[:, Y].min() - reach - CELL_M
        nx = int((table[:, X].max() + reach - x0) / CELL_M) + 3
        ny = int((table[:, Y].max() + reach - y0) / CELL_M) + 3
        meta["x0"], meta["y0"], meta["inv_cell"], meta["nx"], meta["ny"] = x0, y0, 1.0 / CELL_M, nx, ny
        grid_d, grid_s = np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32)
        counter_clockwise = road.yaw_rad[-1] > road.yaw_rad[0]
        outside = -1.0 if counter_clockwise else 1.0
        _fill_grid(table, road.step_m, x0, y0, CELL_M, nx, ny, reach, outside, grid_d, grid_s)
        return grid_d, grid_s

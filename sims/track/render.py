"""The camera of `track`: ground by a lookup of signed distance, lines with the footprint of the pixel, panorama above
the horizon, bodies on top, then lens and sensor. The same pass gives the dense class labels.

Knows arrays only. Every environment is drawn by itself, so pictures do not depend on their number or on threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from sims.track.look import DIVIDER_DASHED, DIVIDER_DOUBLE, DIVIDER_NONE, EDGE_DOUBLE, EDGE_NONE, PANO_COLUMNS
from sims.track.props import (
    BAND,
    BLUE,
    CONE,
    DIST,
    GREEN,
    HEIGHT,
    KIND,
    LENGTH,
    MAX_PROPS,
    PX,
    PY,
    PYAW,
    RED,
    WIDTH,
    draw_props,
    sort_far_first,
)  # fmt: skip
from sims.track.roadbank import at_s
from sims.track.sensor import blur_rows, develop, hash01

CLASSES = ("road", "off_road", "edge_line", "divider", "car", "cone", "above_horizon")
ROAD, OFF_ROAD, EDGE_LINE, DIVIDER, SKY = 0, 1, 2, 3, 6
OUTSIDE_D = np.float32(1e6)


@njit(cache=True, inline="always", fastmath=True)
def _cell(road, wx, wy):
    """(index of the cell's first corner, fractions) of a point given from the grid's corner; index -1 outside."""
    fx = wx * road.inv_cell
    fy = wy * road.inv_cell
    ix, iy = int(fx), int(fy)
    if fx < 0 or fy < 0 or ix >= road.nx - 1 or iy >= road.ny - 1:
        return -1, 0.0, 0.0
    return road.grid + iy * road.nx + ix, fx - ix, fy - iy


@njit(cache=True, fastmath=True)
def _s_at(road, grid_s, wx, wy):
    """s by the grid, with the wrap undone inside the cell."""
    k, tx, ty = _cell(road, wx, wy)
    if k < 0:
        return 0.0
    a, b, c, d = grid_s[k], grid_s[k + 1], grid_s[k + road.nx], grid_s[k + road.nx + 1]
    half = 0.5 * road.length
    b += road.length if b < a - half else -road.length if b > a + half else 0.0
    c += road.length if c < a - half else -road.length if c > a + half else 0.0
    d += road.length if d < a - half else -road.length if d > a + half else 0.0
    return a + tx * (b - a) + ty * (c - a) + tx * ty * (a - b - c + d)


@njit(cache=True)
def _first_ground_row(code):
    """The first row with a pixel that looks at the ground."""
    for row in range(code.shape[0]):
        for col in range(code.shape[1]):
            if code[row, col] < 0:
                return row
    return code.shape[0]


@njit(cache=True, fastmath=True)
def _distances(e, road, grid_d, along, across, code, d, x, y):
    """For every pixel (rows from the first ground row on) the signed distance `d` to the line and its position from the
    grid's corner; d is OUTSIDE_D where there is no road."""
    c, s = np.float32(math.cos(e.yaw_rad)), np.float32(math.sin(e.yaw_rad))
    ex, ey = np.float32(e.x_m - road.x0), np.float32(e.y_m - road.y0)
    nx, inv = road.nx, np.float32(road.inv_cell)
    limit_x, limit_y = np.float32(nx - 1), np.float32(road.ny - 1)
    start, one, wide = road.grid, np.uint64(1), np.uint64(nx)
    for row in range(along.shape[0]):
        for col in range(along.shape[1]):
            x[row, col] = ex + c * along[row, col] - s * across[row, col]
            y[row, col] = ey + s * along[row, col] + c * across[row, col]
        for col in range(along.shape[1]):
            fx, fy = x[row, col] * inv, y[row, col] * inv
            if code[row, col] >= 0 or fx < 0 or fy < 0 or fx >= limit_x or fy >= limit_y:
                d[row, col] = OUTSIDE_D
                continue
            ix, iy = np.int32(fx), np.int32(fy)
            tx, ty = fx - np.float32(ix), fy - np.float32(iy)
            k = np.uint64(start + iy * nx + ix)
            above = k + wide
            low = grid_d[k] + tx * (grid_d[k + one] - grid_d[k])
            high = grid_d[above] + tx * (grid_d[above + one] - grid_d[above])
            d[row, col] = low + ty * (high - low)


@njit(cache=True)
def _straighten(road, samples, grid_s, d, x, y):
    """Where the width of a road varies, bring d to what it would be at the width of its first sample."""
    for row in range(d.shape[0]):
        for col in range(d.shape[1]):
            if d[row, col] < 1e5:
                s = _s_at(road, grid_s, x[row, col], y[row, col])
                _, _, _, _, left, right = at_s(s, samples, road.first, road.n, road.step)
                d[row, col] = (d[row, col] + right) * (road.left + road.right) / (left + right) - road.right


@njit(cache=True, inline="always", fastmath=True)
def _stripe(offset, half, footprint):
    """Share of a footprint (full width) around `offset` that a stripe of half width `half` covers."""
    f = np.float32(0.5) * footprint
    return max(min(offset + f, half) - max(offset - f, -half), np.float32(0.0)) / footprint


@njit(cache=True, fastmath=True)
def _floor(look, road, pano, texture, turn, along, across, code, d, x, y, blotch, image, classes):
    """Panorama, floor and its reflections, without lines. Short loops, each of which becomes SIMD code."""
    height, width = code.shape
    ground = height - len(d)  # the first row of d, x, y and blotch
    columns, turn = np.int32(PANO_COLUMNS - 1), np.int32(turn)
    scale, spread = look.texture_scale, look.texture * np.float32(1 / 32)
    right, left = np.float32(-road.right), np.float32(road.left)
    where, packed, on_road = np.empty(width, np.int32), np.empty(width, np.int32), np.empty(width, np.float32)
    one, least, thin, zero = np.float32(1.0), np.float32(0.3), np.float32(0.3), np.float32(0.0)
    for row in range(height):
        for col in range(width):
            key = code[row, col] ^ (code[row, col] >> 31)
            where[col] = (key & ~columns) + ((key + turn) & columns)
        for col in range(width):
            packed[col] = pano[np.uint32(where[col])]
        if row < ground:
            for ch in range(3):
                sky, shift = look.pano_gain[ch] * np.float32(1 / 255), np.int32(8 * ch)
                for col in range(width):
                    image[row, ch, col] = np.float32((packed[col] >> shift) & 255) * sky
            for col in range(width):
                classes[row, col] = SKY
            continue
        at = row - ground
        for col in range(width):
            where[col] = ((np.int32(y[at, col] * scale) & 255) << 8) | (np.int32(x[at, col] * scale) & 255)
        for col in range(width):
            blotch[at, col] = np.float32(texture[np.uint32(where[col])])
        for col in range(width):
            fade = spread / (one + thin * (along[row, col] * along[row, col] + across[row, col] * across[row, col]))
            value = max(one + blotch[at, col] * fade, least)
            blotch[at, col] = value if code[row, col] < 0 else zero
        for col in range(width):
            on_road[col] = one if (d[at, col] >= right) & (d[at, col] <= left) else zero
        for ch in range(3):
            sky = look.pano_gain[ch] * np.float32(1 / 255)
            shine = sky * look.reflection
            off, more, shift = look.off[ch], look.road[ch] - look.off[ch], np.int32(8 * ch)
            for col in range(width):
                glow = np.float32((packed[col] >> shift) & 255) * (shine if code[row, col] < 0 else sky)
                image[row, ch, col] = blotch[at, col] * (off + on_road[col] * more) + glow
        for col in range(width):
            classes[row, col] = SKY if code[row, col] >= 0 else ROAD if on_road[col] > zero else OFF_ROAD


@njit(cache=True, fastmath=True)
def _lines(look, road, grid_s, d, x, y, blotch, image, classes):
    """Paint edge lines and lane dividers, as far as they cover the footprint of each pixel."""
    height, width = d.shape
    right, lanes = np.float32(-road.right), np.float32(road.lanes)
    lane, length = np.float32(road.left + road.right) / lanes, np.float32(road.length)
    half, one, zero, inv_lane = np.float32(0.5), np.float32(1.0), np.float32(0.0), np.float32(1.0) / lane
    edge_w, divider_w, edge_style, divider_style = look.edge_w, look.divider_w, look.edge_style, look.divider_style
    band = np.float32(2.0) * max(edge_w, divider_w)
    period = look.dash_on + look.dash_off
    repeats = max(one, np.float32(math.floor(length / period + half)))
    per_metre, on, sharp, phase0 = repeats / length, look.dash_on / period, period / np.float32(0.012), look.dash_phase
    wear = look.wear
    footprint, offset = np.empty(width, np.float32), np.empty(width, np.float32)
    most, usual, least = np.float32(3.0), np.float32(0.02), np.float32(0.004)
    for row in range(height):
        before = max(row - 1, 0)
        for col in range(1, width - 1):
            wide = max(abs(d[row, col + 1] - d[row, col - 1]) * half, abs(d[row, col] - d[before, col]))
            footprint[col] = max(wide if wide < most else usual, least)
        footprint[0], footprint[width - 1] = footprint[1], footprint[width - 2]
        for col in range(width):
            border = min(max(np.floor((d[row, col] - right) * inv_lane + half), zero), lanes)
            offset[col] = d[row, col] - right - border * lane
        for col in range(width):
            if abs(offset[col]) >= band + footprint[col]:
                continue
            border = np.floor((d[row, col] - right) * inv_lane + half)
            if border <= zero or border >= lanes:
                if edge_style == EDGE_NONE:
                    continue
                line, inward = EDGE_LINE, offset[col] if border <= zero else -offset[col]
                cover = _stripe(inward - half * edge_w, half * edge_w, footprint[col])
                if edge_style == EDGE_DOUBLE:
                    cover = max(cover, _stripe(inward + edge_w, np.float32(0.4) * edge_w, footprint[col]))
            else:
                if divider_style == DIVIDER_NONE:
                    continue
                line = DIVIDER
                if divider_style == DIVIDER_DOUBLE:
                    cover = _stripe(abs(offset[col]) - divider_w, np.float32(0.35) * divider_w, footprint[col])
                else:
                    cover = _stripe(offset[col], half * divider_w, footprint[col])
                if divider_style == DIVIDER_DASHED and cover > zero:
                    phase = np.float32(_s_at(road, grid_s, x[row, col], y[row, col])) * per_metre + phase0
                    phase -= np.floor(phase)
                    cover *= min(max(min(phase, on - phase) * sharp + half, zero), one)
            if cover < np.float32(0.01):
                continue
            cover *= one - wear * min(max(blotch[row, col] - np.float32(0.6), zero), one)
            for ch in range(3):
                paint = look.edge[ch] if line == EDGE_LINE else look.divider[ch]
                image[row, ch, col] += cover * (paint - image[row, ch, col])
            if cover > half:
                classes[row, col] = line


@njit(cache=True, fastmath=True)
def _tape(look, x, y, image, classes):
    """Stray tape: parallel straight lines in the world, off the road only."""
    c, s = math.cos(look.tape_yaw) / look.tape_gap, math.sin(look.tape_yaw) / look.tape_gap
    half = 0.5 * look.tape_w / look.tape_gap
    for row in range(len(x)):
        for col in range(x.shape[1]):
            if classes[row, col] == OFF_ROAD:
                u = x[row, col] * c + y[row, col] * s
                if abs(u - math.floor(u + 0.5)) < half:
                    for ch in range(3):
                        image[row, ch, col] = look.tape[ch]


@njit(cache=True)
def _add(props, count, e, kind, x, y, yaw, length, width, height, r, g, b, band):
    c, s = math.cos(e.yaw_rad), math.sin(e.yaw_rad)
    dx, dy = x - e.x_m, y - e.y_m
    px, py = dx * c + dy * s, dy * c - dx * s
    dist = math.sqrt(px * px + py * py)
    if count >= MAX_PROPS or px < -0.5 or dist > 25.0:
        return count
    p = props[count]
    p[KIND], p[PX], p[PY], p[PYAW], p[DIST] = kind, px, py, yaw - e.yaw_rad, dist
    p[LENGTH], p[WIDTH], p[HEIGHT] = length, width, height
    p[RED], p[GREEN], p[BLUE], p[BAND] = r, g, b, band
    return count + 1


@njit(cache=True)
def _collect(e, look, road, samples, grid_d, actors, actor_count, props):
    """Everything with a body near the ego: the actors, and stray cones beyond the edges of the road."""
    count = 0
    for a in range(actor_count):
        o = actors[a]
        count = _add(
            props, count, e, o.kind, o.x, o.y, o.yaw, o.length, o.width, o.height, o.red, o.green, o.blue,
            look.cone_band,
        )  # fmt: skip
    if look.cones <= 0:
        return count
    slots = max(int(road.length / look.cone_gap), 1)
    gap = road.length / slots
    first = int(math.floor((e.s_m - 1.0) / gap))
    for k in range(int(10.0 / gap) + 1):
        slot = (first + k) % slots
        for side in range(2):
            if hash01(look.seed, slot, side) > look.cones:
                continue
            s = (slot + 0.5 * hash01(look.seed, slot, side + 2)) * gap
            x, y, yaw, _, left, right = at_s(s, samples, road.first, road.n, road.step)
            out = look.cone_off + 0.3 * hash01(look.seed, slot, side + 4)
            d = left + out if side == 0 else -right - out
            x, y = x - d * math.sin(yaw), y + d * math.cos(yaw)
            cell, _, _ = _cell(road, x - road.x0, y - road.y0)
            if cell >= 0 and -right - 0.1 < grid_d[cell] < left + 0.1:
                continue
            size = 0.8 + 0.5 * hash01(look.seed, slot, 9)
            count = _add(
                props, count, e, CONE, x, y, yaw, 0.13 * size, 0.13 * size, 0.2 * size, look.cone[0], look.cone[1],
                look.cone[2], look.cone_band,
            )  # fmt: skip
    return count


@njit(cache=True)
def _draw_one(i, views, state, meta, samples, grid_d, grid_s, actors, counts, image, classes):
    looks, cameras, along, across, code, pano, texture = views
    e, look, cam = state[i], looks[i], cameras[i]
    road = meta[e.road]
    height, width = along.shape[1], along.shape[2]
    columns = PANO_COLUMNS / (2.0 * math.pi)
    turn = int(math.floor(e.yaw_rad * columns)) + look.pano_shift + 16 * PANO_COLUMNS
    forward, leftward, keys = along[i], across[i], code[i]
    top = _first_ground_row(keys)
    planes = np.empty((4, height - top, width), np.float32)
    d, x, y, blotch = planes[0], planes[1], planes[2], planes[3]
    _distances(e, road, grid_d, forward[top:], leftward[top:], keys[top:], d, x, y)
    if not road.uniform:
        _straighten(road, samples, grid_s, d, x, y)
    _floor(look, road, pano[look.pano], texture, turn, forward, leftward, keys, d, x, y, blotch, image, classes)
    ground, ground_classes = image[top:], classes[top:]
    if look.tape_style == 1:
        _tape(look, x, y, ground, ground_classes)
    _lines(look, road, grid_s, d, x, y, blotch, ground, ground_classes)
    props = np.empty((MAX_PROPS, 12))
    count = _collect(e, look, road, samples, grid_d, actors[i], counts[i], props)
    if count > 0:
        sort_far_first(props, count)
        draw_props(props, count, cam, forward, leftward, keys, image, classes)


@njit(cache=True)
def _picture_one(i, views, noise, state, meta, samples, grid_d, grid_s, actors, counts, out):
    height, width = out.shape[0], out.shape[1] // 3
    image = np.empty((height, 3, width), np.float32)
    classes = np.empty((height, width), np.uint8)
    _draw_one(i, views, state, meta, samples, grid_d, grid_s, actors, counts, image, classes)
    e, look = state[i], views[0][i]
    if look.blur > 0.01:
        blur_rows(image, 1, look.blur)
    reach = int(look.motion * abs(e.yaw_rate_radps) * 0.02 * width + 0.5)
    for k in range(1, min(reach, 4) + 1):
        blur_rows(image, k, 0.25)
    develop(look, e.steps + 7919, noise, image, out)


@njit(cache=True)
def _labels_one(i, views, state, meta, samples, grid_d, grid_s, actors, counts, out):
    height, width = views[2].shape[1], views[2].shape[2]
    image = np.empty((height, 3, width), np.float32)
    classes = np.empty((height, width), np.uint8)
    _draw_one(i, views, state, meta, samples, grid_d, grid_s, actors, counts, image, classes)
    rows, columns = out.shape[0], out.shape[1]
    out[:] = 0
    total = np.zeros((rows, columns), np.float32)
    for y in range(height):
        for x in range(width):
            r, c = y * rows // height, x * columns // width
            out[r, c, classes[y, x]] += 1
            total[r, c] += 1
    for r in range(rows):
        for c in range(columns):
            for k in range(out.shape[2]):
                out[r, c, k] /= total[r, c]


@njit(cache=True, nogil=True)
def pictures(which, views, noise, state, meta, samples, grid_d, grid_s, actors, counts, out):
    """uint8 pictures of the environments `which` into `out` (m, h, 3 w)."""
    for m in range(len(which)):
        _picture_one(which[m], views, noise, state, meta, samples, grid_d, grid_s, actors, counts, out[m])


@njit(cache=True, nogil=True)
def labels(which, views, state, meta, samples, grid_d, grid_s, actors, counts, out):
    """Class shares per patch of the environments `which` into `out` (m, rows, columns, classes)."""
    for m in range(len(which)):
        _labels_one(which[m], views, state, meta, samples, grid_d, grid_s, actors, counts, out[m])

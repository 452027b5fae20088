"""The camera of `track`: ground by a lookup of signed distance, lines with the footprint of the pixel, panorama above the
horizon, bodies on top, then lens and sensor. The same pass gives the dense class labels.

Knows arrays only. Every environment is drawn by itself, so pictures do not depend on their number or on threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from sims.track.look import DIVIDER_DOUBLE, DIVIDER_NONE, DIVIDER_SOLID, EDGE_DOUBLE, EDGE_NONE, PANO_COLUMNS
from sims.track.props import (
    BAND, BLUE, CONE, DIST, GREEN, HEIGHT, KIND, LENGTH, MAX_PROPS, PX, PY, PYAW, RED, WIDTH, draw_props,
    sort_far_first,
)  # fmt: skip
from sims.track.roadbank import at_s

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


@njit(cache=True, fastmath=True)
def _d_row(e, road, grid_d, along, across, code, d_row, x_row, y_row):
    """Signed distance and position from the grid's corner for a row of pixels; OUTSIDE_D where there is no road."""
    c, s = np.float32(math.cos(e.yaw_rad)), np.float32(math.sin(e.yaw_rad))
    ex, ey = np.float32(e.x_m - road.x0), np.float32(e.y_m - road.y0)
    nx, inv = road.nx, np.float32(road.inv_cell)
    limit_x, limit_y = np.float32(nx - 1), np.float32(road.ny - 1)
    start = road.grid
    for col in range(len(along)):
        gx, gy = along[col], across[col]
        wx = ex + c * gx - s * gy
        wy = ey + s * gx + c * gy
        x_row[col] = wx
        y_row[col] = wy
    for col in range(len(along)):
        fx, fy = x_row[col] * inv, y_row[col] * inv
        if code[col] >= 0 or fx < 0 or fy < 0 or fx >= limit_x or fy >= limit_y:
            d_row[col] = OUTSIDE_D
            continue
        ix, iy = np.int32(fx), np.int32(fy)
        tx, ty = fx - np.float32(ix), fy - np.float32(iy)
        k = np.uint64(start + iy * nx + ix)
        above = k + np.uint64(nx)
        one = np.uint64(1)
        low = grid_d[k] + tx * (grid_d[k + one] - grid_d[k])
        high = grid_d[above] + tx * (grid_d[above + one] - grid_d[above])
        d_row[col] = low + ty * (high - low)


@njit(cache=True, inline="always", fastmath=True)
def _stripe(offset, half, footprint):
    """Share of a footprint (full width) around `offset` that a stripe of half width `half` covers."""
    f = 0.5 * footprint
    return max(min(offset + f, half) - max(offset - f, -half), 0.0) / footprint


@njit(cache=True, fastmath=True)
def _line(look, road, samples, grid_s, wx, wy, d, footprint):
    """(class, coverage) of the line nearest to a ground point."""
    left, right = road.left, -road.right
    if not road.uniform:
        _, _, _, _, left, right = at_s(_s_at(road, grid_s, wx, wy), samples, road.first, road.n, road.step)
        right = -right
    lane = (left - right) / road.lanes
    border = int(math.floor((d - right) / lane + 0.5))
    base = ROAD if right <= d <= left else OFF_ROAD
    border = min(max(border, 0), road.lanes)
    offset = d - right - border * lane
    if border == 0 or border == road.lanes:
        if look.edge_style == EDGE_NONE:
            return base, 0.0
        w = look.edge_w
        inward = offset if border == 0 else -offset
        cover = _stripe(inward - 0.5 * w, 0.5 * w, footprint)
        if look.edge_style == EDGE_DOUBLE:
            cover = max(cover, _stripe(inward + w, 0.4 * w, footprint))
        return (base, 0.0) if cover < 0.01 else (base + 10 * EDGE_LINE, cover)
    w = look.divider_w
    if look.divider_style == DIVIDER_NONE or abs(offset) > 1.5 * w + footprint:
        return base, 0.0
    if look.divider_style == DIVIDER_DOUBLE:
        return base + 10 * DIVIDER, min(_stripe(abs(offset) - w, 0.35 * w, footprint), 1.0)
    cover = _stripe(offset, 0.5 * w, footprint)
    if look.divider_style != DIVIDER_SOLID and cover > 0.0:
        period = look.dash_on + look.dash_off
        repeats = max(1.0, math.floor(road.length / period + 0.5))
        phase = (_s_at(road, grid_s, wx, wy) / road.length * repeats + look.dash_phase) % 1.0
        on = look.dash_on / period
        soft = 0.012 / period
        edge = min(phase, on - phase) / soft + 0.5
        cover *= min(max(edge, 0.0), 1.0)
    return (base, 0.0) if cover < 0.01 else (base + 10 * DIVIDER, cover)


@njit(cache=True, fastmath=True)
def _tape(look, wx, wy):
    """Coverage of stray tape: parallel straight lines in the world, drawn off the road only."""
    u = (wx * math.cos(look.tape_yaw) + wy * math.sin(look.tape_yaw)) / look.tape_gap
    return 1.0 if abs(u - math.floor(u + 0.5)) * look.tape_gap < 0.5 * look.tape_w else 0.0


@njit(cache=True, fastmath=True)
def _ground_row(
    look, road, samples, grid_s, pano, texture, turn, along, across, code, d_row, d_before, x_row, y_row, image, classes
):
    """Shade one row: ground pixels by distance to the lines, the others from the panorama."""
    # everything that stays is read once: stores into the image could alias the records, as the compiler sees it
    width = len(code)
    scale, spread, wear = look.texture_scale, look.texture, look.wear
    sky_r, sky_g, sky_b = look.pano_gain[0] / 255, look.pano_gain[1] / 255, look.pano_gain[2] / 255
    shine_r, shine_g, shine_b = look.reflection * sky_r, look.reflection * sky_g, look.reflection * sky_b
    road_r, road_g, road_b = look.road[0], look.road[1], look.road[2]
    off_r, off_g, off_b = look.off[0], look.off[1], look.off[2]
    edge_r, edge_g, edge_b = look.edge[0], look.edge[1], look.edge[2]
    mid_r, mid_g, mid_b = look.divider[0], look.divider[1], look.divider[2]
    taped = look.tape_style == 1
    right, left, lanes = np.float32(-road.right), np.float32(road.left), np.int32(road.lanes)
    lane = (left - right) / np.float32(lanes)
    inv_lane, uniform = np.float32(1.0) / lane, road.uniform
    band = np.float32(2.0) * max(look.edge_w, look.divider_w)
    columns = np.int32(PANO_COLUMNS - 1)
    turn = np.int32(turn)
    half = np.float32(0.5)
    for col in range(width):
        key = code[col]
        if key >= 0:
            packed = pano[(key & ~columns) + ((key + turn) & columns)]
            image[3 * col] = np.float32(packed & 255) * sky_r
            image[3 * col + 1] = np.float32((packed >> 8) & 255) * sky_g
            image[3 * col + 2] = np.float32((packed >> 16) & 255) * sky_b
            classes[col] = SKY
            continue
        key = ~key
        packed = pano[(key & ~columns) + ((key + turn) & columns)]
        d, wx, wy = d_row[col], x_row[col], y_row[col]
        range2 = along[col] * along[col] + across[col] * across[col]
        blotch = texture[(np.int32(wy * scale) & 255) * 256 + (np.int32(wx * scale) & 255)]
        blotch = np.float32(1.0) + blotch * spread / (np.float32(1.0) + np.float32(0.3) * range2)
        blotch = max(blotch, np.float32(0.3))
        on_road = right <= d <= left
        line, cover = 0, np.float32(0.0)
        if d < 1e5:
            before, after = d_row[max(col - 1, 0)], d_row[min(col + 1, width - 1)]
            footprint = max(abs(after - before) * half, abs(d - d_before[col]))
            footprint = max(footprint if footprint < 3.0 else np.float32(0.02), np.float32(0.004))
            border = min(max(math.floor((d - right) * inv_lane + half), np.float32(0.0)), np.float32(lanes))
            if abs(d - right - border * lane) < band + footprint or not uniform:
                kind, cover = _line(look, road, samples, grid_s, wx, wy, d, footprint)
                on_road, line = kind % 10 == ROAD, kind // 10
                cover *= np.float32(1.0) - wear * min(max(blotch - np.float32(0.6), np.float32(0.0)), np.float32(1.0))
        if on_road:
            r, g, b = road_r * blotch, road_g * blotch, road_b * blotch
        else:
            r, g, b = off_r * blotch, off_g * blotch, off_b * blotch
            if taped and line == 0 and _tape(look, wx, wy) > 0:
                r, g, b = look.tape[0], look.tape[1], look.tape[2]
        if line == EDGE_LINE:
            r, g, b = r + cover * (edge_r - r), g + cover * (edge_g - g), b + cover * (edge_b - b)
        elif line == DIVIDER:
            r, g, b = r + cover * (mid_r - r), g + cover * (mid_g - g), b + cover * (mid_b - b)
        image[3 * col] = r + np.float32(packed & 255) * shine_r
        image[3 * col + 1] = g + np.float32((packed >> 8) & 255) * shine_g
        image[3 * col + 2] = b + np.float32((packed >> 16) & 255) * shine_b
        classes[col] = line if line > 0 and cover > half else ROAD if on_road else OFF_ROAD


@njit(cache=True)
def _hash01(seed, a, b):
    h = (np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)) ^ (np.uint64(a) * np.uint64(0xBF58476D1CE4E5B9))
    h ^= np.uint64(b) * np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(32)
    return float(h >> np.uint64(40)) / 16777216.0


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
            props, count, e, o.kind, o.x, o.y, o.yaw, o.length, o.width, o.height, o.red, o.green, o.blue, look.cone_band
        )
    if look.cones <= 0:
        return count
    slots = max(int(road.length / look.cone_gap), 1)
    gap = road.length / slots
    first = int(math.floor((e.s_m - 1.0) / gap))
    for k in range(int(10.0 / gap) + 1):
        slot = (first + k) % slots
        for side in range(2):
            if _hash01(look.seed, slot, side) > look.cones:
                continue
            s = (slot + 0.5 * _hash01(look.seed, slot, side + 2)) * gap
            x, y, yaw, _, left, right = at_s(s, samples, road.first, road.n, road.step)
            out = look.cone_off + 0.3 * _hash01(look.seed, slot, side + 4)
            d = left + out if side == 0 else -right - out
            x, y = x - d * math.sin(yaw), y + d * math.cos(yaw)
            cell, _, _ = _cell(road, x - road.x0, y - road.y0)
            if cell >= 0 and -right - 0.1 < grid_d[cell] < left + 0.1:
                continue
            size = 0.8 + 0.5 * _hash01(look.seed, slot, 9)
            count = _add(
                props, count, e, CONE, x, y, yaw, 0.13 * size, 0.13 * size, 0.2 * size, look.cone[0], look.cone[1],
                look.cone[2], look.cone_band,
            )  # fmt: skip
    return count


@njit(cache=True, fastmath=True)
def _blur_rows(image, reach, share):
    """Horizontal blur of an interleaved image (h, 3 w) in place: mean of itself and taps `reach` pixels away."""
    height, n = image.shape
    gap = 3 * reach
    row = np.empty(n + 2 * gap, np.float32)
    keep, side = np.float32(1 - 2 * share), np.float32(share)
    for y in range(height):
        line = image[y]
        for k in range(n):
            row[k + gap] = line[k]
        for k in range(gap):
            row[k] = line[k % 3]
            row[n + gap + k] = line[n - 3 + k % 3]
        for k in range(n):
            line[k] = keep * row[k + gap] + side * (row[k] + row[k + 2 * gap])


@njit(cache=True, fastmath=True)
def _develop(e, look, noise, image, out):
    """Vertical blur, vignetting, light, tone curve and noise: linear image (h, 3 w) to uint8 `out`."""
    height, n = image.shape
    side = look.blur * np.float32(0.6)
    keep = np.float32(1.0) - 2 * side
    vignette = np.empty(n, np.float32)
    gain = np.empty(n, np.float32)
    middle = np.float32(n / 6)
    for k in range(n):
        u = (k // 3 + np.float32(0.5) - middle) / middle
        vignette[k] = look.vignette * np.float32(0.6) * u * u
        gain[k] = look.light * look.cast[k % 3]
    curve, level = look.curve, look.noise
    full = np.float32(255.0)
    for y in range(height):
        v = (y + 0.5 - 0.5 * height) / (0.5 * height)
        fall = np.float32(1.0 - 0.4 * look.vignette * v * v)
        above, here, below = image[max(y - 1, 0)], image[y], image[min(y + 1, height - 1)]
        start = int(_hash01(look.seed, e.steps + 7919, y) * (65536 - n))
        row = out[y]
        for k in range(n):
            x = keep * here[k] + side * (above[k] + below[k])
            x *= gain[k] * (fall - vignette[k])
            x = min(x, np.float32(1.0))
            x += curve * x * (np.float32(1.0) - x)
            x = x * full + level * noise[start + k]
            row[k] = np.uint8(min(max(x, np.float32(0.0)), full))


@njit(cache=True)
def _draw_one(i, views, state, meta, samples, grid_d, grid_s, actors, counts, image, classes):
    looks, cameras, along, across, code, pano, texture = views
    e, look, cam = state[i], looks[i], cameras[i]
    road = meta[e.road]
    height, width = along.shape[1], along.shape[2]
    d_row, d_before = np.empty(width, np.float32), np.empty(width, np.float32)
    x_row, y_row = np.empty(width, np.float32), np.empty(width, np.float32)
    columns = PANO_COLUMNS / (2.0 * math.pi)
    turn = int(math.floor(e.yaw_rad * columns)) + look.pano_shift + 16 * PANO_COLUMNS
    for row in range(height):
        d_row, d_before = d_before, d_row
        _d_row(e, road, grid_d, along[i, row], across[i, row], code[i, row], d_row, x_row, y_row)
        if row == 0:
            d_before[:] = d_row
        _ground_row(
            look, road, samples, grid_s, pano[look.pano], texture, turn, along[i, row], across[i, row], code[i, row],
            d_row, d_before, x_row, y_row, image[row], classes[row],
        )  # fmt: skip
    props = np.empty((MAX_PROPS, 12))
    count = _collect(e, look, road, samples, grid_d, actors[i], counts[i], props)
    if count > 0:
        sort_far_first(props, count)
        draw_props(props, count, cam, along[i], across[i], code[i], image, classes)


@njit(cache=True)
def _picture_one(i, views, noise, state, meta, samples, grid_d, grid_s, actors, counts, out):
    height, width = out.shape[0], out.shape[1] // 3
    image = np.empty((height, 3 * width), np.float32)
    classes = np.empty((height, width), np.uint8)
    _draw_one(i, views, state, meta, samples, grid_d, grid_s, actors, counts, image, classes)
    e, look = state[i], views[0][i]
    if look.blur > 0.01:
        _blur_rows(image, 1, look.blur)
    reach = int(look.motion * abs(e.yaw_rate_radps) * 0.02 * width + 0.5)
    for k in range(1, min(reach, 4) + 1):
        _blur_rows(image, k, 0.25)
    _develop(e, look, noise, image, out)


@njit(cache=True)
def _labels_one(i, views, state, meta, samples, grid_d, grid_s, actors, counts, out):
    height, width = views[2].shape[1], views[2].shape[2]
    image = np.empty((height, 3 * width), np.float32)
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


@njit(cache=True, parallel=True)
def pictures_parallel(which, views, noise, state, meta, samples, grid_d, grid_s, actors, counts, out):
    """uint8 pictures of the environments `which` into `out` (m, h, 3 w), on all threads."""
    for m in prange(len(which)):
        _picture_one(which[m], views, noise, state, meta, samples, grid_d, grid_s, actors, counts, out[m])


@njit(cache=True)
def pictures_serial(which, views, noise, state, meta, samples, grid_d, grid_s, actors, counts, out):
    """uint8 pictures of the environments `which` into `out` (m, h, 3 w), on this thread."""
    for m in range(len(which)):
        _picture_one(which[m], views, noise, state, meta, samples, grid_d, grid_s, actors, counts, out[m])


@njit(cache=True)
def labels_serial(which, views, state, meta, samples, grid_d, grid_s, actors, counts, out):
    """Class shares per patch of the environments `which` into `out` (m, rows, columns, classes)."""
    for m in range(len(which)):
        _labels_one(which[m], views, state, meta, samples, grid_d, grid_s, actors, counts, out[m])

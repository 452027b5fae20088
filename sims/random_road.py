"""Random closed roads from a seed: ovals, hairpins, S-bends and straights for one to three lanes, either way round.

Method: the outline of a random block of cells, or corners pushed in and out from a circle, smoothed and made as large
as the innermost lane needs it, and checked for overlap; a candidate that fails is thrown away and the next one drawn.
"""

from __future__ import annotations

import numpy as np

from sims.road import Road, RoadError, road_from_points

MIN_INNER_RADIUS_M = 0.75  # of the centre of the innermost lane
UNSEEN_ROADS = 1_000_000  # road seeds from here on are never trained on
CLEARANCE_M = 0.5  # at least, between the edges of two parts of the road
_TRIES = 300
_POINTS = 240
_RING = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))


def random_road(
    seed: int,
    lanes: int | None = None,
    lane_width_m: float | None = None,
    length_m: float | None = None,
    name: str | None = None,
) -> Road:
    """A closed road without self-overlap, the same for the same arguments. Lanes 1-3 and lane width 0.5-1.2 m are drawn
    from the seed unless given; `length_m` is a wish (about 15-150 m, met within a half). The innermost lane's
    centre has a radius of at least 0.75 m. Raises RoadError for impossible arguments."""
    rng = np.random.default_rng([abs(int(seed)), 20])
    drawn_lanes, drawn_width = int(rng.integers(1, 4)), float(rng.uniform(0.5, 1.2))
    lanes = drawn_lanes if lanes is None else lanes
    width = drawn_width if lane_width_m is None else lane_width_m
    if not 1 <= lanes <= 3 or not 0.3 <= width <= 3.0:
        raise RoadError(f"random_road: lanes must be 1-3 and lane width 0.3-3 m, got {lanes} and {width}")
    half = 0.5 * lanes * width
    least = max(15.0, 14.0 * half + 8.0)
    if length_m is None:
        long = rng.random() >= 0.85
        length_m = float(rng.uniform(60.0, 150.0) if long else rng.uniform(least, max(60.0, 1.6 * least)))
    radius = MIN_INNER_RADIUS_M + half - 0.5 * width
    name, flip, sides = name or f"random-{seed}", rng.random() < 0.5, np.full(_POINTS, half)
    for attempt in range(_TRIES):
        points = _candidate(rng, length_m, radius, half, tame=attempt / _TRIES)
        if points is None:
            continue
        points = points[::-1] if flip else points
        road = road_from_points(name, *points.T, sides, sides, lanes, meta={"seed": int(seed)})
        if np.abs(road.curvature_pm).max() * radius <= 1.0:
            return road
    points = _oval(max(length_m, least), radius)
    return road_from_points(name, *points.T, sides, sides, lanes, meta={"seed": int(seed)})


def _candidate(rng, length, radius, half, tame):
    """One closed curve (n, 2), or None when it would be too long or meet itself. `tame` 0..1 asks for rounder ones."""
    cell = max(2.4 * radius, 2.0 * half + CLEARANCE_M + 0.2)
    winding = length / cell >= 7 and rng.random() < 0.75 - 0.5 * tame
    if winding:
        shape = _block_outline(rng, length / cell * rng.uniform(0.6, 1.0))
        stretch, sigma = np.array([1.0, rng.uniform(0.8, 1.0)]), rng.uniform(0.26, 0.40)
    else:
        shape = _star(rng, length / (1.5 * cell), tame)
        stretch, sigma = np.array([1.0, rng.uniform(0.45, 1.0)]), rng.uniform(0.12, 0.35)
    turn = rng.uniform(0, 2 * np.pi)
    shape = shape * stretch @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    sides = len(shape)
    curve = _smooth(_even(np.vstack([shape, shape[:1]]), _POINTS), sigma * _POINTS / sides)
    curve = _even(np.vstack([curve, curve[:1]]), _POINTS)
    curve *= length / _perimeter(curve)
    curve *= max(1.0, 1.07 * radius / _sharpest(curve))  # as large as the sharpest bend needs it
    if _perimeter(curve) > 1.5 * length or _overlaps(curve, 2 * half + CLEARANCE_M, np.pi * radius):
        return None
    return curve - curve[0]


def _star(rng, most, tame):
    """Corners pushed in and out from a circle."""
    corners = int(rng.integers(3, np.clip(most, 3, 12) + 1))
    angle = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) / corners
    low = 0.25 + 0.6 * tame if rng.random() < 0.85 else 0.8
    return np.column_stack([np.cos(angle), np.sin(angle)]) * rng.uniform(low, 1.0, corners)[:, None]


def _block_outline(rng, perimeter):
    """Outline of a random block of unit cells without holes: its notches and arms become S-bends and hairpins."""
    cells = {(0, 0)}
    edges = 4
    for _ in range(200):
        if edges >= perimeter:
            break
        x, y = sorted(cells)[rng.integers(len(cells))]
        dx, dy = ((1, 0), (-1, 0), (0, 1), (0, -1))[rng.integers(4)]
        new = (x + dx, y + dy)
        ring = [(new[0] + i, new[1] + j) in cells for i, j in _RING]
        if new in cells or sum(a != b for a, b in zip(ring, ring[1:] + ring[:1], strict=True)) != 2:
            continue  # it would close a hole or touch at a corner only
        touching = sum(ring[k] for k in (0, 2, 4, 6))
        if touching == 0:
            continue
        cells.add(new)
        edges += 4 - 2 * touching
    following = {}
    for x, y in cells:
        for start, end, beyond in (
            ((x, y), (x + 1, y), (x, y - 1)),
            ((x + 1, y), (x + 1, y + 1), (x + 1, y)),
            ((x + 1, y + 1), (x, y + 1), (x, y + 1)),
            ((x, y + 1), (x, y), (x - 1, y)),
        ):
            if beyond not in cells:
                following[start] = end
    at = min(following)
    outline = []
    while not outline or at != outline[0]:
        outline.append(at)
        at = following[at]
    return np.array(outline, dtype=float) + rng.uniform(-0.15, 0.15, (len(outline), 2))


def _oval(length, radius):
    straight = max(0.5 * length - np.pi * radius * 1.15, 1.0)
    t = np.linspace(0, np.pi, 60)
    bend = 1.15 * radius * np.column_stack([np.sin(t), -np.cos(t)])
    gap = np.linspace(0, straight, 60)[1:-1]
    top = 1.15 * radius
    points = np.vstack(
        [
            bend + [straight, 0],
            np.column_stack([gap[::-1], np.full_like(gap, top)]),
            -bend,
            np.column_stack([gap, np.full_like(gap, -top)]),
        ]
    )
    curve = _even(np.vstack([points, points[:1]]), _POINTS)
    return _smooth(curve, 2.0)


def _perimeter(curve):
    return float(np.hypot(*(curve - np.roll(curve, 1, 0)).T).sum())


def _even(closed, count):
    """Resample a closed polyline (last point = first) to `count` even points."""
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    at = np.arange(count) * arc[-1] / count
    return np.column_stack([np.interp(at, arc, closed[:, 0]), np.interp(at, arc, closed[:, 1])])


def _smooth(curve, sigma):
    """Circular Gaussian blur; sigma in samples."""
    frequency = np.fft.rfftfreq(len(curve))
    kernel = np.exp(-2 * (np.pi * frequency * sigma) ** 2)
    return np.fft.irfft(np.fft.rfft(curve, axis=0) * kernel[:, None], len(curve), axis=0)


def _sharpest(curve):
    """Smallest radius of curvature, from circles through three points."""
    a, c = np.roll(curve, 1, 0), np.roll(curve, -1, 0)
    ab, bc, ac = curve - a, c - curve, c - a
    cross = np.abs(ab[:, 0] * bc[:, 1] - ab[:, 1] * bc[:, 0])
    return float((np.hypot(*ab.T) * np.hypot(*bc.T) * np.hypot(*ac.T) / np.maximum(2 * cross, 1e-12)).min())


def _overlaps(curve, gap, near):
    """Do two parts of the curve, more than `near` apart along it, come closer than `gap`?"""
    coarse = curve[::2]
    n = len(coarse)
    step = _perimeter(curve) / n
    distance = np.hypot(coarse[:, None, 0] - coarse[None, :, 0], coarse[:, None, 1] - coarse[None, :, 1])
    index = np.arange(n)
    along = np.abs(index[:, None] - index[None, :])
    along = np.minimum(along, n - along) * step
    return bool(((along > max(near, 1.6 * gap)) & (distance < gap)).any())

"""Random closed roads from a seed: ovals, hairpins, S-bends and straights for one to three lanes, either way round.

Method: a closed curve through control points that are pushed away from a circle or an oval, smoothed until every bend is
wide enough for the innermost lane, and checked for overlap; a candidate that fails is thrown away and the next one drawn.
"""

from __future__ import annotations

import numpy as np

from sims.road import Road, RoadError, road_from_points

MIN_INNER_RADIUS_M = 0.75  # of the centre of the innermost lane
CLEARANCE_M = 0.5  # at least, between the edges of two parts of the road
_TRIES = 400


def random_road(
    seed: int,
    lanes: int | None = None,
    lane_width_m: float | None = None,
    length_m: float | None = None,
    name: str | None = None,
) -> Road:
    """A closed road without self-overlap, the same for the same arguments. Lanes 1-3 and lane width 0.5-1.2 m are drawn
    from the seed unless given; `length_m` is a wish (about 15-150 m, met within a quarter or so). The innermost lane's
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
        length_m = float(rng.uniform(least, max(60.0, 1.6 * least)) if rng.random() < 0.85 else rng.uniform(60.0, 150.0))
    radius = MIN_INNER_RADIUS_M + half - 0.5 * width
    for _ in range(_TRIES):
        points = _candidate(rng, length_m, radius, half)
        if points is not None:
            break
    else:
        points = _oval(max(length_m, least), radius)
    if rng.random() < 0.5:
        points = points[::-1]
    sides = np.full(len(points), half)
    return road_from_points(name or f"random-{seed}", *points.T, sides, sides, lanes, meta={"seed": int(seed)})


def _candidate(rng, length, radius, half):
    """One closed curve (n, 2), or None when it is too sharp or overlaps itself."""
    corners = int(np.clip(rng.integers(3, 7) + length // 25, 3, 11))
    angle = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) / corners
    reach = rng.uniform(0.35, 1.0, corners) if rng.random() < 0.75 else rng.uniform(0.8, 1.0, corners)
    stretch = np.array([1.0, rng.uniform(0.45, 1.0)])
    shape = np.column_stack([np.cos(angle), np.sin(angle)]) * reach[:, None] * stretch
    turn = rng.uniform(0, 2 * np.pi)
    shape = shape @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    curve = _even(np.vstack([shape, shape[:1]]), 240)
    curve = curve * (length / _perimeter(curve))
    step = length / 240
    # round the corners off just as far as the sharpest one needs
    for _ in range(8):
        curve = _smooth(curve, radius * rng.uniform(0.45, 0.7) / step)
        curve = _even(np.vstack([curve, curve[:1]]), 240)
        if _sharpest(curve) >= 1.04 * radius:
            break
    else:
        return None
    perimeter = _perimeter(curve)
    if perimeter < 0.6 * length or _overlaps(curve, 2 * half + CLEARANCE_M, np.pi * radius):
        return None
    return curve - curve[0]


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
    curve = _even(np.vstack([points, points[:1]]), 240)
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

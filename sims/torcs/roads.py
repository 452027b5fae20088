"""TORCS's tracks as roads at real size: the middle line and width of every segment, with lanes laid over them.

The geometry comes from the running game (it is asked once, without a camera, in a tenth of a second) and is kept in the
user's cache folder, so that a road is known afterwards without it.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from scipy.ndimage import uniform_filter1d

from sims.road import SAMPLE_STEP_M, Road, RoadError, road_from_points
from sims.torcs.install import cache_folder, package_version
from sims.torcs.process import TorcsProcess
from sims.torcs.race import Race
from sims.torcs.spec import LENGTH_SCALE
from sims.torcs.tracks import ROAD_TRACKS, category_of
from sims.world import WorldError

STEP_M = SAMPLE_STEP_M * LENGTH_SCALE  # as fine for this car as `track`'s roads are for its own
LANE_M = 0.75 * LENGTH_SCALE  # the width that lanes should have, roughly: three wheelbases
TWO_LANES_M = 10.0  # from this width on a road has at least two lanes
SPACING_M = 2.0  # of the points that the line is laid through
SMOOTH_M = 6.0  # over which the curvature is averaged


@lru_cache(maxsize=64)
def torcs_road(track: str) -> Road:
    """The road of a TORCS track. Raises RoadError for an unknown name or where TORCS cannot be asked."""
    category = category_of(track)
    points, length_m = _points(track)
    keep = _spaced(points["distance"], length_m)
    points = points[keep]
    half = 0.5 * points["width"].astype(float)
    lanes = lanes_for(2.0 * float(half.mean()))
    meta = {"torcs_track": track, "category": category, "torcs_length_m": length_m}
    road = road_from_points(track, points["x"], points["y"], half, half, lanes, step_m=STEP_M, meta=meta)
    # TORCS strings arcs together; a spline through them swings at the joints by more than the arcs' own curvature.
    return replace(road, curvature_pm=uniform_filter1d(road.curvature_pm, round(SMOOTH_M / road.step_m), mode="wrap"))


def random_torcs_road(seed: int) -> Road:
    """One of the tracks of category "road"."""
    rng = np.random.default_rng([abs(int(seed)), 37])
    return torcs_road(ROAD_TRACKS[int(rng.integers(len(ROAD_TRACKS)))])


def lanes_for(width_m: float) -> int:
    """How many lanes a road of that width gets: of about LANE_M, three at most, two at least from TWO_LANES_M on."""
    lanes = int(np.clip(round(width_m / LANE_M), 1, 3))
    return max(lanes, 2) if width_m >= TWO_LANES_M - 0.05 else lanes


def _spaced(distance: np.ndarray, length_m: float) -> np.ndarray:
    """Indices of points at least SPACING_M apart along the closed line."""
    kept = [0]
    for k in range(1, len(distance)):
        if distance[k] - distance[kept[-1]] >= SPACING_M and length_m - distance[k] >= SPACING_M:
            kept.append(k)
    return np.array(kept)


def _points(track: str) -> tuple[np.ndarray, float]:
    """ROAD_POINTs of a track and TORCS's length of it, from the cache or the game."""
    path = cache_folder() / f"roads-{package_version()}" / f"{track}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as kept:
                return kept["points"], float(kept["length_m"])
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise RoadError(f"{path} is damaged ({error}); delete it, it will be made anew") from error
    try:
        torcs = TorcsProcess(Race(track))
        points, length_m = torcs.road(), torcs.track_length_m
        torcs.close()
    except WorldError as error:
        raise RoadError(f"TORCS track {track!r}: {error}") from error
    _keep(path, points, length_m)
    return points, length_m


def _keep(path: Path, points: np.ndarray, length_m: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=path.stem, suffix=".npz", dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        np.savez_compressed(file, points=points, length_m=length_m)
    os.replace(aside, path)

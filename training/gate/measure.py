"""What is measured of every episode beside the judge's word: lateral error, jerk, and pictures of some.

All at the scale of the default car, so that worlds with other cars can be compared. Reads truth only.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.signal import savgol_filter

from bridge.messages import VehicleProfile
from bridge.scale import scale_of
from sims.truth import Truth
from training.evaluate import TICK_HZ, Episode
from training.filmstrip import Strip

MOVING_MPS = 0.1  # standing in a lane proves nothing
FILTER_TICKS = 11  # 0.37 s, a cubic: differentiating twice would otherwise measure the simulator's numerical noise
CRASH_TICKS = 6  # the blow itself is counted as a collision, not as jerk
STRIP_TICKS = 15


@dataclass(frozen=True)
class Tick:
    """One instant: speed [m/s], yaw rate [rad/s] and distance from the nearest lane's centre [m]."""

    speed: float
    yaw_rate: float
    lateral: float


def lateral_error(truth: Truth) -> float:
    """Distance from the centre of the nearest lane [m]."""
    return min(abs(truth.d_m - truth.lane_center_d_m(lane)) for lane in range(truth.lane_count))


def episode_lateral(ticks: list[Tick]) -> float | None:
    """Root mean square of the lateral error while the car moves [m]; None where it never did."""
    moving = [tick.lateral for tick in ticks if abs(tick.speed) > MOVING_MPS]
    return float(np.sqrt(np.mean(np.square(moving)))) if moving else None


def episode_jerk(ticks: list[Tick], crashed: bool) -> float | None:
    """Root mean square of the jerk [m/s^3], along and across together; None where the episode is too short. From speed
    v and yaw rate r: across the acceleration is v r, and derivatives are a Savitzky-Golay filter's."""
    kept = ticks[: len(ticks) - CRASH_TICKS] if crashed else ticks
    if len(kept) < FILTER_TICKS:
        return None
    v, r = (np.array([getattr(tick, name) for tick in kept]) for name in ("speed", "yaw_rate"))
    along = savgol_filter(v, FILTER_TICKS, 3, deriv=2, delta=1.0 / TICK_HZ)
    across = savgol_filter(v * r, FILTER_TICKS, 3, deriv=1, delta=1.0 / TICK_HZ)
    return float(np.sqrt(np.mean(along**2 + across**2)))


class Meter:
    """`watch` of an evaluation. `needs_image`: whether film strips are wanted; without, nothing is drawn. `strips`: at
    most so many are kept, of failed episodes first."""

    def __init__(self, profile: VehicleProfile, strips: int = 0):
        self.needs_image = strips > 0
        self._scale = scale_of(profile)
        self._ticks: dict[int, list[Tick]] = defaultdict(list)
        self._films: dict[int, _Film] = defaultdict(lambda: _Film(profile))
        self._wanted = strips
        self._kept: list[tuple[bool, str, np.ndarray]] = []

    def __call__(self, tick: int, episode: Episode, batch, slot: int) -> None:
        """One step of one episode."""
        truth, scale = batch.truth(slot), self._scale
        self._ticks[episode.seed].append(
            Tick(truth.speed_mps / scale.speed, truth.yaw_rate_radps * scale.time, lateral_error(truth) / scale.length)
        )
        if self._wanted:
            picture = batch.render([slot])[0] if tick % STRIP_TICKS == 0 else None
            self._films[episode.seed].take(tick, episode, picture, truth)

    def finish(self, entry: dict) -> dict:
        """The figures of an episode that has ended, from the evaluation's entry of it."""
        ticks = self._ticks.pop(entry["seed"], [])
        film = self._films.pop(entry["seed"], None)
        if film is not None and film.tiles:
            self._keep(entry, film)
        return {
            **{k: entry[k] for k in ("scenario", "seed", "track", "success", "reason", "collision", "off_road")},
            "lateral_error_m": episode_lateral(ticks),
            "jerk_mps3": episode_jerk(ticks, entry["collision"]),
        }

    def _keep(self, entry: dict, film: _Film) -> None:
        shown = {scenario for success, scenario, _ in self._kept if not success}
        room = len(self._kept) < self._wanted
        if entry["success"] and (self._kept or not room) or not entry["success"] and entry["scenario"] in shown:
            return
        if not room and all(not success for success, _, _ in self._kept):
            return
        words = "success" if entry["success"] else "FAILED"
        title = f"{entry['scenario']} on {entry['track']}, seed {entry['seed']}: {words}, {entry['reason']}"
        kept = (entry["success"], entry["scenario"], film.picture(title))
        self._kept = sorted([*self._kept, kept], key=lambda k: k[0])[: self._wanted]

    @property
    def strips(self) -> list[np.ndarray]:
        """Pictures (h, w, 3) RGB: failures of different scenarios, and at most one success."""
        return [picture for _, _, picture in self._kept]


class _Film(Strip):
    """Keeps its tiles as JPEG: a batch of long episodes would otherwise fill the memory."""

    def take(self, tick, episode, picture, truth):
        before = len(self.tiles)
        super().take(tick, episode, picture, truth)
        if len(self.tiles) > before:
            self.tiles[-1] = cv2.imencode(".jpg", self.tiles[-1], (cv2.IMWRITE_JPEG_QUALITY, 90))[1]

    def picture(self, title):
        packed = self.tiles
        self.tiles = [cv2.imdecode(tile, cv2.IMREAD_COLOR) for tile in packed]
        try:
            return super().picture(title)
        finally:
            self.tiles = packed

"""Statistics of an episode's columns and pictures, and of a whole dataset out of those of its episodes.

Per feature: min, max, mean, std, count and the quantiles 1, 10, 50, 90, 99 %. Pictures per channel, as shares of 255.
Quantiles of a dataset cannot be had from quantiles of its parts: as the format has it, the lower ones (to the median)
are the lowest of any episode, the upper ones the highest. Knows no files.
"""

from __future__ import annotations

import numpy as np

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
QUANTILE_KEYS = tuple(f"q{round(100 * q):02d}" for q in QUANTILES)
KEYS = ("min", "max", "mean", "std", "count", *QUANTILE_KEYS)
PICTURE_EVERY = 5  # frames; neighbours are alike
LEVELS = 256

FeatureStats = dict[str, np.ndarray]


def column_stats(values: np.ndarray) -> FeatureStats:
    """Of (n,) or (n, k) numbers or booleans, n >= 1: arrays (1,) or (k,); `count` is (1,)."""
    rows = np.asarray(values, dtype=np.float64)
    rows = rows.reshape(len(rows), -1)
    found = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    found["count"] = np.array([len(rows)], dtype=np.int64)
    return found | dict(zip(QUANTILE_KEYS, np.quantile(rows, QUANTILES, axis=0)))


class PictureStats:
    """Gathers every PICTURE_EVERY-th picture of an episode in one histogram for each channel."""

    def __init__(self):
        self._histograms = np.zeros((3, LEVELS), np.int64)
        self._seen = 0
        self._taken = 0

    def add(self, image: np.ndarray) -> None:
        """The next picture, (h, w, 3) uint8."""
        if self._seen % PICTURE_EVERY == 0:
            for channel in range(3):
                self._histograms[channel] += np.bincount(image[..., channel].ravel(), minlength=LEVELS)
            self._taken += 1
        self._seen += 1

    def result(self) -> FeatureStats:
        """Arrays (3, 1, 1) in [0, 1]; `count` (1,) is the number of pictures taken. At least one must have come."""
        levels = np.arange(LEVELS) / (LEVELS - 1)
        total = self._histograms.sum(1)
        mean = self._histograms @ levels / total
        variance = self._histograms @ levels**2 / total - mean**2
        reached = np.cumsum(self._histograms, axis=1)
        found = {
            "min": np.array([levels[np.flatnonzero(h)[0]] for h in self._histograms]),
            "max": np.array([levels[np.flatnonzero(h)[-1]] for h in self._histograms]),
            "mean": mean,
            "std": np.sqrt(np.maximum(variance, 0.0)),
        }
        for key, q in zip(QUANTILE_KEYS, QUANTILES):
            found[key] = np.array([levels[np.searchsorted(reached[c], q * total[c])] for c in range(3)])
        found = {key: value.reshape(3, 1, 1) for key, value in found.items()}
        return found | {"count": np.array([self._taken], dtype=np.int64)}


def merge(parts: list[FeatureStats]) -> FeatureStats:
    """Statistics of one feature over several episodes (or over what was merged before)."""
    if len(parts) == 1:
        return parts[0]
    counts = np.array([float(p["count"][0]) for p in parts])
    weights = (counts / counts.sum()).reshape(-1, *(1,) * np.ndim(parts[0]["mean"]))
    means = np.stack([p["mean"] for p in parts])
    mean = (weights * means).sum(0)
    variance = (weights * (np.stack([p["std"] for p in parts]) ** 2 + (means - mean) ** 2)).sum(0)
    found = {
        "min": np.min([p["min"] for p in parts], axis=0),
        "max": np.max([p["max"] for p in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([int(counts.sum())], dtype=np.int64),
    }
    for key, q in zip(QUANTILE_KEYS, QUANTILES):
        found[key] = (np.min if q <= 0.5 else np.max)([p[key] for p in parts], axis=0)
    return found


def merge_all(episodes: list[dict[str, FeatureStats]]) -> dict[str, FeatureStats]:
    """Statistics of a dataset, feature by feature."""
    return {name: merge([e[name] for e in episodes]) for name in episodes[0]} if episodes else {}


def to_plain(stats: dict[str, FeatureStats]) -> dict:
    """JSON-ready."""
    return {name: {key: np.asarray(value).tolist() for key, value in f.items()} for name, f in stats.items()}


def from_plain(plain: dict) -> dict[str, FeatureStats]:
    """Inverse of `to_plain`."""
    return {name: {key: np.asarray(value) for key, value in f.items()} for name, f in plain.items()}


def stats_of_row(row: dict) -> dict[str, FeatureStats]:
    """Statistics of an episode out of its row in meta/episodes."""
    nested: dict[str, dict] = {}
    for key, value in row.items():
        if key.startswith("stats/"):
            _, name, statistic = key.split("/")
            nested.setdefault(name, {})[statistic] = value
    return from_plain(nested)


def differences(ours: FeatureStats, theirs: FeatureStats, tolerance: float) -> list[str]:
    """Keys in which two statistics of the same feature part by more than `tolerance` (relative, and absolute)."""
    return [
        key
        for key in KEYS
        if key not in theirs
        or np.shape(ours[key]) != np.shape(theirs[key])
        or not np.allclose(ours[key], theirs[key], rtol=tolerance, atol=tolerance)
    ]

"""Estimates with intervals: shares, means and their differences, paired where both belong to the same episode.

Shares: Wilson (1927). Differences of shares: Newcombe's hybrid score intervals, made of Wilson's (Statistics in
Medicine 17, 1998: 873-890 independent, 2635-2650 paired, method 10 of both). Means and their differences: percentile
bootstrap. These, because a share of 0 or 1 and equal pairs still get an interval that says how little a few episodes
prove.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import binomtest, bootstrap

RESAMPLES = 4000


@dataclass(frozen=True)
class Estimate:
    """Of `n` episodes (pairs, where `paired`); `low` to `high` is the interval, None where `n` is too small for one."""

    value: float
    low: float | None
    high: float | None
    n: int
    paired: bool | None = None

    def as_dict(self) -> dict:
        """Rounded, for JSON."""
        plain = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {k: v for k, v in plain.items() if k != "paired" or v is not None}


def share(hits: Sequence[bool], confidence: float) -> Estimate | None:
    """Share of true ones."""
    if not len(hits):
        return None
    low, high = _wilson(sum(hits), len(hits), confidence)
    return Estimate(sum(hits) / len(hits), low, high, len(hits))


def mean(values: Sequence[float], confidence: float) -> Estimate | None:
    """Mean of one value per episode."""
    if not len(values):
        return None
    low, high = _percentiles((np.asarray(values, float),), lambda x, axis: x.mean(axis), confidence)
    return Estimate(float(np.mean(values)), low, high, len(values))


def share_difference(a: Sequence[bool], b: Sequence[bool], confidence: float, *, paired: bool) -> Estimate | None:
    """Share of `a` minus share of `b`; `paired`: a[i] and b[i] are of the same episode."""
    if not len(a) or not len(b):
        return None
    p, q = sum(a) / len(a), sum(b) / len(b)
    (p_low, p_high), (q_low, q_high) = (_wilson(sum(x), len(x), confidence) for x in (a, b))
    phi = _phi(a, b) if paired else 0.0
    down = _norm(p - p_low, q_high - q, phi)
    up = _norm(p_high - p, q - q_low, phi)
    return Estimate(p - q, max(-1.0, p - q - down), min(1.0, p - q + up), len(a), paired)


def mean_difference(a: Sequence[float], b: Sequence[float], confidence: float, *, paired: bool) -> Estimate | None:
    """Mean of `a` minus mean of `b`; `paired`: a[i] and b[i] are of the same episode."""
    if not len(a) or not len(b):
        return None
    a, b = np.asarray(a, float), np.asarray(b, float)
    if paired:
        low, high = _percentiles((a - b,), lambda x, axis: x.mean(axis), confidence)
    else:
        low, high = _percentiles((a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), confidence)
    return Estimate(float(a.mean() - b.mean()), low, high, len(a), paired)


def _wilson(hits: int, n: int, confidence: float) -> tuple[float, float]:
    interval = binomtest(int(hits), n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def _norm(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(0.0, x * x - 2.0 * phi * x * y + y * y))


def _phi(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Correlation of the pairs, shrunk as Newcombe's method 10 does."""
    both = sum(x and y for x, y in zip(a, b, strict=True))
    only_a, only_b = sum(a) - both, sum(b) - both
    neither = len(a) - both - only_a - only_b
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins == 0:
        return 0.0
    cross = both * neither - only_a * only_b
    return (max(cross - len(a) / 2, 0.0) if cross > 0 else cross) / math.sqrt(margins)


def _percentiles(data: tuple[np.ndarray, ...], statistic, confidence: float) -> tuple[float | None, float | None]:
    if min(len(x) for x in data) < 2:  # one episode says nothing of how episodes differ
        return None, None
    result = bootstrap(
        data, statistic, n_resamples=RESAMPLES, confidence_level=confidence, method="percentile", vectorized=True,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(result.confidence_interval.low), float(result.confidence_interval.high)

"""Clocks that can be injected: the wall's monotonic one for driving, a virtual one for tests and evaluation.

Knows nothing of what is timed. Stamps are ns since an arbitrary start; they are never compared across machines.
"""

from __future__ import annotations

import time
from typing import Protocol

NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """Where a loop gets its time from."""

    def now_ns(self) -> int:
        """Present time (ns); never goes back."""
        ...

    def sleep_until_ns(self, t_ns: int) -> None:
        """Return at `t_ns`, or at once where that has passed."""
        ...


class MonotonicClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, t_ns: int) -> None:
        left_ns = t_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / NS_PER_S)


class VirtualClock:
    """Time that stands still until it is told to move; sleeping moves it. `start_ns` >= 0."""

    def __init__(self, start_ns: int = 0):
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until_ns(self, t_ns: int) -> None:
        self._now_ns = max(self._now_ns, t_ns)

    def advance_s(self, duration_s: float) -> None:
        """Move on by `duration_s`. Raises ValueError for a negative one."""
        if duration_s < 0:
            raise ValueError(f"time cannot go back (advance_s({duration_s}))")
        self._now_ns += round(duration_s * NS_PER_S)

"""The beat of the control loop: absolute deadlines that are re-anchored after an overrun, and everything late counted.

Knows nothing of what is done in a tick. The clock is injected, so tests run in virtual time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bridge.clock import NS_PER_S, Clock

LATE_FRACTION = 0.1  # a tick that starts later than this share of the period is late


@dataclass(frozen=True)
class LoopStats:
    """Figures of the last `window` ticks (`ticks`, `late_ticks`, `starved_ticks`: since the start). Work is the time
    that the step itself took."""

    ticks: int
    late_ticks: int
    starved_ticks: int
    rate_hz: float
    work_p50_s: float
    work_p99_s: float
    worst_tick_s: float


class Loop:
    """Calls `step(now_ns)` at `rate_hz`.

    After an overrun the deadlines start anew from now (no burst to catch up); each whole period that passed without its
    tick is a starved tick.
    """

    def __init__(self, clock: Clock, rate_hz: float, window: int = 300):
        if rate_hz <= 0.0:
            raise ValueError(f"rate_hz must be positive, not {rate_hz}")
        self.clock = clock
        self.period_ns = round(NS_PER_S / rate_hz)
        self.ticks = self.late_ticks = self.starved_ticks = 0
        self._work_ns: deque[int] = deque(maxlen=window)
        self._starts_ns: deque[int] = deque(maxlen=window)

    def run(self, step: Callable[[int], None], keep_on: Callable[[], bool]) -> None:
        """Tick until `keep_on()` is false. What `step` raises is passed on."""
        deadline_ns = self.clock.now_ns()
        while keep_on():
            self.clock.sleep_until_ns(deadline_ns)
            start_ns = self.clock.now_ns()
            deadline_ns = self._account(deadline_ns, start_ns)
            step(start_ns)
            self._work_ns.append(self.clock.now_ns() - start_ns)

    def _account(self, deadline_ns: int, start_ns: int) -> int:
        """Count this tick's lateness and return the next deadline."""
        behind_ns = start_ns - deadline_ns
        self.ticks += 1
        self._starts_ns.append(start_ns)
        if behind_ns > LATE_FRACTION * self.period_ns:
            self.late_ticks += 1
        if behind_ns >= self.period_ns:
            self.starved_ticks += behind_ns // self.period_ns
            return start_ns + self.period_ns
        return deadline_ns + self.period_ns

    def stats(self) -> LoopStats:
        """A snapshot of the figures."""
        work_s = np.array(self._work_ns, dtype=float) / NS_PER_S
        span_ns = self._starts_ns[-1] - self._starts_ns[0] if len(self._starts_ns) > 1 else 0
        return LoopStats(
            ticks=self.ticks,
            late_ticks=self.late_ticks,
            starved_ticks=self.starved_ticks,
            rate_hz=(len(self._starts_ns) - 1) * NS_PER_S / span_ns if span_ns else 0.0,
            work_p50_s=float(np.percentile(work_s, 50)) if len(work_s) else 0.0,
            work_p99_s=float(np.percentile(work_s, 99)) if len(work_s) else 0.0,
            worst_tick_s=float(work_s.max()) if len(work_s) else 0.0,
        )

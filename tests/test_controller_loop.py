"""The loop's beat under starvation, on a clock that only the test moves."""

from __future__ import annotations

import pytest

from bridge.clock import VirtualClock
from controller.loop import Loop


def run(rate_hz: float, work_s: list[float]) -> tuple[Loop, list[int]]:
    clock, starts, left = VirtualClock(), [], list(work_s)
    loop = Loop(clock, rate_hz)

    def step(now_ns: int) -> None:
        starts.append(now_ns // 1_000_000)
        clock.advance_s(left.pop(0))

    loop.run(step, lambda: bool(left))
    return loop, starts


def test_deadlines_are_absolute():
    loop, starts = run(100.0, [0.004, 0.009, 0.001, 0.009, 0.0])
    assert starts == [0, 10, 20, 30, 40]
    assert (loop.ticks, loop.late_ticks, loop.starved_ticks) == (5, 0, 0)


def test_a_small_overrun_is_late_and_caught_up():
    loop, starts = run(100.0, [0.0, 0.013, 0.0, 0.0])
    assert starts == [0, 10, 23, 30]
    assert (loop.late_ticks, loop.starved_ticks) == (1, 0)


def test_a_long_overrun_is_counted_and_re_anchored_without_a_burst():
    loop, starts = run(100.0, [0.0, 0.047, 0.0, 0.0, 0.0])
    assert starts == [0, 10, 57, 67, 77]
    assert (loop.late_ticks, loop.starved_ticks) == (1, 3)


def test_stats():
    loop, _ = run(100.0, [0.002] * 99 + [0.008])
    stats = loop.stats()
    assert stats.rate_hz == pytest.approx(100.0)
    assert stats.work_p50_s == pytest.approx(0.002) and stats.worst_tick_s == pytest.approx(0.008)
    assert Loop(VirtualClock(), 30.0).stats().rate_hz == 0.0


def test_rate_must_be_positive():
    with pytest.raises(ValueError, match="rate_hz"):
        Loop(VirtualClock(), 0.0)

"""A second watchdog beside the actuator: no actuation for a while means zero throttle, whatever else hangs.

Runs in a thread of its own and knows only two functions: when to look, and how to cut the throttle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from bridge.clock import NS_PER_S, Clock, MonotonicClock


class Watchdog:
    """Call `feed` with every actuation. Without one for `timeout_s`, `cut` is called, again and again until fed anew,
    so that a cut that failed is tried once more. `check` is what the thread calls; tests call it in virtual time."""

    def __init__(self, cut: Callable[[], None], timeout_s: float = 0.25, clock: Clock | None = None):
        if timeout_s <= 0.0:
            raise ValueError(f"timeout_s must be positive, not {timeout_s}")
        self._cut, self._clock = cut, clock or MonotonicClock()
        self._timeout_ns = round(timeout_s * NS_PER_S)
        self._fed_ns = self._clock.now_ns()
        self._quit = threading.Event()
        self._thread: threading.Thread | None = None
        self.bites = 0  # times that the throttle was cut after a feeding
        self.failures = 0  # times that cutting raised
        self._biting = False

    def feed(self) -> None:
        """There has been an actuation just now."""
        self._fed_ns = self._clock.now_ns()

    def check(self) -> bool:
        """Cut the throttle if it is time to. Returns whether it was."""
        hungry = self._clock.now_ns() - self._fed_ns > self._timeout_ns
        if hungry:
            self.bites += not self._biting
            try:
                self._cut()
            except Exception:  # a driver that fails once may work the next time; this thread must not die
                self.failures += 1
        self._biting = hungry
        return hungry

    def start(self) -> None:
        """Begin to watch."""
        self.feed()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._quit.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while not self._quit.wait(self._timeout_ns / NS_PER_S / 4.0):
            self.check()

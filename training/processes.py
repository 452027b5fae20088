"""Starts `pacenote planner serve` as a process of its own, waits until it listens, and ends it with the parent.

Knows command lines and pipes, nothing of plans.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

LISTENING = "listening on "
_ROOT = Path(__file__).resolve().parent.parent


class ProcessError(RuntimeError):
    """A process that did not come up or has died; the message holds the last lines that it said."""


class PlannerProcess:
    """A planner on a free loopback port. Use as a context manager; `endpoint` is known inside."""

    def __init__(self, planner: str, *, log: Path | None = None, timeout_s: float = 600.0, arguments: tuple = ()):
        self.planner = planner
        self.endpoint = ""
        self.tail: deque[str] = deque(maxlen=40)
        self._timeout_s = timeout_s
        self._command = [sys.executable, "-m", "pacenote", "planner", "serve", "--planner", planner]
        self._command += ["--bind", "tcp://127.0.0.1:0", *arguments]
        if log is not None:
            self._command += ["--log", str(log)]
        self._process: subprocess.Popen | None = None
        self._listening = threading.Event()

    def __enter__(self) -> PlannerProcess:
        path = os.pathsep.join(p for p in (str(_ROOT), os.environ.get("PYTHONPATH")) if p)
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        )
        threading.Thread(target=self._read, daemon=True).start()
        deadline_s = time.monotonic() + self._timeout_s
        while not self._listening.wait(0.05):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.__exit__()
                raise ProcessError(f"the planner {self.planner!r} did not start:\n" + "\n".join(self.tail))
        return self

    def _read(self) -> None:
        for line in self._process.stdout:
            self.tail.append(line.rstrip())
            if line.startswith(LISTENING):
                self.endpoint = line[len(LISTENING) :].split()[0]
                self._listening.set()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def __exit__(self, *_: object) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)  # lets it close its log
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

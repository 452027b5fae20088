"""`pacenote planner serve`: binds, serves until it is told to end, writes the log. Knows no backend by name."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack

from bridge.keys import ServerKeys, load
from bridge.link import PlannerLink
from bridge.planning import PlannerBackend
from planner.server import PlannerServer
from planner.settings import ServeSettings

_LOOK_S = 0.5


def serve(
    settings: ServeSettings,
    backend: PlannerBackend,
    *,
    say: Callable[[str], None] = print,
    ending: threading.Event | None = None,
) -> None:
    """Serve until SIGINT, SIGTERM or `ending`. Says "listening on ENDPOINT ..." once cars may connect. Raises LinkError
    or KeyFileError where it cannot listen, RuntimeError where serving has broken down, OSError for the log."""
    ending = ending or threading.Event()
    keys = None
    if settings.keys is not None:
        keys = ServerKeys(load(settings.keys, "planner"), settings.keys / "allowed")
    with ExitStack() as stack:
        record = None
        if settings.log is not None:
            settings.log.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(settings.log, "a", encoding="utf-8", buffering=1))

            def record(entry: dict) -> None:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")

        link = PlannerLink()
        stack.callback(link.close)
        endpoint = link.bind(settings.bind, keys, settings.insecure)
        server = stack.enter_context(PlannerServer(backend, link, on_record=record))
        _end_on_signals(ending)
        say(f"listening on {endpoint} with {backend.name}, about {backend.rate_hz:.1f} plans per second")
        while not ending.wait(_LOOK_S):
            if not server.alive:
                raise RuntimeError("the planner's threads have ended; see the log above")
        noted = ", ".join(f"{kind} {count}" for kind, count in sorted((server.problems + link.drops).items()))
        say(f"ended; noted on the way: {noted or 'nothing'}")


def _end_on_signals(ending: threading.Event) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ending.set())

"""`pacenote planner serve`: a backend behind a socket, until SIGINT or SIGTERM. Says where it listens when it does."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from pathlib import Path

from bridge.keys import ServerKeys, load
from bridge.link import PlannerLink
from cockpit.runs import write_json
from planner.server import PlannerServer
from training.backends import load_backend
from training.processes import LISTENING


def server_keys(folder: Path | None) -> ServerKeys | None:
    """The planner's pair in `folder`, and the keys that may connect in `folder`/allowed. Raises KeyFileError."""
    return None if folder is None else ServerKeys(load(folder, "planner"), folder / "allowed")


def serve(
    planner: str,
    bind: str,
    *,
    keys_dir: Path | None = None,
    insecure: bool = False,
    log_file: Path | None = None,
    threads: int | None = None,
    model: str | None = None,
) -> None:
    """Serve until a signal comes. Raises LinkError, KeyFileError, or what loading the backend raises."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    keys = server_keys(keys_dir)
    with PlannerLink() as link:
        # The port first: a mistake in the address shall not cost the time of loading a model.
        endpoint = link.bind(bind, keys, insecure)
        backend = load_backend(planner, threads=threads, model=model)
        leave = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: leave.set())
        recorder = _Recorder(log_file)
        with PlannerServer(backend, link, on_record=recorder) as server:
            print(f"{LISTENING}{endpoint} (model {backend.name}, {backend.rate_hz:.1f} Hz)", flush=True)
            while not leave.wait(0.5) and server.alive:
                pass
        recorder.close()


class _Recorder:
    """Appends one line a plan to a file, at once."""

    def __init__(self, path: Path | None):
        self._file = None
        self._started_s = time.monotonic()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a", encoding="utf-8", buffering=1)

    def __call__(self, record: dict) -> None:
        if self._file is not None:
            record = {"t_served_s": round(time.monotonic() - self._started_s, 3), **record}
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def planner_run_folder(folder: Path, settings: dict) -> Path:
    """Make a run folder for a planner on its own; returns the file for its lines, which `pacenote logs` reads."""
    write_json(folder / "run.json", {"name": "planner", "settings": settings, "result": None})
    return folder / "plans.jsonl"

"""The folder that a run leaves behind: writing it so that a crash loses next to nothing, and reading it back.

    run.json           resolved settings, seeds, versions, commit, and at the end the result
    plans.jsonl        one line a plan, written as it comes (see `plan_entry`)
    planner.jsonl      the planner process's own lines: prompt, raw answer, guard; joined into plans.jsonl at the end
    events.jsonl       commands, acknowledgements, verdicts, stops, warnings
    telemetry.parquet  one row a control tick; telemetry.jsonl until the run is finished, and after a crash
    front.mp4, frames/ pictures

Knows the layout and nothing of who drives: no controller, no planner, no world. Only `bridge` is imported.
"""

from __future__ import annotations

import difflib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from bridge.messages import Plan

RUNS = Path("runs")
FLUSH_EVERY_ROWS = 30


class RunError(RuntimeError):
    """A run folder that is missing or cannot be read; the message says which, and what to do."""


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` beside `path` and rename it into place, so that a reader never sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    aside.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    os.replace(aside, path)


def commit_id() -> str:
    """Commit of the source tree that this code runs from, with "+" when it was changed; "unknown" outside git."""
    here = Path(__file__).resolve().parent.parent
    try:
        run = lambda *args: subprocess.run(  # noqa: E731
            ["git", "-C", str(here), *args], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
        return run("rev-parse", "--short=12", "HEAD") + ("+" if run("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what decides a result."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("pacenote", "numpy", "numba", "onnxruntime", "pyzmq", "torch", "transformers"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def plan_entry(plan: Plan, t_s: float, age_s: float | None = None, rejected: str | None = None) -> dict:
    """One line of plans.jsonl as the car knows it: `t_s` since the start of the run, `age_s` of the plan on arrival
    (both on the car's clock), `rejected` why the controller did not take it. Prompt, raw answer and guard are joined
    from the planner's lines."""
    return {
        "t_s": round(t_s, 4),
        "session_id": plan.session_id,
        "seq": plan.seq,
        "frame": {"seq": plan.frame_seq, "t_capture_ns": plan.t_capture_ns},
        "intent": str(plan.intent),
        "waypoints": [[round(w.x_m, 4), round(w.y_m, 4), round(w.v_mps, 4)] for w in plan.waypoints],
        "ttl_s": plan.ttl_s,
        "reasoning": plan.reasoning,
        "verdict": plan.verdict.model_dump(mode="json") if plan.verdict else None,
        "model": plan.model,
        "timings": plan.timings.model_dump(),
        "age_on_arrival_s": None if age_s is None else round(age_s, 4),
        "rejected": rejected,
    }


class RunWriter:
    """Writes one run folder. Use as a context manager; `finish` may be called once with the result."""

    def __init__(self, folder: str | Path | None = None, *, name: str = "run", settings: dict | None = None):
        """`folder` None makes runs/<time>-<name>. Raises RunError when the folder already holds a run."""
        if folder is None:
            folder = RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
        self.folder = Path(folder)
        if (self.folder / "run.json").exists():
            raise RunError(f"{self.folder} already holds a run; give another folder or remove it")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._start = time.monotonic()
        self._meta = {
            "name": name,
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "commit": commit_id(),
            "versions": versions(),
            "settings": settings or {},
            "result": None,
        }
        write_json(self.folder / "run.json", self._meta)
        self._plans = self._open("plans.jsonl")
        self._events = self._open("events.jsonl")
        self._telemetry = open(self.folder / "telemetry.jsonl", "a", encoding="utf-8")
        self._rows = 0
        self._finished = False

    def _open(self, name: str) -> TextIO:
        return open(self.folder / name, "a", encoding="utf-8", buffering=1)  # a line is on disk before the next one

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._start

    def plan(self, plan: Plan, age_s: float | None = None, rejected: str | None = None, t_s: float | None = None):
        """Log one plan as it arrived on the car."""
        self.plan_line(plan_entry(plan, self.now_s() if t_s is None else t_s, age_s, rejected))

    def plan_line(self, entry: dict) -> None:
        """Log a plan in the form of `plan_entry`."""
        self._line(self._plans, entry)

    def event(self, kind: str, t_s: float | None = None, **fields: Any) -> None:
        """Log something that happened: "command", "ack", "verdict", "stop", "warning", ..."""
        self._line(self._events, {"t_s": round(self.now_s() if t_s is None else t_s, 4), "event": kind, **fields})

    def tick(self, row: dict[str, Any]) -> None:
        """Log one control tick: flat, the same keys every time, with units in the names."""
        self._line(self._telemetry, row)
        self._rows += 1
        if self._rows % FLUSH_EVERY_ROWS == 0:
            self._telemetry.flush()

    @staticmethod
    def _line(file: TextIO, value: dict) -> None:
        file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str) + "\n")

    def finish(self, result: dict | None = None) -> None:
        """Close the files, join the planner's lines, turn the telemetry into Parquet, note the result."""
        if self._finished:
            return
        self._finished = True
        for file in (self._plans, self._events, self._telemetry):
            file.close()
        _join_planner_lines(self.folder)
        _telemetry_to_parquet(self.folder)
        self._meta.update(result=result, duration_s=round(self.now_s(), 3))
        write_json(self.folder / "run.json", self._meta)


def start_planner_run(folder: Path, settings: dict) -> Path:
    """A run folder for a planner that serves alone; returns the file for its lines, which are read as plans."""
    if (folder / "run.json").exists():
        raise RunError(f"{folder} already holds a run; give another folder or remove it")
    meta = {"name": "planner", "commit": commit_id(), "versions": versions(), "settings": settings, "result": None}
    write_json(folder / "run.json", meta)
    return folder / "plans.jsonl"


def read_lines(path: Path) -> list[dict]:
    """The JSON lines of a file; a torn last line (a crash) is left out. A missing file has none."""
    return list(_parse(path.read_text(encoding="utf-8", errors="replace").splitlines())) if path.is_file() else []


def _parse(lines: list[str]) -> Iterator[dict]:
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _joined(folder: Path) -> list[dict]:
    """The car's plans with what the planner noted of them, and what the planner made and the car never saw (refused by
    the guard, failed, or lost on the way)."""
    noted = read_lines(folder / "planner.jsonl")
    sent = {(e.get("session_id"), e["seq"]): e for e in noted if e.get("seq") is not None}
    plans = []
    for entry in read_lines(folder / "plans.jsonl"):
        extra = sent.pop((entry.get("session_id"), entry.get("seq")), {})
        plans.append({**extra, **{k: v for k, v in entry.items() if v is not None or k not in extra}})
    unseen = [*sent.values(), *(e for e in noted if e.get("seq") is None)]
    if not unseen:
        return plans
    plans += [{"age_on_arrival_s": None, **e} for e in unseen]
    return sorted(plans, key=lambda e: (e.get("frame") or {}).get("seq", 0))


def _join_planner_lines(folder: Path) -> None:
    if not (folder / "planner.jsonl").is_file():
        return
    aside = folder / ".plans.jsonl.part"
    with open(aside, "w", encoding="utf-8") as file:
        for entry in _joined(folder):
            RunWriter._line(file, entry)
    os.replace(aside, folder / "plans.jsonl")
    (folder / "planner.jsonl").unlink()


def _telemetry_to_parquet(folder: Path) -> None:
    """Leaves telemetry.jsonl in place where pyarrow is missing (on the car): it reads the same."""
    source = folder / "telemetry.jsonl"
    rows = read_lines(source)
    if not rows:
        source.unlink(missing_ok=True)
        return
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return
    aside = folder / ".telemetry.parquet.part"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), aside)
    os.replace(aside, folder / "telemetry.parquet")
    source.unlink()


class Run:
    """A run folder, read. Works while the run is still being written and after a crash."""

    def __init__(self, folder: str | Path):
        """Raises RunError where there is no run."""
        self.folder = Path(folder)
        if not (self.folder / "run.json").is_file() and not (self.folder / "plans.jsonl").is_file():
            raise RunError(f"{self.folder} is not a run folder (no run.json in it); `pacenote drive` makes one")

    @property
    def meta(self) -> dict:
        """run.json; empty when it is missing."""
        path = self.folder / "run.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def plans(self) -> list[dict]:
        """The plans, joined with the planner's own lines, oldest first."""
        return _joined(self.folder)

    def events(self) -> list[dict]:
        """Commands, acknowledgements, verdicts and the rest, oldest first."""
        return read_lines(self.folder / "events.jsonl")

    def telemetry(self) -> dict[str, list]:
        """Columns of the telemetry, from Parquet or from the lines of an unfinished run."""
        parquet = self.folder / "telemetry.parquet"
        if parquet.is_file():
            import pyarrow.parquet

            return pyarrow.parquet.read_table(parquet).to_pydict()
        rows = read_lines(self.folder / "telemetry.jsonl")
        return {key: [row.get(key) for row in rows] for key in (rows[0] if rows else {})}

    @property
    def finished(self) -> bool:
        """True once the run was closed in order."""
        return "duration_s" in self.meta

    def follow(self, poll_s: float = 0.2) -> Iterator[dict]:
        """Yield events and plans as they come, marked by "event" or "intent", until the run is finished. A run that was
        killed never is: the reader ends it with Ctrl-C."""
        seen_plans: set[tuple] = set()
        seen_events = 0
        while True:
            finished = self.finished
            events = self.events()
            plans = {(p.get("session_id"), p.get("seq")): p for p in self.plans() if p.get("t_s") is not None}
            fresh = events[seen_events:] + [p for key, p in plans.items() if key not in seen_plans]
            yield from sorted(fresh, key=lambda e: e.get("t_s") or 0.0)
            seen_plans.update(plans)
            seen_events = len(events)
            if finished:
                return
            time.sleep(poll_s)


def find_run(name: str | Path | None, runs: Path = RUNS) -> Run:
    """The run at a path, or named in `runs`, or the latest one for None. Raises RunError with what is there."""
    folders = sorted((p.parent for p in runs.glob("*/run.json")), key=lambda p: p.stat().st_mtime)
    if name is None:
        if not folders:
            raise RunError(f"no run in {runs}/ yet; `pacenote drive` makes one")
        return Run(folders[-1])
    for candidate in (Path(name), runs / str(name)):
        if candidate.is_dir():
            return Run(candidate)
    near = difflib.get_close_matches(str(name), [p.name for p in folders], n=1, cutoff=0.4)
    raise RunError(f"no run at {name}" + (f"; did you mean {runs / near[0]}?" if near else f" nor in {runs}/"))

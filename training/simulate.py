"""`pacenote drive`: planner process, car process (world + controller) and an operator, over ZeroMQ on the wall clock.

Supervises both processes, says the commands of the timeline, prints what is said and answered as it comes, and leaves a
run folder. Knows nothing of how planner, controller and world work.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bridge.link import LinkError, LinkTimeout, OperatorLink
from cockpit.logs import line_text
from cockpit.runs import RunWriter
from training.drive_scene import DriveSettings
from training.processes import PlannerProcess, ProcessError

CAR_START_TIMEOUT_S = 600.0  # the first time, the world's kernels are compiled
GRACE_S = 20.0
REASONING_EVERY_S = 2.0


class Narrator:
    """Prints and logs: events always, plans when something changed or every few seconds."""

    def __init__(self, writer: RunWriter, console: Console):
        self._writer, self._console = writer, console
        self._lock = threading.Lock()
        self._last: tuple = ()
        self._printed_s = float("-inf")
        self.start_s: float | None = None

    def t_s(self) -> float:
        """Seconds since the car began to drive."""
        return 0.0 if self.start_s is None else time.monotonic() - self.start_s

    def event(self, kind: str, **fields) -> None:
        """Log and print an event."""
        with self._lock:
            self._writer.event(kind, t_s=self.t_s(), **fields)
            self._print({"t_s": self.t_s(), "event": kind, **fields})

    def plan(self, entry: dict) -> None:
        """Log a plan; print it if it says something new."""
        verdict = entry.get("verdict") or {}
        state = (entry["intent"], verdict.get("command_id"), verdict.get("verdict"), entry.get("rejected"))
        with self._lock:
            self._writer.plan_line(entry)
            if state != self._last or entry["t_s"] - self._printed_s >= REASONING_EVERY_S:
                self._last, self._printed_s = state, entry["t_s"]
                self._print(entry)

    def _print(self, entry: dict) -> None:
        self._console.print(line_text(entry), highlight=False, soft_wrap=True)


class CarProcess:
    """The car process and the thread that reads its lines."""

    def __init__(self, settings: DriveSettings, folder: Path, endpoint: str, narrator: Narrator, writer: RunWriter):
        self._narrator, self._writer = narrator, writer
        self.driving, self.ended = threading.Event(), threading.Event()
        self.result: dict | None = None
        self.world: dict = {}
        self.tail: deque[str] = deque(maxlen=40)
        settings_file = folder / "drive.json"
        settings_file.write_text(settings.model_dump_json(indent=2), encoding="utf-8")
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "training.simulated_car", str(settings_file), str(folder), endpoint],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        threading.Thread(target=self._read_errors, daemon=True).start()
        threading.Thread(target=self._read, daemon=True).start()

    def _read_errors(self) -> None:
        self.tail.extend(line.rstrip() for line in self.process.stderr)

    def _read(self) -> None:
        for line in self.process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                self.tail.append(line.rstrip())
                continue
            self._take(message)
        self.process.wait()
        self.ended.set()

    def _take(self, message: dict) -> None:
        if "tick" in message:
            self._writer.tick(message["tick"])
            if message["tick"]["events"]:
                self._narrator.event("controller", what=message["tick"]["events"])
        elif "plan" in message:
            self._narrator.plan(message["plan"])
        elif message.get("event") == "driving":
            self._narrator.start_s = message["t_ns"] * 1e-9  # same machine, same monotonic clock
            self.driving.set()
        elif message.get("event") == "result":
            self.result = {k: v for k, v in message.items() if k != "event"}
        elif message.get("event") == "world":
            self.world = {k: v for k, v in message.items() if k != "event"}

    def stop(self) -> None:
        """End the process: first kindly, so that it brakes and tells its result."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Operator(threading.Thread):
    """Says the timeline's commands when they are due and tells of acknowledgements and verdicts."""

    def __init__(self, settings: DriveSettings, endpoint: str, narrator: Narrator):
        super().__init__(daemon=True)
        self._settings, self._endpoint, self._narrator = settings, endpoint, narrator
        self.leave = threading.Event()

    def run(self) -> None:
        """Until the last command has its final verdict, or `leave` is set."""
        timeline = list(self._settings.timeline)
        with OperatorLink() as link:
            link.connect(self._endpoint)
            for index, (at_s, text) in enumerate(timeline):
                if self.leave.wait(max(0.0, at_s - self._narrator.t_s())):
                    return
                until_s = timeline[index + 1][0] if index + 1 < len(timeline) else self._settings.seconds
                self._say(link, text, until_s)

    def _say(self, link: OperatorLink, text: str, until_s: float) -> None:
        self._narrator.event("command", text=text)
        try:
            ack = link.send_command(text)
        except LinkTimeout as error:
            self._narrator.event("warning", what=str(error))
            return
        self._narrator.event("ack", id=ack.id, accepted=ack.accepted, reason=ack.reason)
        while ack.accepted and not self.leave.is_set() and (left_s := until_s - self._narrator.t_s()) > 0.05:
            for status in link.verdicts(ack.id, min(left_s, 0.5)):
                verdict = status.verdict
                self._narrator.event("verdict", id=ack.id, verdict=str(verdict.verdict), reason=verdict.reason)
                if verdict.verdict in ("done", "refused"):
                    return


class UnsentPlans:
    """Tells of answers that were not sent (refused by the guard, or failed), from the planner's own lines."""

    def __init__(self, path: Path, narrator: Narrator):
        self._path, self._narrator = path, narrator
        self._offset = 0
        self._told = ""

    def look(self) -> None:
        """Read what is new; the same reason is told once in a row."""
        if not self._path.is_file():
            return
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            lines = file.read().split(b"\n")
        self._offset += sum(len(line) + 1 for line in lines[:-1])
        for line in lines[:-1]:
            entry = json.loads(line)
            why = entry.get("error") or "; ".join(entry.get("guard") or ())
            if why and why != self._told:
                self._narrator.event("no plan sent", why=why)
            self._told = why


def _await(
    event: threading.Event, car: CarProcess, planner: PlannerProcess, unsent: UnsentPlans, timeout_s: float, what: str
) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not event.wait(0.1):
        unsent.look()
        if car.ended.is_set() and not event.is_set():
            raise ProcessError(f"the car process ended ({what}):\n" + "\n".join(car.tail))
        if not planner.alive:
            raise ProcessError(f"the planner process ended ({what}):\n" + "\n".join(planner.tail))
        if time.monotonic() > deadline_s:
            raise ProcessError(f"{what} within {timeout_s:.0f} s:\n" + "\n".join([*planner.tail, *car.tail]))


def drive(settings: DriveSettings, run: Path | None = None, *, keep_frames: bool = False, video: bool = True) -> dict:
    """Drive, leave a run folder, return its result ("success": no collision, never off the road; "commands": which were
    obeyed). Raises ProcessError when a process does not come up or dies, RunError for a folder that is in use."""
    console = Console()
    with RunWriter(run, name="drive", settings=settings.model_dump()) as writer:
        console.print(f"run folder: [bold]{escape(str(writer.folder))}[/bold]", highlight=False)
        narrator = Narrator(writer, console)
        console.print(f"starting the planner ({escape(settings.planner)}) and the car …", highlight=False)
        with PlannerProcess(settings.planner, log=writer.folder / "planner.jsonl") as planner:
            hint = f'pacenote say "…" --planner {planner.endpoint}'
            console.print(f"the planner listens; say something yourself: {escape(hint)}", highlight=False)
            result, world = _drive_with(settings, writer, narrator, planner)
        writer.finish(result)
    if video:
        from training.video import write_video

        write_video(writer.folder, settings, world, console)
    if not keep_frames:
        shutil.rmtree(writer.folder / "frames", ignore_errors=True)
    _print_verdict(result, console, writer.folder)
    return result


def _drive_with(settings, writer: RunWriter, narrator: Narrator, planner: PlannerProcess) -> tuple[dict, dict]:
    car = CarProcess(settings, writer.folder, planner.endpoint, narrator, writer)
    operator = Operator(settings, planner.endpoint, narrator)
    unsent = UnsentPlans(writer.folder / "planner.jsonl", narrator)
    try:
        _await(car.driving, car, planner, unsent, CAR_START_TIMEOUT_S, "the car did not start to drive")
        narrator.event("driving", road=car.world.get("road"))
        operator.start()
        _await(car.ended, car, planner, unsent, settings.seconds + GRACE_S, "the drive did not end")
    except LinkError as error:
        raise ProcessError(str(error)) from error
    finally:
        operator.leave.set()
        car.stop()
    if car.result is None:
        raise ProcessError("the car process ended without a result:\n" + "\n".join(car.tail))
    return car.result, car.world


def _print_verdict(result: dict, console: Console, folder: Path) -> None:
    yes = lambda good: "[green]yes[/green]" if good else "[red]no[/red]"  # noqa: E731
    console.print(f"\nstayed on the road  {yes(not result['off_road'])}")
    console.print(f"no collision        {yes(not result['collision'])}")
    for command in result["commands"]:
        console.print(f"obeyed “{escape(command['text'])}”: {yes(command['obeyed'])} ({escape(command['reason'])})")
    loop = result["loop"]
    console.print(
        f"driven {result['driven_m']} m; control loop {loop['rate_hz']} Hz, work p50 {loop['work_p50_ms']} ms, "
        f"p99 {loop['work_p99_ms']} ms, {loop['starved_ticks']} starved ticks",
        highlight=False,
    )
    console.print(
        f"[bold]{escape(str(folder))}[/bold]: front.mp4, plans.jsonl; read it with: pacenote logs", highlight=False
    )

"""The planner as a server: frames in, plans out, for many cars and one backend.

Two threads: bridge's I/O thread (hello, commands, stops, pings; never blocked by a model) and the model's thread, which
takes the freshest frame of every waiting car and answers them in one batch. A bad frame, a failing backend or a plan
that the guard refuses costs one plan and is noted in the log; only `close` ends the server.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bridge.link import FrameArrived, PlannerIo, PlannerLink
from bridge.messages import Command, CommandAck, Hello, Status, Stop, Timings, Welcome
from bridge.planning import PlanAnswer, PlanError, PlannerBackend, PlanRequest
from planner.session import Outcome, PlannerSession

log = logging.getLogger("pacenote.planner")

MAX_SIDE_PX = 4096
_TAKE_S = 0.5


@dataclass(frozen=True)
class _Job:
    """One frame on its way through the model's thread."""

    session: PlannerSession
    arrived: FrameArrived
    request: PlanRequest
    begin_s: float

    @property
    def queue_s(self) -> float:
        return max(self.begin_s - self.arrived.t_arrival_ns * 1e-9, 0.0)


class PlannerServer:
    """Serves a bound PlannerLink with a backend. Use as a context manager, or `start` and `close`.

    `on_record`: called in the model's thread with one JSON-ready dict per plan or failure (see `_record`).
    `problems`: what went wrong so far, by kind.
    """

    def __init__(self, backend: PlannerBackend, link: PlannerLink, *, on_record: Callable[[dict], None] | None = None):
        self.backend = backend
        self.problems: Counter[str] = Counter()
        self._on_record = on_record
        self._sessions: dict[str, PlannerSession] = {}
        self._lock = threading.Lock()  # guards the sessions and what is in them
        self._warned: dict[str, str] = {}  # car -> session in which it was said that it drives uncertified
        self._closing = threading.Event()
        self._io = PlannerIo(
            link, on_hello=self._hello, on_command=self._command, on_stop=self._stop, on_gone=self._gone,
            on_status=self._status,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._run, name="planner-model", daemon=True)

    def start(self) -> PlannerServer:
        """Start both threads."""
        self._io.start()
        self._thread.start()
        return self

    def close(self, timeout_s: float = 5.0) -> None:
        """End both threads and close the link; a model that hangs is left behind after `timeout_s`."""
        self._closing.set()
        self._io.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def __enter__(self) -> PlannerServer:
        return self.start()

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the model's thread runs (it ends only on `close`, or when the I/O thread has died)."""
        return self._thread.is_alive()

    def _hello(self, car_id: str, hello: Hello) -> Welcome:
        with self._lock:
            known = self._sessions.get(car_id)
            same = known is not None and known.profile == hello.profile
            self._sessions[car_id] = (
                known.renewed(hello) if same else PlannerSession(hello, confirm=not self.backend.wants_truth)
            )
        return Welcome(
            session_id=hello.session_id,
            model=self.backend.name,
            rate_hz=self.backend.rate_hz,
            wants_truth=self.backend.wants_truth,
        )

    def _command(self, command: Command) -> CommandAck:
        with self._lock:
            session = self._sessions.get(command.car_id)
            if session is None:
                return CommandAck(id=command.id, accepted=False, reason=f"no session with car {command.car_id!r}")
            session.take_command(command, time.monotonic_ns())
        return CommandAck(id=command.id, accepted=True)

    def _stop(self, stop: Stop, car_ids: tuple[str, ...]) -> None:
        with self._lock:
            for car_id in car_ids:
                if car_id in self._sessions:
                    self._sessions[car_id].drop_command()

    def _status(self, car_id: str, status: Status) -> None:
        if status.uncertified and self._warned.get(car_id) != status.session_id:
            self._warned[car_id] = status.session_id
            log.warning("%s drives UNCERTIFIED: its policy has not passed the gate", car_id)

    def _gone(self, car_id: str, reason: str) -> None:
        with self._lock:
            self._sessions.pop(car_id, None)
        self._warned.pop(car_id, None)

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._closing.wait(max(due_s - time.monotonic(), 0.0)):
            try:
                arrived = self._io.take(_TAKE_S)
            except RuntimeError:
                log.exception("the planner cannot go on without its I/O thread")
                return
            if arrived:  # no faster than announced: the machine may have more to do
                due_s = time.monotonic() + 1.0 / self.backend.rate_hz
            jobs = [job for frame in arrived if (job := self._job(frame)) is not None]
            if not jobs:
                continue
            for job, answer in zip(jobs, self._ask([job.request for job in jobs]), strict=True):
                try:
                    self._deliver(job, answer)
                except Exception as error:  # an answer that cannot be a Plan, say; the next one may be
                    self._fail(job, f"{type(error).__name__}: {error}")

    def _job(self, arrived: FrameArrived) -> _Job | None:
        begin_s = time.monotonic()
        with self._lock:
            session = self._sessions.get(arrived.car_id)
            if session is None or session.session_id != arrived.frame.session_id:
                return None
        try:
            image = decode_jpeg(arrived.jpeg)
        except ValueError as error:
            self.problems["bad_jpeg"] += 1
            self._write({**_reference(arrived), "error": str(error)})
            return None
        with self._lock:
            request = session.request(arrived.frame, image, time.monotonic_ns())
        return _Job(session, arrived, request, begin_s)

    def _ask(self, requests: Sequence[PlanRequest]) -> list[PlanAnswer | PlanError]:
        """The backend's answers. When it fails on a batch, each request is tried alone: one car's frame must not cost
        the others theirs."""
        try:
            answers = list(self.backend.plan(requests))
            if len(answers) != len(requests):
                raise PlanError(f"{len(answers)} answers to {len(requests)} requests")
            return answers
        except Exception as error:
            log.exception("the backend failed on %d requests", len(requests))
            self.problems["backend_error"] += 1
            if len(requests) == 1:
                return [PlanError(f"{type(error).__name__}: {error}")]
        return [answer for request in requests for answer in self._ask([request])]

    def _deliver(self, job: _Job, answer: PlanAnswer | PlanError) -> None:
        if isinstance(answer, PlanError):
            self._fail(job, str(answer))
            return
        total_s = time.monotonic() - job.arrived.t_arrival_ns * 1e-9
        timings = Timings(queue_s=job.queue_s, model_s=answer.model_s, total_s=max(total_s, 0.0))
        with self._lock:
            outcome = job.session.finish(
                job.request, answer, job.arrived.frame, model=self.backend.name, timings=timings
            )
        if outcome.plan is not None:
            self._io.submit_plan(job.arrived.car_id, outcome.plan)
        else:
            self.problems["guard"] += 1
        self._write(_record(job, answer, outcome, timings))

    def _fail(self, job: _Job, error: str) -> None:
        self.problems["no_plan"] += 1
        self._write({**_reference(job.arrived), "command": _command_of(job.request), "error": error})

    def _write(self, record: dict) -> None:
        if self._on_record is None:
            return
        try:
            self._on_record(record)
        except Exception:  # a full disk must not stop the plans
            self.problems["record"] += 1
            log.exception("a plan could not be recorded")


def decode_jpeg(data: bytes) -> np.ndarray:
    """RGB uint8 (h, w, 3). Raises ValueError for anything that is not a JPEG of a sane size."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if max(image.size) > MAX_SIDE_PX or min(image.size) < 16:
                raise ValueError(f"frame: {image.size[0]} x {image.size[1]} pixels, 16 to {MAX_SIDE_PX} are taken")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"frame: not a readable JPEG ({error})") from None


def _reference(arrived: FrameArrived) -> dict:
    frame = arrived.frame
    return {
        "car_id": arrived.car_id,
        "session_id": frame.session_id,
        "frame": {"seq": frame.seq, "t_capture_ns": frame.t_capture_ns},
    }


def _command_of(request: PlanRequest) -> dict | None:
    command = request.command
    return None if command is None else {"id": command.id, "text": command.text, "age_s": round(command.age_s, 3)}


def _record(job: _Job, answer: PlanAnswer, outcome: Outcome, timings: Timings) -> dict:
    """One line of the planner's log. `seq` is the plan's, None when `guard` lists why none was sent; of one that was
    sent it lists what was changed in it."""
    verdict = None
    if answer.verdict is not None and job.request.command is not None:
        verdict = {
            "command_id": job.request.command.id,
            "verdict": str(answer.verdict),
            "reason": answer.verdict_reason,
        }
    return {
        **_reference(job.arrived),
        "seq": outcome.plan.seq if outcome.plan else None,
        "command": _command_of(job.request),
        "prompt": answer.prompt,
        "raw": answer.raw,
        "reasoning": answer.reasoning,
        "intent": str(answer.intent),
        "waypoints": [[round(w.x_m, 4), round(w.y_m, 4), round(w.v_mps, 4)] for w in answer.waypoints],
        "lane": answer.lane,
        "verdict": verdict,
        "guard": list(outcome.problems),
        "cruise_mps": round(job.request.cruise_mps, 3),
        "timings": {k: round(v, 4) for k, v in timings.model_dump().items()},
    }

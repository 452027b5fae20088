"""Recorded camera frames through both layers over the real link: the planner at its own pace, the controller on every
frame. Steering comes out per frame, to be held against what the human steered.

The car in the recording does not do what the controller says, so this is open loop. Its motion is seldom recorded: a
nominal speed stands in for the speed, and the turn of the picture between two frames (phase correlation) for the yaw
rate. The human's steering is never shown to either layer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bridge.clock import NS_PER_S, MonotonicClock, VirtualClock
from bridge.link import CarLink
from bridge.messages import EgoState, Frame, Plan, VehicleProfile
from bridge.vehicle import Sensors
from controller.core import Controller
from controller.loop import Loop
from controller.policies import load_policy
from controller.settings import ControllerSettings
from training.processes import PlannerProcess, ProcessError
from training.recordings import RecordedFrame, RecordingError, open_recording

PLAN_TIMEOUT_S = 60.0
FLOW_WIDTH_PX = 160


class ReplaySettings(BaseModel):
    """What to replay, through what. `delay_ms` (lock-step only) is the planner's virtual delay; None: as measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    planner: str = "nano"
    controller: str = "flow"
    rate_hz: float = Field(20.0, gt=0.0, le=200.0)
    speed_mps: float = Field(1.0, ge=0.0)
    lock_step: bool = False
    delay_ms: float | None = Field(None, ge=0.0)
    limit: int | None = Field(None, ge=1)
    profile: VehicleProfile = VehicleProfile()


@dataclass(frozen=True)
class Picture:
    """A frame ready to be used: RGB uint8, the JPEG as recorded, and the yaw rate seen since the frame before."""

    image: np.ndarray
    jpeg: bytes
    yaw_rate_radps: float


class YawSeen:
    """Yaw rate from two pictures: the sideways shift of the upper half, where things are far away."""

    def __init__(self, profile: VehicleProfile, rate_hz: float):
        self._rad_per_px = profile.camera.hfov_rad / FLOW_WIDTH_PX
        self._rate_hz = rate_hz
        self._before: np.ndarray | None = None
        self._yaw_rate = 0.0

    def update(self, image: np.ndarray) -> float:
        """Yaw rate [rad/s], positive to the left, smoothed over about three frames."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        grey = cv2.resize(grey, (FLOW_WIDTH_PX, 120), interpolation=cv2.INTER_AREA)[:48].astype(np.float32)
        before, self._before = self._before, grey
        if before is None:
            return 0.0
        window = cv2.createHanningWindow(grey.shape[::-1], cv2.CV_32F)
        (shift_px, _), _ = cv2.phaseCorrelate(before, grey, window)
        seen = float(np.clip(shift_px, -20, 20)) * self._rad_per_px * self._rate_hz  # turning left moves it right
        self._yaw_rate += 0.4 * (seen - self._yaw_rate)
        return self._yaw_rate


def decode(frame: RecordedFrame) -> tuple[np.ndarray, bytes]:
    """RGB uint8 (h, w, 3) and the encoded bytes. Raises RecordingError."""
    data = frame.jpeg()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise RecordingError(f"frame {frame.index}: {frame.image} is no picture that can be read")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), data


class Replay:
    """Both layers, fed from a recording. `link` is connected to a planner."""

    def __init__(self, settings: ReplaySettings, link: CarLink):
        self.settings, self.link = settings, link
        self.controller = Controller(
            settings.profile,
            load_policy(settings.controller, settings.profile),
            ControllerSettings(rate_hz=settings.rate_hz),
        )
        self._yaw = YawSeen(settings.profile, settings.rate_hz)
        self._steering = 0.0
        self._session = ""
        self._seq = 0
        self.plans: list[Plan] = []

    def take_plan(self, plan: Plan | None, now_ns: int) -> None:
        """Hand a plan to the controller."""
        if plan is not None:
            self.plans.append(plan)
            self.controller.on_plan(plan, now_ns)

    def offer(self, recorded: RecordedFrame, picture: Picture, now_ns: int) -> bool:
        """Send the frame if the planner has asked for one."""
        if self.link.session_id != self._session:
            self._session = self.link.session_id
            self.controller.start_session(self._session)
        self._seq += 1
        frame = Frame(
            session_id=self._session,
            seq=self._seq,
            t_capture_ns=now_ns,
            ego=self._ego(recorded, picture),
            doing=self.controller.doing(now_ns),
        )
        return self.link.offer_frame(frame, picture.jpeg)

    def picture(self, recorded: RecordedFrame) -> Picture:
        """Decode the next frame; call once a frame, in order."""
        image, jpeg = decode(recorded)
        return Picture(image, jpeg, self._yaw.update(image))

    def _ego(self, recorded: RecordedFrame, picture: Picture) -> EgoState:
        speed = self.settings.speed_mps if recorded.speed_mps is None else recorded.speed_mps
        return EgoState(speed_mps=speed, yaw_rate_radps=picture.yaw_rate_radps, steering=self._steering)

    def tick(self, recorded: RecordedFrame, picture: Picture, now_ns: int) -> dict:
        """One control tick; the row for the result."""
        control = self.controller.tick(now_ns, Sensors(picture.image, self._ego(recorded, picture), now_ns))
        self._steering = control.steering
        age = control.plan_age_s
        return {
            "index": recorded.index,
            "steering": round(control.steering, 5),
            "acceleration": round(control.acceleration, 5),
            "intent": str(control.intent),
            "plan_age_s": None if age is None else round(age, 4),
        }


def _wait_connected(link: CarLink, planner: PlannerProcess) -> None:
    deadline_s = time.monotonic() + PLAN_TIMEOUT_S
    while not link.wants_frame:
        link.poll(50)
        if not planner.alive or time.monotonic() > deadline_s:
            raise ProcessError(f"no credit from the planner: {link.problem}\n" + "\n".join(planner.tail))


def _at_wall_pace(run: Replay, frames: list[RecordedFrame]) -> list[dict]:
    """Both layers in real time: the planner answers when it answers."""
    rows: list[dict] = []

    def step(now_ns: int) -> None:
        recorded = frames[len(rows)]
        picture = run.picture(recorded)
        run.take_plan(run.link.poll().plan, now_ns)
        run.offer(recorded, picture, now_ns)
        rows.append(run.tick(recorded, picture, now_ns))

    Loop(MonotonicClock(), run.settings.rate_hz).run(step, lambda: len(rows) < len(frames))
    return rows


def _await_plan(link: CarLink, planner: PlannerProcess) -> Plan | None:
    """The plan for the frame just sent; None where the planner could make none and asks for another frame."""
    deadline_s = time.monotonic() + PLAN_TIMEOUT_S
    while time.monotonic() < deadline_s:
        plan = link.poll(20).plan
        if plan is not None or link.wants_frame:
            return plan
        if not planner.alive:
            break
    raise ProcessError("the planner gave no plan:\n" + "\n".join(planner.tail))


def _in_lock_step(run: Replay, frames: list[RecordedFrame], planner: PlannerProcess) -> list[dict]:
    """Virtual time: a plan arrives `delay_ms` (or as long as the planner really took) after its frame."""
    clock = VirtualClock(NS_PER_S)
    rows, due = [], None
    for recorded in frames:
        now_ns = clock.now_ns()
        picture = run.picture(recorded)
        if due is not None and now_ns >= due[0]:
            run.take_plan(due[1], now_ns)
            due = None
        if due is None:
            _wait_connected(run.link, planner)
            started_s = time.monotonic()
            if run.offer(recorded, picture, now_ns):
                plan = _await_plan(run.link, planner)
                took_s = time.monotonic() - started_s
                delay_s = took_s if run.settings.delay_ms is None else run.settings.delay_ms / 1000
                due = (now_ns + round(delay_s * NS_PER_S), plan)
        rows.append(run.tick(recorded, picture, now_ns))
        clock.advance_s(1.0 / run.settings.rate_hz)
    return rows


def compare(rows: list[dict], frames: list[RecordedFrame]) -> dict:
    """How our steering goes with the human's (both positive left), beside a predictor that always says the mean of it.
    Correlation of a constant is undefined and counted as 0. Empty where the recording has no steering."""
    pairs = [(r["steering"], f.steering) for r, f in zip(rows, frames) if f.steering is not None]
    if len(pairs) < 2:
        return {}
    ours, human = np.array(pairs, dtype=float).T
    moves = ours.std() > 1e-9 and human.std() > 1e-9
    return {
        "frames": len(pairs),
        "correlation": round(float(np.corrcoef(ours, human)[0, 1]) if moves else 0.0, 4),
        "mean_abs_error": round(float(np.abs(ours - human).mean()), 4),
        "constant_correlation": 0.0,
        "constant_mean_abs_error": round(float(np.abs(human - human.mean()).mean()), 4),
    }


def replay(settings: ReplaySettings) -> tuple[list[dict], dict]:
    """Per-frame rows {"index", "steering", "acceleration", "intent", "plan_age_s"} and a summary: `compare`'s figures
    and the number of plans. Raises RecordingError, ProcessError, or what loading a policy raises."""
    if settings.planner == "expert":
        raise RecordingError("the expert needs the truth of a simulated world; replay with nano or another model")
    frames = open_recording(settings.source)[: settings.limit]
    with PlannerProcess(settings.planner) as planner, CarLink("replay", settings.profile) as link:
        link.connect(planner.endpoint)
        run = Replay(settings, link)
        _wait_connected(link, planner)
        started_s = time.monotonic()
        rows = _in_lock_step(run, frames, planner) if settings.lock_step else _at_wall_pace(run, frames)
        took_s = time.monotonic() - started_s
    summary = {"plans": len(run.plans), "took_s": round(took_s, 2), **compare(rows, frames)}
    return rows, summary

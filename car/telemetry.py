"""One row of telemetry a control tick: flat, with units in the names. Knows no file format."""

from __future__ import annotations

from typing import Protocol

from bridge.clock import NS_PER_S
from bridge.messages import Plan
from bridge.vehicle import Sensors
from controller.core import Control


def telemetry_row(tick: int, t_s: float, sensors: Sensors, control: Control) -> dict:
    """`t_s`: since the start of the run. `events`: ids and details of what happened since the tick before."""
    return {
        "tick": tick,
        "t_s": round(t_s, 4),
        "t_capture_ns": sensors.t_capture_ns,
        "speed_mps": round(sensors.ego.speed_mps, 4),
        "yaw_rate_radps": round(sensors.ego.yaw_rate_radps, 4),
        "steering": round(control.steering, 4),
        "acceleration": round(control.acceleration, 4),
        "throttle": round(control.throttle, 4),
        "brake": round(control.brake, 4),
        "mode": str(control.mode),
        "driver": control.driver,
        "intent": str(control.intent),
        "plan_age_s": None if control.plan_age_s is None else round(control.plan_age_s, 4),
        "events": "; ".join(f"{event.id} {event.detail}".strip() for event in control.events),
    }


class Log(Protocol):
    """What is used of `cockpit.runs.RunWriter`."""

    def tick(self, row: dict) -> None: ...
    def plan(self, plan: Plan, age_s: float | None, rejected: str | None, t_s: float | None) -> None: ...


class Recorder:
    """Turns the program's callbacks into rows and lines; time counts from the first tick or plan."""

    def __init__(self, log: Log):
        self._log = log
        self._tick = 0
        self._start_ns: int | None = None

    def t_s(self, now_ns: int) -> float:
        """Seconds since the first call."""
        if self._start_ns is None:
            self._start_ns = now_ns
        return (now_ns - self._start_ns) / NS_PER_S

    def on_tick(self, now_ns: int, sensors: Sensors, control: Control) -> None:
        """For `CarProgram(on_tick=...)`."""
        self._log.tick(telemetry_row(self._tick, self.t_s(now_ns), sensors, control))
        self._tick += 1

    def on_plan(self, now_ns: int, plan: Plan, rejected: str | None) -> None:
        """For `CarProgram(on_plan=...)`."""
        age_s = (now_ns - plan.t_capture_ns) / NS_PER_S
        self._log.plan(plan, age_s, rejected, self.t_s(now_ns))

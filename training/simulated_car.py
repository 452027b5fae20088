"""The car process of `pacenote drive`: a world that drives like a vehicle, the on-car program, and the judge.

Started by `simulate.py` as `python -m training.simulated_car SETTINGS.json`; tells everything as JSON lines on stdout
({"plan": ...}, {"tick": ...}, {"event": ...}). Knows commands only to judge whether they were obeyed: they travel from
the operator to the planner, never through here.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from bridge.clock import NS_PER_S, MonotonicClock
from bridge.link import CarLink
from bridge.messages import Plan, VehicleProfile
from bridge.planning import Instruction
from bridge.scale import MODEL_CAR, scale_of
from bridge.vehicle import Sensors
from car.program import CarProgram, quit_on_signals
from car.telemetry import telemetry_row
from car.watchdog import Watchdog
from cockpit.runs import plan_entry
from controller.core import Control, Controller
from controller.policies import load_policy
from controller.settings import ControllerSettings
from planner.phrasebook import understand
from sims.judge import Judge
from sims.scenarios import Scenario, TimedCommand
from sims.truth import Truth
from sims.vehicle_adapter import WorldVehicle
from sims.world import STEP_S, World, WorldError
from training.drive_scene import DriveSettings, drivable_world, make_scene

PICTURE_EVERY_TICKS = 2
JPEG_QUALITY = 92
LIMIT_S = {"overtake_left": 15.0, "overtake_right": 15.0, "follow_vehicle": 14.0, "pull_over": 14.0, "stop": 4.0}


def tell(**fields) -> None:
    """One line for the parent."""
    sys.stdout.write(json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


class CommandJudge:
    """Whether one command of the timeline was obeyed, by the rules of the scenario of the same name."""

    def __init__(
        self,
        text: str,
        instruction: Instruction,
        t_s: float,
        until_s: float,
        truth: Truth,
        scene: Scenario,
        profile: VehicleProfile = MODEL_CAR,
    ):
        kind = instruction.kind
        step = 1 if kind.endswith("left") else -1
        target = truth.lane + step
        if kind.startswith("keep_"):
            target = truth.lane_count - 1 if kind == "keep_left" else 0
        self.text, self.t_s, self.kind = text, t_s, kind
        self._actor = _nearest_ahead(truth)
        params = {"t_command_s": 0.0, "start_lane": truth.lane, "target_lane": target, "step": step}
        params |= {"speed_mps": instruction.speed_mps, "distance_m": 1.0}
        limit_s = min(LIMIT_S.get(kind, 6.0) * scale_of(profile).time, max(until_s - t_s, 1.0))
        command = TimedCommand(0.0, text, instruction)
        scenario = replace(scene, name=kind, commands=(command,), duration_s=limit_s, params=params)
        self._judge = Judge(scenario, profile)

    def observe(self, truth: Truth) -> None:
        """One step of the world."""
        actors = (truth.actors[self._actor],) if self._actor is not None else ()
        if actors or self.kind not in ("overtake_left", "overtake_right", "follow_vehicle", "avoid_obstacle"):
            self._judge.observe(replace(truth, actors=actors))

    def result(self) -> dict:
        """{"t_s", "text", "kind", "obeyed", "reason"}; time that has run out counts as not obeyed."""
        outcome = self._judge.result()
        return {
            "t_s": self.t_s,
            "text": self.text,
            "kind": self.kind,
            "obeyed": outcome.success,
            "reason": outcome.reason,
        }


def _nearest_ahead(truth: Truth) -> int | None:
    ahead = [(a.s_ahead_m + 100.0 * (a.lane != truth.lane), i) for i, a in enumerate(truth.actors) if a.s_ahead_m > 0]
    return min(ahead)[1] if ahead else None


class SimulatedDrive:
    """World, program and judges of one drive. Time counts from the first plan that the controller takes."""

    def __init__(self, settings: DriveSettings, folder: Path):
        self.settings, self.folder = settings, folder
        spec = drivable_world(settings.world)
        camera = spec.profile.camera
        self.scene = make_scene(settings)
        self.env: World = spec.make(
            camera_size=(camera.width_px, camera.height_px), randomize=settings.randomize, seed=settings.seed
        )
        self.profile = self.env.profile
        observation, info = self.env.start(self.scene, settings.seed)
        self.clock = MonotonicClock()
        self.vehicle = WorldVehicle(
            self.env, observation, info["truth"], self.profile, self.clock, step_s=STEP_S, on_step=self._on_step
        )
        policy = load_policy(settings.controller, self.profile, simulated=True)
        self.controller = Controller(self.profile, policy, ControllerSettings())
        self.truth: Truth = info["truth"]
        self.start_ns: int | None = None
        self.judges: list[CommandJudge] = []
        self._due = [(t, text, understand(text)) for t, text in settings.timeline]
        self._ticks = 0

    def t_s(self, now_ns: int) -> float:
        """Seconds since the car began to drive."""
        return 0.0 if self.start_ns is None else (now_ns - self.start_ns) / NS_PER_S

    def run(self, endpoint: str) -> None:
        """Drive, then tell the result."""
        (self.folder / "frames").mkdir(exist_ok=True)
        with CarLink("sim", self.profile) as link:
            link.connect(endpoint)
            watchdog = Watchdog(self.vehicle.stop, 0.5)
            program = CarProgram(
                self.vehicle, link, self.controller, self.clock, watchdog=watchdog,
                on_tick=self._on_tick, on_plan=self._on_plan,
            )  # fmt: skip
            self._program = program
            with quit_on_signals(program):
                program.run()
            tell(event="result", **self._result(program, link))

    def _on_plan(self, now_ns: int, plan: Plan, rejected: str | None) -> None:
        if self.start_ns is None and rejected is None:
            self.start_ns = now_ns
            tell(event="driving", t_ns=now_ns)
        age_s = (now_ns - plan.t_capture_ns) / NS_PER_S
        tell(plan=plan_entry(plan, self.t_s(now_ns), age_s, rejected))

    def _on_tick(self, now_ns: int, sensors: Sensors, control: Control) -> None:
        truth = self.truth
        row = telemetry_row(self._ticks, self.t_s(now_ns), sensors, control)
        row |= {
            "x_m": round(truth.x_m, 4), "y_m": round(truth.y_m, 4), "yaw_rad": round(truth.yaw_rad, 5),
            "s_m": round(truth.s_m, 3), "d_m": round(truth.d_m, 4), "lane": truth.lane,
            "collision": truth.collision, "off_road": truth.off_road,
            "actors": [
                [a.kind, round(a.x_m, 3), round(a.y_m, 3), round(a.yaw_rad, 3), a.length_m, a.width_m]
                for a in truth.actors
            ],
        }  # fmt: skip
        row["actors"] = json.dumps(row["actors"])
        tell(tick=row)
        if self._ticks % PICTURE_EVERY_TICKS == 0 and sensors.image is not None:
            self._keep_picture(sensors.image)
        self._ticks += 1
        if self.t_s(now_ns) >= self.settings.seconds:
            self._program.quit()

    def _keep_picture(self, image: np.ndarray) -> None:
        path = self.folder / "frames" / f"{self._ticks:06d}.jpg"
        cv2.imwrite(str(path), image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))

    def _on_step(self, truth: Truth) -> None:
        self.truth = truth
        if self.start_ns is None:
            return
        t_s = self.t_s(self.clock.now_ns())
        while self._due and self._due[0][0] <= t_s:
            at_s, text, instruction = self._due.pop(0)
            until_s = self._due[0][0] if self._due else self.settings.seconds
            if instruction is not None:
                self.judges.append(CommandJudge(text, instruction, at_s, until_s, truth, self.scene, self.profile))
        for judge in self.judges:
            judge.observe(truth)

    def _result(self, program: CarProgram, link: CarLink) -> dict:
        stats = program.loop.stats()
        commands = [judge.result() for judge in self.judges]
        truth = self.truth
        return {
            "collision": truth.collision,
            "off_road": truth.off_road,
            "driven_m": round(truth.progress_m, 2),
            "commands": commands,
            "success": not (truth.collision or truth.off_road) and self.start_ns is not None,
            "obeyed": sum(c["obeyed"] for c in commands),
            "loop": {
                "ticks": stats.ticks,
                "starved_ticks": stats.starved_ticks,
                "rate_hz": round(stats.rate_hz, 2),
                "work_p50_ms": round(1000 * stats.work_p50_s, 2),
                "work_p99_ms": round(1000 * stats.work_p99_s, 2),
            },
            "link_drops": dict(link.drops),
            "rejected_plans": dict(self.controller.rejected),
            "events": dict(self.controller.event_counts),
        }


def camera_pose(world: World) -> dict[str, float]:
    """Where this episode's camera is and how it looks (x, y, z [m], pitch, roll, yaw, hfov [rad], fisheye 0 or 1): as
    the world says, else as its profile does."""
    if hasattr(world, "camera"):
        return world.camera()
    c = world.profile.camera
    pose = {"x": c.x_m, "y": c.y_m, "z": c.z_m, "pitch": c.pitch_rad, "roll": 0.0, "yaw": 0.0, "hfov": c.hfov_rad}
    return {**pose, "fisheye": float(c.lens == "fisheye")}


def main() -> None:
    """Arguments: settings file, run folder, planner's address."""
    settings_file, folder, endpoint = sys.argv[1:4]
    settings = DriveSettings.model_validate_json(Path(settings_file).read_text(encoding="utf-8"))
    cv2.setNumThreads(1)
    try:
        drive = SimulatedDrive(settings, Path(folder))
        try:
            camera, profile = camera_pose(drive.env), drive.profile.model_dump(mode="json")
            tell(event="world", camera=camera, profile=profile, road=drive.scene.road.name)
            drive.run(endpoint)
        finally:
            drive.env.close()
    except WorldError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

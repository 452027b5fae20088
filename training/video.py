"""The film of a simulated drive: the camera's picture with the plan drawn in, a bird's-eye view beside it, and what was
said below. Made after the drive from the run folder, so that it costs the drive nothing.

Knows the run folder and the world's road and camera; nothing of planners and controllers.
"""

from __future__ import annotations

import json
import os
import textwrap
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress

from bridge.messages import VehicleProfile
from bridge.scale import Scale, scale_of
from cockpit.runs import Run
from sims.birdseye import draw_birdseye
from sims.road import Road
from sims.track import rays
from sims.track.look import CAMERA
from sims.truth import ActorTruth, Truth
from training.drive_scene import DriveSettings, make_scene

FPS = 15
CAMERA_PX = 640  # width of the camera's picture in the film
VIEW_M = 8.0  # side of the bird's-eye view, for the default car
CAPTION_PX = 132
GREEN, RED, WHITE, YELLOW, GREY = (70, 230, 110), (235, 70, 60), (240, 240, 240), (245, 205, 70), (150, 150, 150)
DARK, CYAN = (24, 27, 31), (110, 220, 230)
VERDICT_COLOURS = {"accepted": CYAN, "waiting": YELLOW, "refused": RED, "done": GREEN}


@dataclass(frozen=True)
class Moment:
    """All that one picture shows. `plan_world` (n, 3): x, y [m, world], v [m/s]; None without a plan."""

    row: dict
    plan: dict | None
    plan_world: np.ndarray | None
    command: dict | None
    verdict: dict | None


def to_ego(points: np.ndarray, row: dict) -> np.ndarray:
    """World (n, 2) to the ego frame of a telemetry row."""
    dx, dy = points[:, 0] - row["x_m"], points[:, 1] - row["y_m"]
    c, s = np.cos(row["yaw_rad"]), np.sin(row["yaw_rad"])
    return np.column_stack([dx * c + dy * s, dy * c - dx * s])


def to_world(points: np.ndarray, row: dict) -> np.ndarray:
    """Ego frame of a telemetry row (n, 2) to world."""
    c, s = np.cos(row["yaw_rad"]), np.sin(row["yaw_rad"])
    return np.column_stack(
        [row["x_m"] + points[:, 0] * c - points[:, 1] * s, row["y_m"] + points[:, 0] * s + points[:, 1] * c]
    )


def _resample(points: np.ndarray, step_m: float) -> np.ndarray:
    """A path (n, k), x and y first, with a point every `step_m`."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points[:, :2], axis=0).T))])
    keep = np.concatenate([[True], np.diff(along) > 1e-6])
    at = np.arange(0.0, max(along[-1], step_m), step_m)
    return np.column_stack([np.interp(at, along[keep], column[keep]) for column in points.T])


class CameraView:
    """Draws the plan into the camera's picture."""

    def __init__(self, camera: dict, profile: VehicleProfile):
        self._cam = np.zeros(1, CAMERA)[0]
        for name, value in camera.items():
            self._cam[name] = value
        self._rotation = rays.rotation(self._cam)
        self._half_m, self._scale = profile.width_m / 2, scale_of(profile)

    def draw(self, image: np.ndarray, moment: Moment) -> np.ndarray:
        """RGB, CAMERA_PX wide, with the planned path as a ribbon of the car's width."""
        height, width = image.shape[:2]
        size = CAMERA_PX, round(height * CAMERA_PX / width / 2) * 2
        canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        if moment.plan_world is None:
            return canvas
        ego = to_ego(moment.plan_world[:, :2], moment.row)
        path = _resample(np.column_stack([ego, moment.plan_world[:, 2]]), 0.08 * self._scale.length)
        heading = np.unwrap(np.arctan2(np.gradient(path[:, 1]), np.gradient(path[:, 0])))
        side = np.column_stack([-np.sin(heading), np.cos(heading)]) * self._half_m
        in_view_m = float(self._cam["x"]) + 0.12 * self._scale.length
        near = path[:, 0] > in_view_m
        left, right = (self._pixels(path[:, :2] + sign * side, width, height) for sign in (1, -1))
        overlay = canvas.copy()
        for k in np.flatnonzero(near[:-1] & near[1:]):
            corners = np.array([left[k], left[k + 1], right[k + 1], right[k]])
            cv2.fillConvexPoly(
                overlay, corners.astype(np.int32), _speed_colour(path[k, 2] / self._scale.speed), cv2.LINE_AA
            )
        canvas = cv2.addWeighted(overlay, 0.45, canvas, 0.55, 0.0)
        waypoints = ego[ego[:, 0] > in_view_m]
        for x, y in self._pixels(waypoints, width, height).astype(int):
            cv2.circle(canvas, (x, y), 5, WHITE, -1, cv2.LINE_AA)
            cv2.circle(canvas, (x, y), 5, (0, 0, 0), 1, cv2.LINE_AA)
        return canvas

    def _pixels(self, points: np.ndarray, width: int, height: int) -> np.ndarray:
        f = rays.focal_px(self._cam, width)
        flat = [rays.project(self._cam, self._rotation, f, x, y, 0.0, width, height) for x, y in points]
        return np.clip(np.array(flat, dtype=float).reshape(-1, 2) * CAMERA_PX / width, -10_000, 10_000)


def _speed_colour(speed_mps: float) -> tuple[int, int, int]:
    """Red at standstill over yellow to green at 1.2 m/s, of the default car."""
    share = float(np.clip(speed_mps / 1.2, 0.0, 1.0))
    a, b, t = (RED, YELLOW, 2 * share) if share < 0.5 else (YELLOW, GREEN, 2 * share - 1)
    return tuple(int(p + (q - p) * t) for p, q in zip(a, b))


def truth_of(row: dict, road: Road, scale: Scale) -> Truth:
    """What the bird's-eye view needs, from a row of telemetry and the road."""
    s = np.arange(-3.0, VIEW_M, 0.2) * scale.length
    x, y, yaw = road.to_world(row["s_m"] + s, 0.0)
    left, right = road.edges_at(row["s_m"])
    actors = tuple(
        ActorTruth(kind, x_m, y_m, yaw_rad, 0.0, 0.0, 0.0, 0, length, width)
        for kind, x_m, y_m, yaw_rad, length, width in json.loads(row["actors"])
    )
    return Truth(
        t_s=row["t_s"], x_m=row["x_m"], y_m=row["y_m"], yaw_rad=row["yaw_rad"], speed_mps=row["speed_mps"],
        yaw_rate_radps=row["yaw_rate_radps"], steering=row["steering"], s_m=row["s_m"], progress_m=0.0, d_m=row["d_m"],
        heading_error_rad=0.0, lane=row["lane"], lane_count=road.lane_count, left_edge_d_m=float(left),
        right_edge_d_m=float(right), road_length_m=road.length_m,
        ahead=np.column_stack([s, x, y, yaw, road.curvature_at(row["s_m"] + s)]), actors=actors,
    )  # fmt: skip


def caption(moment: Moment, width_px: int) -> np.ndarray:
    """What was said: command, verdict, intent, reasoning; and the figures of the moment."""
    strip = np.full((CAPTION_PX, width_px, 3), DARK, np.uint8)
    row, plan = moment.row, moment.plan or {}
    age = "-" if row["plan_age_s"] is None else f"{row['plan_age_s']:.2f} s"
    figures = f"{row['t_s']:5.1f} s   {row['speed_mps']:.2f} m/s   {row['mode']}   plan age {age}   {row['driver']}"
    _text(strip, figures, (16, 26), GREY, 0.5)
    if moment.command:
        _text(strip, f"operator: {_plain(moment.command['text'])}", (16, 54), WHITE, 0.6, 2)
    if moment.verdict:
        words = str(moment.verdict["verdict"]) + (f": {moment.verdict['reason']}" if moment.verdict["reason"] else "")
        _text(strip, _plain(words), (width_px // 2, 54), VERDICT_COLOURS.get(moment.verdict["verdict"], WHITE), 0.6, 2)
    reasoning = f"{plan.get('intent', '')}: {plan.get('reasoning', '')}" if plan else "waiting for the first plan"
    for k, line in enumerate(textwrap.wrap(_plain(reasoning), 122)[:3]):
        _text(strip, line, (16, 82 + 22 * k), CYAN, 0.52)
    return strip


def _plain(text: str) -> str:
    """OpenCV's font has no Chinese; its place is marked."""
    return text if text.isascii() else text.encode("ascii", "replace").decode()


def _text(canvas, text: str, at: tuple[int, int], colour: tuple, size: float, width: int = 1) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA)


class Film:
    """The pictures of a run, by index. `settings` and `world` as `simulate.drive` has them."""

    def __init__(self, folder: Path, settings: DriveSettings, world: dict):
        run = Run(folder)
        columns = run.telemetry()
        self.rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
        self._by_stamp = {row["t_capture_ns"]: row for row in self.rows}
        self._by_tick = {row["tick"]: k for k, row in enumerate(self.rows)}
        self._plans = [p for p in run.plans() if p.get("t_s") is not None and not p.get("rejected")]
        events = run.events()
        self._commands = [e for e in events if e["event"] == "command"]
        self._verdicts = [e for e in events if e["event"] in ("verdict", "command")]
        self.pictures = sorted((folder / "frames").glob("*.jpg"))
        self._profile = VehicleProfile(**world["profile"])
        self._camera = CameraView(world["camera"], self._profile)
        self._road = make_scene(settings).road

    def moment(self, index: int) -> Moment:
        """Everything about picture `index`."""
        at = self._by_tick[int(self.pictures[index].stem)]
        row = self.rows[at]
        plan = _latest(self._plans, row["t_s"])
        captured = self._by_stamp.get(plan["frame"]["t_capture_ns"]) if plan else None
        plan_world = None
        if captured is not None:
            points = np.array(plan["waypoints"], dtype=float)
            plan_world = np.column_stack([to_world(points[:, :2], captured), points[:, 2]])
        verdict = _latest(self._verdicts, row["t_s"])
        verdict = verdict if verdict and verdict["event"] == "verdict" else None
        return Moment(row, plan, plan_world, _latest(self._commands, row["t_s"]), verdict)

    def picture(self, index: int) -> np.ndarray:
        """RGB, one frame of the film."""
        moment = self.moment(index)
        image = cv2.cvtColor(cv2.imread(str(self.pictures[index])), cv2.COLOR_BGR2RGB)
        scale = scale_of(self._profile)
        truth, span_m = truth_of(moment.row, self._road, scale), VIEW_M * scale.length
        view = self._camera.draw(image, moment)
        above = draw_birdseye(truth, moment.plan_world, view.shape[0], span_m, self._profile)
        top = np.hstack([view, above])
        return np.vstack([top, caption(moment, top.shape[1])])


def _latest(entries: list[dict], t_s: float) -> dict | None:
    k = bisect_right(entries, t_s, key=lambda e: e["t_s"])
    return entries[k - 1] if k else None


def write_video(folder: Path, settings: DriveSettings, world: dict, console: Console) -> None:
    """Write front.mp4 from frames/, telemetry and plans; nothing where there are no frames."""
    film = Film(folder, settings, world)
    if not film.pictures:
        return
    aside = folder / ".front.part.mp4"
    with Progress(console=console, transient=True) as progress, av.open(str(aside), "w") as container:
        stream = None
        for index in progress.track(range(len(film.pictures)), description="film"):
            picture = film.picture(index)
            if stream is None:
                stream = container.add_stream("libx264", rate=FPS, options={"crf": "24", "preset": "veryfast"})
                stream.height, stream.width, stream.pix_fmt = picture.shape[0], picture.shape[1], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())
    os.replace(aside, folder / "front.mp4")

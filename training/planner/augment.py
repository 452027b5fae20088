"""The same scene seen otherwise: mirrored, and in other light. A few tracks then teach more than themselves.

Knows scenes; knows no text. Lengths and angles of a mirrored truth change sign with the left and the right.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridge.messages import Doing, Intent
from bridge.planning import Instruction
from sims.truth import Truth
from training.planner.scenes import Scene, Task

_ONE_SIDED = ("pull_over",)  # always to the right


def mirrored_truth(truth: Truth) -> Truth:
    """The truth of the mirrored world: y and d change sign, lanes are counted from the other side."""
    last = truth.lane_count - 1
    actors = tuple(replace(a, y_m=-a.y_m, yaw_rad=-a.yaw_rad, d_m=-a.d_m, lane=last - a.lane) for a in truth.actors)
    return replace(
        truth,
        y_m=-truth.y_m,
        yaw_rad=-truth.yaw_rad,
        yaw_rate_radps=-truth.yaw_rate_radps,
        steering=-truth.steering,
        d_m=-truth.d_m,
        heading_error_rad=-truth.heading_error_rad,
        lane=last - truth.lane,
        left_edge_d_m=-truth.right_edge_d_m,
        right_edge_d_m=-truth.left_edge_d_m,
        ahead=truth.ahead * (1.0, 1.0, -1.0, -1.0, -1.0),
        actors=actors,
    )


def mirrored(scene: Scene) -> Scene:
    """The scene in a mirror. One whose command means one side in particular is given back as it is."""
    task = scene.task
    if task is not None and (_one_sided(task.instruction) or task.doing.intent in _ONE_SIDED):
        return scene
    frames = np.ascontiguousarray(scene.frames[:, :, ::-1])
    return replace(scene, frames=frames, truth=mirrored_truth(scene.truth), task=task and _mirrored_task(task, scene))


def other_light(rng: np.random.Generator, frames: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Frames (2, h, w, 3) uint8 with colours mixed, brightness, contrast and gamma changed alike, and some noise."""
    mix = np.eye(3) + rng.normal(0, 0.12 * strength, (3, 3))
    mix /= mix.sum(1, keepdims=True)
    gain = np.exp(rng.normal(0, 0.2 * strength)) * np.exp(rng.normal(0, 0.06 * strength, 3))
    values = np.clip((frames.astype(np.float32) / 255.0) @ mix.T.astype(np.float32), 0.0, 1.0)
    values = values ** np.float32(np.exp(rng.normal(0, 0.25 * strength))) * gain.astype(np.float32)
    if rng.random() < 0.5:
        values += rng.normal(0, 0.02 * strength, values.shape).astype(np.float32)
    return (np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def _one_sided(instruction: Instruction | None) -> bool:
    return instruction is not None and instruction.kind in _ONE_SIDED


def _mirrored_task(task: Task, scene: Scene) -> Task:
    instruction = task.instruction and replace(task.instruction, kind=_other_side(task.instruction.kind))
    start = None if task.start_lane is None else scene.truth.lane_count - 1 - task.start_lane
    doing = Doing(intent=Intent(_other_side(str(task.doing.intent))), since_s=task.doing.since_s)
    return replace(task, instruction=instruction, start_lane=start, doing=doing)


def _other_side(kind: str) -> str:
    stem, _, side = kind.rpartition("_")
    return {"left": f"{stem}_right", "right": f"{stem}_left"}.get(side, kind)

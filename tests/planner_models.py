"""Small random planners for tests: the real architecture, tokenizer and folder layout, fewer layers."""

from pathlib import Path

import numpy as np

from bridge.messages import Doing, EgoState, VehicleProfile
from bridge.planning import CommandInForce, PlanRequest
from planner import nano

TEXTS = (
    "Speed 1.2, cruise 1.2, doing follow_lane 3 s. Command 2 s ago from lane 0: overtake on the left",
    "Command: go faster",
    "从左边超车",
    "以1.5米每秒行驶",
)


def tiny_tokenizer():
    return nano.build_tokenizer(TEXTS)


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """A random planner of one vision and two text layers in a standard folder."""
    tokenizer = tiny_tokenizer()
    config = nano.build_config(tokenizer, text_layers=2, vision_depth=1)
    nano.save(nano.build_model(config, seed), tokenizer, folder)
    return folder


def make_request(seed: int = 0, command: str | None = "overtake on the left", frames: int = 2) -> PlanRequest:
    rng = np.random.default_rng(seed)
    images = tuple(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8) for _ in range(frames))
    order = CommandInForce("c1", command, 1.0 + seed, 0) if command else None
    speed = EgoState(speed_mps=0.3 * seed)
    return PlanRequest(images, speed, Doing(), VehicleProfile(), 1.2, order)

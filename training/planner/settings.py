"""Settings of planner-nano's training; `configs/train_planner_nano.yaml` holds the shipped run's."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

ROOT = Path(__file__).resolve().parents[2]
PRESET = ROOT / "configs" / "train_planner_nano.yaml"


class PlannerTrainSettings(BaseModel):
    """Times are minutes of wall clock; learning rates fall to nothing along a cosine over their stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path = Path("models/planner-nano")
    work: Path = Path("runs/train-planner-nano")  # checkpoints, to resume from
    log_dir: Path = Path("docs/training")
    name: str = "planner-nano"
    start_from: Path | None = None  # a Hugging Face folder; None: random weights
    minutes: float = Field(90.0, gt=0)
    see_share: float = Field(0.25, ge=0, lt=1)  # of the minutes for the vision tower alone
    seed: int = 0
    threads: int = Field(1, ge=1)
    compile: bool = True
    bfloat16: Literal["auto", "on", "off"] = "auto"
    see_batch: int = Field(64, ge=2)
    see_lr: float = 1e-3
    scenes_per_step: int = Field(16, ge=1)
    dreams_per_scene: int = Field(2, ge=1)
    extra_scenes: int = Field(56, ge=0)  # a step, only to be looked at
    driven_share: float = Field(0.65, ge=0, le=1)  # of scenes, taken from expert driving
    lr: float = 1e-3
    vision_lr: float = 1e-3
    see_weight: float = 0.5  # of the dense loss while words are learned
    path_value_weight: float = 2.0  # of the headings' regression
    facts_weight: float = 0.5  # of reading the picture where the answer begins
    disturbed_share: float = Field(0.7, ge=0, le=1)  # of answers that are taught after wrong headings
    plan_weight: float = 1.5
    path_weight: float = 1.5
    weight_decay: float = 0.02
    text_tokens: int = 152
    text_layers: int = 5
    vision_depth: int = 4
    evaluate_every_minutes: float = 4.0
    evaluation_scenes: int = 96
    lora: bool = False
    lora_rank: int = 16
    lora_lr: float = 2e-4


def load_settings(path: str | Path | None = None, **changes) -> PlannerTrainSettings:
    """Settings from a YAML file (the shipped preset by default) with `changes` on top. Raises FileNotFoundError and
    pydantic's ValidationError, which names the key."""
    path = Path(path) if path is not None else PRESET
    values = yaml.safe_load(path.read_text()) or {}
    return PlannerTrainSettings(**{**values, **{k: v for k, v in changes.items() if v is not None}})

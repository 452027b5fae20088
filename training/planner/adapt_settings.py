"""Settings of an adapter's training; `configs/train_planner_torcs.yaml` holds those for TORCS."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from bridge.names import choose
from training.planner.settings import ROOT


class AdaptSettings(BaseModel):
    """Minutes are wall clock of the training alone; scenes are drawn before it. Learning rates fall to nothing along a
    cosine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    world: str
    train_tracks: tuple[str, ...] = Field(min_length=1)
    held_out_tracks: tuple[str, ...] = ()
    base: Path = Path("models/planner-nano")
    out: Path = Path("models/planner-nano-adapted")
    work: Path = Path("runs/train-planner-adapted")  # scenes and checkpoint
    log_dir: Path = Path("docs/training")
    name: str = "planner-nano-adapted"
    minutes: float = Field(14.0, gt=0)
    seed: int = 0
    threads: int = Field(1, ge=1)
    compile: bool = True
    scenes: int = Field(6000, ge=1)  # of the world
    home_scenes: int = Field(1000, ge=0)  # of `track`, so that it is not forgotten
    home_share: float = Field(0.15, ge=0, lt=1)  # of the scenes of a step
    randomize: float = Field(0.7, ge=0, le=1)  # of the world, while its scenes are drawn
    light: float = Field(1.0, ge=0)  # how much colours and brightness are varied
    mirror_share: float = Field(0.5, ge=0, le=1)
    scenes_per_step: int = Field(8, ge=1)
    extra_scenes: int = Field(16, ge=0)  # a step, only to be looked at
    dreams_per_scene: int = Field(2, ge=1)
    rank: int = Field(32, ge=1)
    vision_rank: int = Field(32, ge=0)  # 0: the vision tower stays as it is
    lr: float = 1e-3
    head_lr: float = 1e-3
    see_weight: float = 1.0  # of reading the picture from the image tokens
    facts_weight: float = 0.5
    path_value_weight: float = 2.0
    disturbed_share: float = Field(0.7, ge=0, le=1)
    plan_weight: float = 1.5
    path_weight: float = 1.5
    text_tokens: int = 152
    check_scenes: int = Field(96, ge=0)
    check_every_minutes: float = Field(3.0, gt=0)


def preset_of(world: str) -> Path:
    """The preset for a world. Raises UnknownName (did you mean) where there is none."""
    presets = {p.stem.removeprefix("train_planner_"): p for p in (ROOT / "configs").glob("train_planner_*.yaml")}
    presets.pop("nano", None)
    return presets[choose(world, presets, "world with a preset for adapters (or give --preset)")]


def load_adapt_settings(path: str | Path | None = None, *, world: str | None = None, **changes) -> AdaptSettings:
    """Settings from a YAML file (by default the preset of `world`) with `changes` on top. Raises UnknownName,
    FileNotFoundError, and pydantic's ValidationError, which names the key."""
    path = Path(path) if path is not None else preset_of(world or "")
    values = yaml.safe_load(path.read_text()) or {}
    if world is not None:
        changes["world"] = world
    return AdaptSettings(**{**values, **{k: v for k, v in changes.items() if v is not None}})

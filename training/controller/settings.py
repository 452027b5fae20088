"""Settings of `pacenote train controller`; the preset stands in configs/train_controller_flow.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
PRESET = Path(__file__).resolve().parents[2] / "configs" / "train_controller_flow.yaml"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(_Settings):
    """Where the samples come from. `randomize`: strength of the world's randomisation of look, camera and physics."""

    envs: Annotated[int, Field(ge=1)] = 64
    roads: Annotated[int, Field(ge=1)] = 150
    first_road_seed: Annotated[int, Field(ge=0, lt=1_000_000)] = 1000  # seeds from 1_000_000 on are for evaluation
    randomize: Positive = 1.0
    buffer: Annotated[int, Field(ge=256)] = 60_000
    student_share: Share = 0.4  # of the cars, once the student has learned something
    noise_share: Share = 0.25
    silent_share: Share = 0.25  # of the time without a usable plan
    actor_share: Share = 0.75  # of the roads with traffic or obstacles


class TrainControllerSettings(_Settings):
    """One training run. Stops at `steps` or after `minutes`, whichever comes first; the learning rate falls to zero."""

    seed: int = 7
    out: Path = Path("runs/train-controller")
    resume: bool = True
    steps: Annotated[int, Field(ge=1)] = 1_000_000
    minutes: Positive = 60.0
    threads: Annotated[int, Field(ge=1)] = 1
    bfloat16: bool = True  # for the convolutions; twice as fast where the CPU has the instructions, slow where not
    batch: Annotated[int, Field(ge=2)] = 128
    steps_per_collect: Annotated[int, Field(ge=1)] = 1
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-3
    ema: Share = 0.999
    equal_share: Share = 0.75  # of plain flow matching (r = t) among the MeanFlow samples
    aux_weight: Annotated[float, Field(ge=0.0)] = 0.5
    near_weight: Annotated[float, Field(ge=0.0)] = 3.0  # added to the weight of samples with something close ahead
    early_weight_steps: Positive = 12.0
    ego_dropout: Share = 0.4
    features: Annotated[int, Field(ge=8)] = 192
    width: Annotated[int, Field(ge=8)] = 256
    blocks: Annotated[int, Field(ge=1)] = 3
    checkpoint_minutes: Positive = 3.0
    log_every: Annotated[int, Field(ge=1)] = 100
    docs: Path | None = None  # folder for the curve and the log, e.g. docs/training
    data: DataSettings = DataSettings()


def load_settings(path: str | Path = PRESET, **changes) -> TrainControllerSettings:
    """Read a preset and override single fields. Raises FileNotFoundError, or pydantic's ValidationError."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no training preset at {path}; the shipped one is {PRESET}")
    return TrainControllerSettings(**{**(yaml.safe_load(path.read_text()) or {}), **changes})

"""Settings of the gate, read from configs/gate.yaml. Knows no worlds and no statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bridge.names import choose

PRESET = Path(__file__).resolve().parents[2] / "configs" / "gate.yaml"
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class GateError(ValueError):
    """A validation that cannot be carried out; the message says why and what to do."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                choose(str(key), cls.model_fields, f"key of {cls.__name__}")
        return data


class Limits(_Settings):
    """What one world asks for; null is not judged. Every limit is held against the worse end of the interval. Lateral
    error and jerk are at the scale of the default car. `..._below_...`: by how much success may be lower than in the
    training world, or than pursuit's in this world."""

    success_at_least: Share | None = None
    collision_at_most: Share | None = None
    off_road_at_most: Share | None = None
    lateral_error_m_at_most: Positive | None = None
    jerk_mps3_at_most: Positive | None = None
    success_below_train_at_most: Share | None = None
    success_below_pursuit_at_most: Share | None = None


class GateSettings(_Settings):
    """One validation. `episodes`: in each world with each seed. `worlds`: where --worlds does not say others.
    `required_worlds`: a bundle that was not checked in one of them does not pass. `jobs`: processes side by side.
    `strips`: film strips per world, of failed episodes first. `limits`: by world; `train` for the training world,
    `others` for those without an entry of their own, whose entries change single limits."""

    worlds: tuple[str, ...] = ("mujoco",)
    required_worlds: tuple[str, ...] = ("mujoco",)
    suite: str = "all"
    planner: str = "expert"
    delay_ms: Annotated[float, Field(ge=0.0, le=10_000.0)] = 500.0
    randomize: Share = 0.5
    episodes: Annotated[int, Field(ge=1)] = 30
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    jobs: Annotated[int, Field(ge=1, le=64)] = 1
    strips: Annotated[int, Field(ge=0, le=20)] = 3
    train: Limits = Limits()
    others: Limits = Limits()
    limits: dict[str, Limits] = {}

    def limits_of(self, world: str, train_world: str) -> Limits:
        """What `world` asks for."""
        usual = self.train if world == train_world else self.others
        own = self.limits.get(world)
        return usual if own is None else usual.model_copy(update=own.model_dump(exclude_unset=True))


def load_gate_settings(path: str | Path | None = None, **changes: Any) -> GateSettings:
    """Read a config and override single fields. Raises GateError with file, key and, for an unknown key, the nearest
    known one."""
    path = Path(path or PRESET)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GateError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise GateError(f"{path}: not YAML: {error}") from error
    if not isinstance(data, dict):
        raise GateError(f"{path}: wanted a mapping, see {PRESET}")
    try:
        return GateSettings(**{**data, **changes})
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": ") for e in error.errors()[:5])
        raise GateError(f"{path}: {'; '.join(problems)}") from error


def parse_seeds(text: str | None) -> tuple[int, ...] | None:
    """ "0,1,2" to (0, 1, 2). Raises GateError."""
    try:
        return None if text is None else tuple(int(seed) for seed in text.split(","))
    except ValueError as error:
        raise GateError(f"--seeds {text!r}: give whole numbers with commas between them, as in 0,1,2") from error

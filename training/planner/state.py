"""Checkpoints of a training run as safetensors: weights of model and heads, and where in which stage it was.

The optimizer's moments are not kept: a resumed run warms up again, which costs a hundred steps.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

FILE = "checkpoint.safetensors"


@dataclass
class TrainState:
    """Where a run is: stage "see" or "speak", steps, samples and seconds in it."""

    stage: str = "see"
    step: int = 0
    samples: int = 0
    elapsed_s: float = 0.0


def save_state(folder: Path, learner: nn.Module, state: TrainState) -> None:
    """Write aside, then rename: a run that is killed leaves a whole checkpoint."""
    weights = {k: v.detach().clone().contiguous() for k, v in learner.state_dict().items() if "lm_head" not in k}
    aside = folder / (FILE + ".new")
    save_file(weights, aside, metadata={"state": json.dumps(asdict(state))})
    os.replace(aside, folder / FILE)


def load_state(folder: Path, learner: nn.Module) -> TrainState:
    """Read weights into `learner`. Raises FileNotFoundError when there is nothing to resume from."""
    from safetensors import safe_open

    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"nothing to resume from: no {path}")
    with safe_open(path, "pt") as file:
        state = TrainState(**json.loads(file.metadata()["state"]))
    weights = load_file(path)
    untouched = ("lm_head", "path_head", "heads.glance", "heads.cell", "fact_head")
    if state.stage == "see":  # the language model has learned nothing yet, and the tokenizer may be a new one
        weights = {k: v for k, v in weights.items() if "language_model" not in k}
        untouched += ("language_model",)
    missing, unexpected = learner.load_state_dict(weights, strict=False)
    missing = [m for m in missing if not any(u in m for u in untouched)]
    if missing or unexpected:
        raise ValueError(f"{path} is of another model: missing {missing[:3]}, unknown {list(unexpected)[:3]}")
    return state

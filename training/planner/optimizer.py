"""Muon for the matrices inside the transformer layers, AdamW for everything else (embeddings, norms, biases, heads).

Muon (Jordan et al. 2024; its update scaled to AdamW's size as in "Muon is Scalable for LLM Training", arXiv 2502.16982)
reaches a lower loss of seeing than AdamW in the same time: `benchmarks/bench_optimizer.py`. Knows parameters; knows no
losses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

MATRIX_RATE = 4.0  # Muon's learning rate as a multiple of AdamW's, for steps of like size
WARM_STEPS = 100
LAST_SHARE = 0.02  # of the rate at the end
CLIP = 5.0


@dataclass(frozen=True)
class Part:
    """Modules that learn at the same peak rate (of AdamW)."""

    modules: tuple[nn.Module, ...]
    lr: float


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon takes this parameter of a transformer: the weight of a linear map between hidden states."""
    return parameter.ndim == 2 and "embed" not in name


class Optimizer:
    """Steps over `parts` with a warm-up and a cosine down to `LAST_SHARE`. `transformers` are the modules among the
    parts whose matrices go to Muon; heads and the like keep to AdamW."""

    def __init__(self, parts: list[Part], transformers: tuple[nn.Module, ...], weight_decay: float):
        matrices, others = [], []
        for part in parts:
            mine: tuple[list, list] = [], []
            for module in part.modules:
                for name, parameter in module.named_parameters():
                    muon = any(module is t for t in transformers) and is_matrix(name, parameter)
                    mine[not muon].append(parameter)
            if mine[0]:
                matrices.append({"params": mine[0], "peak": MATRIX_RATE * part.lr})
            if mine[1]:
                others.append({"params": mine[1], "peak": part.lr})
        self._parameters = [p for group in [*matrices, *others] for p in group["params"]]
        self._optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            self._optimizers.append(muon)
        if others:
            adamw = torch.optim.AdamW(others, betas=(0.9, 0.97), weight_decay=weight_decay, fused=True)
            self._optimizers.append(adamw)
        self._steps = 0

    def step(self, loss: torch.Tensor, part: float) -> None:
        """One step down `loss`; `part` of the stage is over."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, CLIP)
        self._steps += 1
        warm = min(1.0, self._steps / WARM_STEPS)
        fall = LAST_SHARE + (1 - LAST_SHARE) * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * warm * fall
            optimizer.step()

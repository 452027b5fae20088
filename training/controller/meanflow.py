"""The MeanFlow loss on action chunks, with the prediction of x instead of u. Knows tensors only.

MeanFlow (Geng et al. 2025, arXiv 2505.13447): the average velocity over [r, t] obeys
u = v - (t - r) du/dt, where du/dt = v du/dz + du/dt along the path; one jvp gives it. The network predicts the clean
chunk x and u = (z - x) / t, so the loss on u is multiplied by t^2 and becomes one on x: it stays finite at t -> 0.
The prior is a scale mixture of normals that includes zero, so that noise = 0 is a point the flow was trained on: it
gives the deterministic chunk that drives the car.
"""

from __future__ import annotations

import torch
from torch import Tensor

T_MIN = 0.05


def sample_times(n: int, equal_share: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """(r, t), each (n, 1): logit-normal, sorted; a share with r = t (plain flow matching), some exactly (0, 1)."""
    pair = torch.sigmoid(torch.randn(n, 2, generator=generator) - 0.2)
    t = pair.max(dim=1, keepdim=True).values.clamp(min=T_MIN)
    r = pair.min(dim=1, keepdim=True).values
    pick = torch.rand(n, 1, generator=generator)
    r = torch.where(pick < equal_share, t, torch.minimum(r, t))
    whole = pick > 1.0 - 0.5 * (1.0 - equal_share)
    return torch.where(whole, 0.0, r), torch.where(whole, 1.0, t)


def sample_noise(n: int, dim: int, generator: torch.Generator | None = None) -> Tensor:
    """(n, dim) from the prior: half unit normal, half normal with a scale drawn evenly from 0..1."""
    scale = torch.rand(n, 1, generator=generator)
    scale = torch.where(torch.rand(n, 1, generator=generator) < 0.5, 1.0, scale)
    return scale * torch.randn(n, dim, generator=generator)


def meanflow_loss(
    head, x: Tensor, condition: Tensor, weight: Tensor, equal_share: float = 0.75, importance: Tensor | None = None
) -> Tensor:
    """Mean weighted loss. head(z, r, t, condition) -> x; x (n, dim) clean; weight (dim,) of each chunk entry;
    importance (n,) of each sample."""
    n, dim = x.shape
    r, t = sample_times(n, equal_share)
    noise = sample_noise(n, dim)
    z = (1.0 - t) * x + t * noise
    v = noise - x
    frozen = condition.detach()

    with torch.no_grad():
        moving = (t - r).squeeze(1) > 0
        change = torch.zeros_like(x)
        if moving.any():
            index = moving.nonzero().squeeze(1)
            change[index] = _du_dt(head, z[index], r[index], t[index], v[index], frozen[index])
        target = z - t * (v - (t - r) * change)  # the x that makes u equal to its target
    error = (head(z, r, t, condition) - target) ** 2 * weight
    per_sample = error.mean(dim=1)
    scaled = per_sample / (per_sample.detach() + 0.02).sqrt()
    return scaled.mean() if importance is None else (scaled * importance).mean()


def _du_dt(head, z, r, t, v, condition) -> Tensor:
    def velocity(z_, r_, t_):
        return (z_ - head(z_, r_, t_, condition)) / t_

    result = torch.func.jvp(velocity, (z, r, t), (v, torch.zeros_like(r), torch.ones_like(t)))
    return result[1].clamp(-20.0, 20.0)

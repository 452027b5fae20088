"""The optimizer of planner-nano: who is moved by Muon, who by AdamW, and along which rates."""

import math

import pytest
import torch
from torch import nn

from training.planner.optimizer import LAST_SHARE, MATRIX_RATE, WARM_STEPS, Optimizer, Part, is_matrix


class Tower(nn.Module):
    """The kinds of parameters that a transformer has."""

    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(11, 8)
        self.fc = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, ids):
        return self.norm(self.fc(self.embed_tokens(ids))).mean(1)


def rates(optimizer: Optimizer) -> dict[int, float]:
    return {id(p): g["lr"] for o in optimizer._optimizers for g in o.param_groups for p in g["params"]}


def test_only_matrices_between_hidden_states_are_muons():
    named = dict(Tower().named_parameters())
    assert [n for n, p in named.items() if is_matrix(n, p)] == ["fc.weight"]


def test_every_parameter_moves_and_heads_keep_to_adamw():
    torch.manual_seed(0)
    tower, head = Tower(), nn.Linear(8, 3)
    optimizer = Optimizer([Part((tower, head), 1e-2)], (tower,), 0.0)
    muons = [p for g in optimizer._optimizers[0].param_groups for p in g["params"]]
    assert len(muons) == 1 and muons[0] is tower.fc.weight
    before = [p.detach().clone() for p in (*tower.parameters(), *head.parameters())]
    loss = head(tower(torch.arange(11).view(1, 11))).square().sum()
    optimizer.step(loss, 0.0)
    after = [*tower.parameters(), *head.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.5, 1.0, 1.7])
def test_rates_warm_up_and_fall_along_a_cosine(part):
    tower, head = Tower(), nn.Linear(8, 3)
    optimizer = Optimizer([Part((tower,), 1e-3), Part((head,), 5e-4)], (tower,), 0.0)
    ids = torch.arange(11).view(1, 11)
    optimizer.step(head(tower(ids)).sum(), part)
    assert rates(optimizer)[id(head.weight)] <= 5e-4 / WARM_STEPS
    for _ in range(WARM_STEPS):
        optimizer.step(head(tower(ids)).square().sum(), part)
    fall = LAST_SHARE + (1 - LAST_SHARE) * (1 + math.cos(math.pi * min(part, 1.0))) / 2
    found = rates(optimizer)
    assert found[id(head.weight)] == pytest.approx(5e-4 * fall)
    assert found[id(tower.norm.weight)] == pytest.approx(1e-3 * fall)
    assert found[id(tower.fc.weight)] == pytest.approx(MATRIX_RATE * 1e-3 * fall)


def test_the_loss_falls():
    torch.manual_seed(0)
    tower, head = Tower(), nn.Linear(8, 2)
    ids = torch.randint(11, (64, 5))
    target = (ids.sum(1) > 25).long()
    optimizer = Optimizer([Part((tower, head), 1e-2)], (tower,), 0.0)
    losses = []
    for k in range(300):
        loss = nn.functional.cross_entropy(head(tower(ids)), target)
        losses.append(float(loss.detach()))
        optimizer.step(loss, k / 300)
    assert losses[-1] < 0.3 * losses[0]

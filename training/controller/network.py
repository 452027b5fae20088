"""The policy network: camera, plan and ego state in, a chunk of 50 x [steering, acceleration] out, in one evaluation.

Knows the normalisation (all of it is inside the graph) and the flow's parametrisation; knows no simulator and no loss.
The head predicts the clean chunk x from the noisy one z at time t (r is the other end of the averaged interval); the
average velocity of MeanFlow (Geng et al. 2025, arXiv 2505.13447) is u = (z - x) / t, so that one step from t=1 to r=0
gives z - u = x. t = 1 is noise, t = 0 is data.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK_STEPS = 50
ACTION_DIM = 2
PATH_SHAPE = (8, 3)
FLAT = CHUNK_STEPS * ACTION_DIM
AUX_DIM = 8 + 5  # lane centre at 8 distances; offset, heading, curvature, nearness of what is ahead, lane width
STEERING_SCALE = 0.4  # chunk = scale * flow variable, so that the flow works on numbers of order one
ACCELERATION_SCALE = 0.3
PATH_RANGE = (20.0, 20.0, 3.0)  # wheelbases, wheelbases, reference speeds
EGO_RANGE = (3.0, 8.0, 1.0)  # reference speeds, rad/s, unit


class Eyes(nn.Module):
    """(n, 3, 60, 80) in [0, 255] -> (n, features)."""

    def __init__(self, channels: tuple[int, int, int, int] = (24, 32, 48, 64), features: int = 192):
        super().__init__()
        a, b, c, d = channels
        self.convs = nn.Sequential(
            nn.Conv2d(3, a, 5, 2, 2), nn.ReLU(), nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(b, c, 3, 2, 1), nn.ReLU(), nn.Conv2d(c, d, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(d, 32, 1), nn.ReLU(),
        )  # fmt: skip
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(32 * 8 * 10, features), nn.LayerNorm(features), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.convs(image / 127.5 - 1.0))


class Head(nn.Module):
    """x prediction: (z, r, t, condition) -> clean flow variable, all flat."""

    def __init__(self, condition: int, width: int, blocks: int):
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.noisy = nn.Linear(FLAT, width)
        self.condition = nn.Linear(condition, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(blocks)
        )
        last = nn.Linear(width, FLAT)
        nn.init.zeros_(last.bias)
        nn.init.normal_(last.weight, std=0.01)
        self.out = nn.Sequential(nn.LayerNorm(width), last)

    def forward(self, z: Tensor, r: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        times = self.embed(torch.cat([r, t, r * r, t * t], dim=1))
        h = F.silu(self.noisy(z) + times + self.condition(condition))
        for block in self.blocks:
            h = h + block(h)
        return self.out(h)


class FlowController(nn.Module):
    """The whole policy. `condition` once per observation; `average_velocity` once (or a few times) per chunk."""

    path_range: Tensor
    ego_range: Tensor
    scale: Tensor

    def __init__(self, features: int = 192, width: int = 256, blocks: int = 3):
        super().__init__()
        self.config = {"features": features, "width": width, "blocks": blocks}
        self.eyes = Eyes(features=features)
        self.plan = nn.Sequential(nn.Linear(24 + 1 + 3, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.fuse = nn.Sequential(
            nn.Linear(features + 128, width), nn.SiLU(), nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU()
        )
        self.head = Head(width, width, blocks)
        self.aux = nn.Linear(features, AUX_DIM)  # trained with, dropped at export
        self.register_buffer("path_range", torch.tensor(PATH_RANGE))
        self.register_buffer("ego_range", torch.tensor(EGO_RANGE))
        self.register_buffer("scale", torch.tensor([STEERING_SCALE, ACCELERATION_SCALE]).repeat(CHUNK_STEPS))

    def see(self, small: Tensor) -> Tensor:
        """(n, 3, 60, 80) image values 0..255 -> visual features."""
        return self.eyes(small)

    def condition(self, seen: Tensor, path: Tensor, path_valid: Tensor, ego: Tensor) -> Tensor:
        """Fuse features (n, f), path (n, 8, 3), path_valid (n, 1) and ego (n, 3); clips to the trained ranges."""
        path = torch.minimum(torch.maximum(path, -self.path_range), self.path_range) * path_valid[:, :, None]
        ego = torch.minimum(torch.maximum(ego, -self.ego_range), self.ego_range)
        flat = torch.cat([path.flatten(1) * 0.25, path_valid, ego], dim=1)
        return self.fuse(torch.cat([seen, self.plan(flat)], dim=1))

    def generate(self, condition: Tensor, noise: Tensor) -> Tensor:
        """One network evaluation: condition (n, w), noise (n, 100) -> chunk (n, 50, 2) in [-1, 1]."""
        one = torch.ones_like(noise[:, :1])
        x = self.head(noise, torch.zeros_like(one), one, condition)
        return (x * self.scale).clamp(-1.0, 1.0).reshape(-1, CHUNK_STEPS, ACTION_DIM)


class Bundle(nn.Module):
    """What is exported: raw inputs as the car has them."""

    def __init__(self, policy: FlowController):
        super().__init__()
        self.policy = policy

    def forward(self, image: Tensor, path: Tensor, path_valid: Tensor, ego: Tensor, noise: Tensor) -> Tensor:
        """image uint8 (n, 120, 160, 3), path (n, 8, 3), path_valid (n, 1), ego (n, 3), noise (n, 50, 2)."""
        small = F.avg_pool2d(image.to(torch.float32).permute(0, 3, 1, 2), 2)
        condition = self.policy.condition(self.policy.see(small), path, path_valid, ego)
        return self.policy.generate(condition, noise.flatten(1))

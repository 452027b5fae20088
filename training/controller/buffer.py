"""A ring of samples in memory; images are kept at half size, as the network sees them. Knows no simulator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SMALL = (60, 80, 3)


def halve(images: np.ndarray) -> np.ndarray:
    """(n, 120, 160, 3) uint8 -> (n, 60, 80, 3) uint8, mean of 2 x 2 pixels, as the graph of the bundle pools them."""
    wide = images[:, 0::2].astype(np.uint16) + images[:, 1::2]
    return ((wide[:, :, 0::2] + wide[:, :, 1::2] + 2) >> 2).astype(np.uint8)


class SampleBuffer:
    """Columns: image (60, 80, 3) u8, path (8, 3), valid (1), ego (3), chunk (50, 2), aux (k). The oldest go first."""

    def __init__(self, capacity: int, aux_dim: int):
        self.capacity, self.size, self._next = capacity, 0, 0
        shapes = {"path": (8, 3), "valid": (1,), "ego": (3,), "chunk": (50, 2), "aux": (aux_dim,)}
        self.columns = {name: np.zeros((capacity, *shape), np.float32) for name, shape in shapes.items()}
        self.columns["image"] = np.zeros((capacity, *SMALL), np.uint8)

    def add(self, rows: dict[str, np.ndarray]) -> None:
        """Append rows; all columns, equally long."""
        n = len(rows["image"])
        at = (self._next + np.arange(n)) % self.capacity
        for name, column in self.columns.items():
            column[at] = rows[name]
        self._next = int((self._next + n) % self.capacity)
        self.size = min(self.size + n, self.capacity)

    def sample(self, n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """n random rows as float tensors; image (n, 3, 60, 80) in 0..255. Half of them are mirrored left to right."""
        at = rng.integers(0, self.size, n)
        flip = rng.random(n) < 0.5
        rows = {name: column[at].astype(np.float32) for name, column in self.columns.items()}
        rows["image"][flip] = rows["image"][flip][:, :, ::-1]
        rows["path"][flip, :, 1] *= -1
        rows["ego"][flip, 1:] *= -1
        rows["chunk"][flip, :, 0] *= -1
        rows["aux"][flip, :MIRRORED] *= -1
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in rows.items()}
        tensors["image"] = tensors["image"].permute(0, 3, 1, 2)
        return tensors


MIRRORED = 11  # the first entries of aux change sign in a mirror: 8 lane points, offset, heading, curvature

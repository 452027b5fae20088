"""Camera frames to the `pixel_values` of Qwen2-VL: two consecutive frames become the two temporal layers of one image.

Same numbers as Qwen2VLImageProcessor makes (which repeats one frame), only with two different frames and fast. Shared
by training and serving. Knows nothing of text or models.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image

PATCH_PX = 14
MERGE = 2
WIDTH_PX = 168
HEIGHT_PX = 112
GRID_THW = (1, HEIGHT_PX // PATCH_PX, WIDTH_PX // PATCH_PX)
PATCHES = GRID_THW[1] * GRID_THW[2]
IMAGE_TOKENS = PATCHES // MERGE**2
MARK_AMPLITUDE = 1.5
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def resize_frame(image: np.ndarray, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> np.ndarray:
    """RGB uint8 (h, w, 3) of any size to (height_px, width_px, 3), bicubic as the stock processor does it. Raises
    ValueError for anything but RGB uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"frame: expected RGB uint8 (h, w, 3), got {image.dtype} {image.shape}")
    if image.shape[:2] == (height_px, width_px):
        return image
    resized = Image.fromarray(image).resize((width_px, height_px), Image.Resampling.BICUBIC)
    return np.asarray(resized)


@lru_cache(maxsize=4)
def position_marks(h: int, w: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(mask, values), each (2, h, w, 3): where and what the marks of position are, in normalised pixel values.

    Qwen2-VL's vision tower knows only relative positions (rotary embeddings). A big one finds out where a patch is; a
    small one from random weights hardly does, and a lane is a matter of where its lines are. So four corner pixels of
    every patch carry its place: sines and cosines of its row and column, which one linear map of the patch can read.
    """
    mask, values = torch.zeros(2, h, w, 3, dtype=torch.bool), torch.zeros(2, h, w, 3)
    waves = []
    for at in torch.meshgrid(torch.linspace(0, 1, h // PATCH_PX), torch.linspace(0, 1, w // PATCH_PX), indexing="ij"):
        waves += [f(math.pi * k * at) for k in range(1, 7) for f in (torch.sin, torch.cos)]
    places = itertools.product(range(2), range(2), range(2), range(3))  # layer, y, x, channel: 24, as many as waves
    for (layer, y, x, channel), wave in zip(places, waves, strict=True):
        mask[layer, y::PATCH_PX, x::PATCH_PX, channel] = True
        values[layer, y::PATCH_PX, x::PATCH_PX, channel] = MARK_AMPLITUDE * wave
    return mask, values


def pixel_values(frames: torch.Tensor, *, marks: bool = False) -> torch.Tensor:
    """Resized frame pairs, uint8 (n, 2, h, w, 3), older first, to float32 (n * patches, 1176) on the same device, in
    Qwen2-VL's patch order (merge groups together). h and w are multiples of PATCH_PX * MERGE. `marks`: with
    `position_marks`, for models trained with them."""
    n, layers, h, w, channels = frames.shape
    scale = torch.tensor([1 / (255 * s) for s in STD], device=frames.device)
    shift = torch.tensor([m / s for m, s in zip(MEAN, STD, strict=True)], device=frames.device)
    values = frames.float() * scale - shift
    if marks:
        mask, mark = (t.to(frames.device) for t in position_marks(h, w))
        values = torch.where(mask, mark, values)
    side = PATCH_PX * MERGE
    cut = values.reshape(n, layers, h // side, MERGE, PATCH_PX, w // side, MERGE, PATCH_PX, channels)
    ordered = cut.permute(0, 2, 5, 3, 6, 8, 1, 4, 7)  # n, rows, columns, merge y, merge x, channel, time, y, x
    return ordered.reshape(-1, channels * layers * PATCH_PX**2)


def pair_values(
    images: Sequence[np.ndarray], grid_thw: tuple[int, int, int] = GRID_THW, *, marks: bool = False
) -> torch.Tensor:
    """One or two RGB uint8 frames (a single one is doubled) to float32 (patches, 1176). Raises ValueError without a
    frame."""
    if not images:
        raise ValueError("frames: none given, one or two are needed")
    size = (grid_thw[2] * PATCH_PX, grid_thw[1] * PATCH_PX)
    last = resize_frame(images[-1], *size)
    before = resize_frame(images[-2], *size) if len(images) > 1 else last
    return pixel_values(torch.from_numpy(np.stack((before, last)))[None], marks=marks)

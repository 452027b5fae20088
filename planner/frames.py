"""Camera frames to the `pixel_values` of Qwen2-VL: two consecutive frames become the two temporal layers of one image.

Same numbers as Qwen2VLImageProcessor makes (which repeats one frame), only with two different frames and fast. Shared
by training and serving. Knows nothing of text or models.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def pixel_values(frames: torch.Tensor) -> torch.Tensor:
    """Resized frame pairs, uint8 (n, 2, h, w, 3), older first, to float32 (n * patches, 1176) on the same device, in
    Qwen2-VL's patch order (merge groups together). h and w are multiples of PATCH_PX * MERGE."""
    n, layers, h, w, channels = frames.shape
    scale = torch.tensor([1 / (255 * s) for s in STD], device=frames.device)
    shift = torch.tensor([m / s for m, s in zip(MEAN, STD, strict=True)], device=frames.device)
    values = frames.float() * scale - shift
    side = PATCH_PX * MERGE
    cut = values.reshape(n, layers, h // side, MERGE, PATCH_PX, w // side, MERGE, PATCH_PX, channels)
    ordered = cut.permute(0, 2, 5, 3, 6, 8, 1, 4, 7)  # n, rows, columns, merge y, merge x, channel, time, y, x
    return ordered.reshape(-1, channels * layers * PATCH_PX**2)


def pair_values(images: Sequence[np.ndarray], grid_thw: tuple[int, int, int] = GRID_THW) -> torch.Tensor:
    """One or two RGB uint8 frames (a single one is doubled) to float32 (patches, 1176). Raises ValueError without a
    frame."""
    if not images:
        raise ValueError("frames: none given, one or two are needed")
    size = (grid_thw[2] * PATCH_PX, grid_thw[1] * PATCH_PX)
    last = resize_frame(images[-1], *size)
    before = resize_frame(images[-2], *size) if len(images) > 1 else last
    return pixel_values(torch.from_numpy(np.stack((before, last)))[None])

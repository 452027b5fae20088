"""Lens and sensor: blur, vignetting, light, tone curve and noise turn a linear image into what a camera gives.

Knows pictures only, nothing of roads or cars.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def hash01(seed, a, b):
    """A number in [0, 1) from three whole numbers: the same on every machine and thread."""
    h = (np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)) ^ (np.uint64(a) * np.uint64(0xBF58476D1CE4E5B9))
    h ^= np.uint64(b) * np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(32)
    return float(h >> np.uint64(40)) / 16777216.0


@njit(cache=True, fastmath=True)
def blur_rows(image, reach, share):
    """Horizontal blur of an image (h, 3, w) in place: mean of itself and taps `reach` pixels away."""
    height, _, n = image.shape
    row = np.empty(n + 2 * reach, np.float32)
    keep, side = np.float32(1 - 2 * share), np.float32(share)
    for y in range(height):
        for ch in range(3):
            for k in range(n):
                row[k + reach] = image[y, ch, k]
            for k in range(reach):
                row[k] = row[reach]
                row[n + reach + k] = row[n + reach - 1]
            for k in range(n):
                image[y, ch, k] = keep * row[k + reach] + side * (row[k] + row[k + 2 * reach])


@njit(cache=True, fastmath=True)
def develop(look, frame, noise, image, out):
    """Vertical blur, vignetting, light, tone curve and noise: linear image (h, 3, w) to uint8 `out` (h, 3 w). `frame`
    is the number of the picture, from which its noise is drawn."""
    height, _, width = image.shape
    one, full, zero = np.float32(1.0), np.float32(255.0), np.float32(0.0)
    side = look.blur * np.float32(0.6)
    keep = one - side - side
    curve, level = look.curve, look.noise
    columns, fall = np.empty(width, np.float32), np.empty(width, np.float32)
    mixed = np.empty((3, width), np.float32)
    for k in range(width):
        u = (np.float32(k) + np.float32(0.5)) * np.float32(2.0 / width) - one
        columns[k] = look.vignette * np.float32(0.6) * u * u
    for y in range(height):
        v = (y + 0.5 - 0.5 * height) / (0.5 * height)
        top = np.float32(1.0 - 0.4 * look.vignette * v * v)
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for k in range(width):
            fall[k] = top - columns[k]
        for ch in range(3):
            start = np.uint64(hash01(look.seed, frame, 3 * y + ch) * (65536 - width))
            gain = look.light * look.cast[ch]
            for k in range(width):
                mixed[ch, k] = keep * image[y, ch, k] + side * (image[above, ch, k] + image[below, ch, k])
            for k in range(width):
                x = min(mixed[ch, k] * gain * fall[k], one)
                x = (x + curve * x * (one - x)) * full + level * noise[start + np.uint64(k)]
                mixed[ch, k] = min(max(x, zero), full)
        for k in range(width):
            out[y, 3 * k] = np.uint8(np.int32(mixed[0, k]))
            out[y, 3 * k + 1] = np.uint8(np.int32(mixed[1, k]))
            out[y, 3 * k + 2] = np.uint8(np.int32(mixed[2, k]))

"""Pictures of what stands around the road, above the horizon, and of its reflection on the floor.

A fixed bank made from a fixed seed: every environment picks one and shifts, tints and dims it. Knows no roads.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sims.track.look import MIRROR_ROWS, PANO_COLUMNS, PANO_ROWS, PANORAMAS


def _rectangle(image, rng, column, width, bottom, top, colour):
    columns = np.arange(column, column + width) % PANO_COLUMNS
    image[bottom:top, columns] = colour


def _muted(rng, bright):
    """Mostly greyish colour up to `bright`, now and then a strong one."""
    grey = rng.uniform(0.1, 1.0)
    spread = 0.2 if rng.random() < 0.7 else 0.9
    return bright * np.clip(grey + spread * rng.uniform(-0.7, 0.7, 3), 0.0, 1.0)


def _hall(rng, dark):
    """Dark hall: things standing on the floor, posts, lamps under the ceiling. Row 0 is the horizon."""
    image = np.empty((PANO_ROWS, PANO_COLUMNS, 3))
    wall = _muted(rng, 0.25) if dark else _muted(rng, 0.4) + 0.3
    ceiling = _muted(rng, 0.08) if dark else _muted(rng, 0.5) + 0.3
    blend = np.clip((np.arange(PANO_ROWS) - 6) / 12, 0, 1)[:, None, None]
    image[:] = wall * (1 - blend) + ceiling * blend
    for _ in range(rng.integers(10, 60)):
        height = int(rng.choice([2, 3, 4, 6, 10, 16], p=[0.2, 0.25, 0.25, 0.15, 0.1, 0.05]))
        bright = rng.uniform(0.02, 0.35) if rng.random() < 0.75 else rng.uniform(0.4, 0.95)
        colour = bright * (1 + 0.5 * rng.uniform(-1, 1, 3) * (rng.random() < 0.5))
        _rectangle(image, rng, rng.integers(PANO_COLUMNS), rng.integers(3, 40), 0, height, colour)
    for _ in range(rng.integers(0, 4)):
        _rectangle(image, rng, rng.integers(PANO_COLUMNS), rng.integers(6, 25), 0, 40, _muted(rng, 0.6))
    for _ in range(rng.integers(5, 60)):
        low = rng.integers(0, 6)
        _rectangle(image, rng, rng.integers(PANO_COLUMNS), rng.integers(1, 4), low, low + rng.integers(2, 9),
                   _muted(rng, 1.0))  # fmt: skip
    for _ in range(rng.integers(0, 12)):
        _rectangle(image, rng, rng.integers(PANO_COLUMNS), 1 + rng.integers(2), 0, PANO_ROWS, _muted(rng, 0.3))
    for _ in range(rng.integers(10, 120) if dark else rng.integers(0, 30)):
        low = int(6 + 40 * rng.random() ** 2)
        warm = np.array([1.0, rng.uniform(0.85, 1.0), rng.uniform(0.6, 1.0)]) * rng.uniform(0.7, 1.6)
        _rectangle(image, rng, rng.integers(PANO_COLUMNS), rng.integers(2, 9), low, low + rng.integers(1, 4), warm)
    return image


def _outdoors(rng):
    """Sky over a line of trees, fences and houses."""
    sky = np.array([0.45, 0.6, 0.9]) * rng.uniform(0.6, 1.2) + rng.uniform(0, 0.3)
    image = np.empty((PANO_ROWS, PANO_COLUMNS, 3))
    image[:] = sky * np.linspace(1.15, 0.85, PANO_ROWS)[:, None, None]
    for _ in range(rng.integers(30, 120)):
        colour = np.array([0.15, 0.3, 0.1]) * rng.uniform(0.4, 1.8) if rng.random() < 0.6 else rng.uniform(0.1, 0.8, 3)
        _rectangle(image, rng, rng.integers(PANO_COLUMNS), rng.integers(4, 40), 0, rng.integers(1, 14), colour)
    return image


def _smooth(image, rows, columns):
    for _ in range(rows):
        image = 0.5 * image + 0.25 * (image[np.r_[1 : len(image), len(image) - 1]] + image[np.r_[0, : len(image) - 1]])
    for _ in range(columns):
        image = 0.5 * image + 0.25 * (np.roll(image, 1, 1) + np.roll(image, -1, 1))
    return image


@lru_cache(maxsize=1)
def panorama_bank() -> np.ndarray:
    """(PANORAMAS, PANO_ROWS + MIRROR_ROWS, PANO_COLUMNS) int32, red + 256 green + 65536 blue: rows above the horizon
    upwards, then the blurred reflection downwards. 0..255 stands for a linear brightness of 0..1."""
    bank = np.empty((PANORAMAS, PANO_ROWS + MIRROR_ROWS, PANO_COLUMNS, 3), np.uint8)
    for k in range(PANORAMAS):
        rng = np.random.default_rng(7919 + k)
        style = 0.0 if k == 0 else rng.random()
        image = _hall(rng, True) if style < 0.6 else _hall(rng, False) if style < 0.8 else _outdoors(rng)
        bank[k, :PANO_ROWS] = np.clip(_smooth(image, 1, 1) * 255, 0, 255)
        mirror = _smooth(np.clip(image[2::2], 0, 2.0), 6, 2)
        full = np.zeros((MIRROR_ROWS, PANO_COLUMNS, 3))
        full[: len(mirror)] = mirror
        bank[k, PANO_ROWS:] = np.clip(_smooth(full, 4, 0) * 255, 0, 255)
    packed = bank.astype(np.int32)
    return packed[..., 0] | packed[..., 1] << 8 | packed[..., 2] << 16


@lru_cache(maxsize=1)
def floor_texture() -> np.ndarray:
    """(256, 256) int8 of blotches, mean 0, spread about 32, seamless. Small, so that it stays in the cache."""
    rng = np.random.default_rng(271)
    total = np.zeros((256, 256))
    for passes, weight in ((2, 0.5), (20, 0.8), (120, 1.0)):
        noise = rng.normal(size=(256, 256))
        for _ in range(passes):
            noise = 0.5 * noise + 0.25 * (np.roll(noise, 1, 0) + np.roll(noise, -1, 0))
            noise = 0.5 * noise + 0.25 * (np.roll(noise, 1, 1) + np.roll(noise, -1, 1))
        total += weight * noise / noise.std()
    return np.clip(32 * total / total.std(), -127, 127).astype(np.int8)


@lru_cache(maxsize=1)
def noise_table() -> np.ndarray:
    """65536 float32 normal numbers; a picture reads it from hashed offsets."""
    return np.random.default_rng(314).normal(size=65536).astype(np.float32)

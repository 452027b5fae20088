"""Training pairs to tensors: token ids, multimodal positions, and targets that know that numbers have neighbours.

A heading of 13 degrees is nearly right where 12 is: the target of a number token is spread over its neighbours, and the
embeddings of number tokens start out as smooth functions of the number. Knows tokenizer and model configuration;
knows nothing of pictures or driving.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from planner.frames import GRID_THW, IMAGE_TOKENS, MERGE
from planner.prompt import chat_text

HEADING_SIGMA_DEG = 1.0
SPEED_SIGMA_MPS = 0.07
SPEED_WEIGHT = 2.0  # of the two speeds, as a multiple of the path's weight: few tokens, and the car's life
PLAIN, HEADING, DECIMAL = 0, 1, 2


@dataclass(frozen=True)
class Batch:
    """`ids` (B, T) padded right; `positions` (3, B, T); `picture` (B,) index of the pair's picture; `image_at` (B, T)
    bool; answer targets: `rows`, `columns` (n,) of the token that predicts, `targets` (n,), `kinds` (n,), `weights`."""

    ids: Tensor
    positions: Tensor
    picture: Tensor
    image_at: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    kinds: Tensor
    weights: Tensor


class PairEncoder:
    """Encodes (prompt, answer) pairs. `tokenizer` is planner-nano's or that of any Qwen2-VL."""

    def __init__(self, tokenizer, length: int = 192, path_weight: float = 1.0, plan_weight: float = 1.0):
        self.tokenizer, self.length = tokenizer, length
        self.path_weight, self.plan_weight = path_weight, plan_weight
        self.image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.end_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.pad_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")
        before = chat_text("", IMAGE_TOKENS)
        cut = before.index("<|vision_end|>") + len("<|vision_end|>")
        self.prefix = len(self.encode_text(before[:cut]))  # tokens that all texts begin with, the picture's among them
        size = len(tokenizer)
        words = [tokenizer.decode([i]) for i in range(size)]
        self.heading_of = {
            i: int(w) for i, w in enumerate(words) if re.fullmatch(r" -?\d{1,3}", w) and abs(int(w)) < 181
        }
        self.decimal_of = {i: float(w) for i, w in enumerate(words) if re.fullmatch(r" \d{1,2}\.\d", w)}

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text, special tokens recognised."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def encode(self, prompt: str, answer: str) -> tuple[list[int], list[int], np.ndarray, np.ndarray]:
        """(prompt ids, answer ids with the end token, kind of each answer token, weight of each answer token)."""
        head = self.encode_text(chat_text(prompt, IMAGE_TOKENS))
        ids, kinds, weights = [], [], []
        for k, line in enumerate(re.split(r"(?=\n(?:intent|path|speed) )", answer)):
            part = self.encode_text(line)
            ids += part
            is_path, is_speed = line.startswith("\npath "), line.startswith("\nspeed ")
            weight = self.path_weight if is_path or is_speed else self.plan_weight if k else 1.0
            weight *= SPEED_WEIGHT if is_speed else 1.0
            for i in part:
                kind = HEADING if is_path and i in self.heading_of else DECIMAL if i in self.decimal_of else PLAIN
                kinds.append(kind)
                weights.append(weight)
        return head, [*ids, self.end_id], np.array([*kinds, PLAIN]), np.array([*weights, 0.2], np.float32)

    def fits(self, prompt: str, answer: str) -> bool:
        """Whether `collate` takes the pair."""
        head, tail, _, _ = self.encode(prompt, answer)
        return len(head) + len(tail) <= self.length

    def soft_targets(self, vocabulary: int) -> tuple[Tensor, Tensor]:
        """(kinds, vocabulary, vocabulary) target distributions: row = the right token."""
        tables = torch.eye(vocabulary).repeat(2, 1, 1)
        for table, values, sigma, step in (
            (tables[0], self.heading_of, HEADING_SIGMA_DEG, 1.0),
            (tables[1], self.decimal_of, SPEED_SIGMA_MPS, 0.1),
        ):
            ids = torch.tensor(list(values))
            number = torch.tensor([float(v) for v in values.values()])
            spread = torch.exp(-((number[:, None] - number[None, :]) ** 2) / (2 * sigma**2))
            spread[(number[:, None] - number[None, :]).abs() > 4 * max(sigma, step)] = 0.0
            table[ids] = 0.0
            table[ids[:, None], ids[None, :]] = spread / spread.sum(1, keepdim=True)
        return tables[0], tables[1]

    def collate(self, pairs: list[tuple[str, str]], pictures: list[int]) -> Batch:
        """Pad to `length` (a fixed shape keeps compiled graphs). Raises ValueError for a pair that is too long."""
        count, length = len(pairs), self.length
        ids = torch.full((count, length), self.pad_id)
        rows, columns, targets, kinds, weights = [], [], [], [], []
        for b, (prompt, answer) in enumerate(pairs):
            head, tail, kind, weight = self.encode(prompt, answer)
            whole = head + tail
            if len(whole) > length:
                raise ValueError(f"pair of {len(whole)} tokens, {length} fit: {prompt!r} {answer!r}")
            ids[b, : len(whole)] = torch.tensor(whole)
            n = len(tail)
            rows += [b] * n
            columns += range(len(head) - 1, len(whole) - 1)
            targets += tail
            kinds.append(kind)
            weights.append(weight)
        image_at = ids == self.image_id
        return Batch(
            ids,
            image_positions(image_at),
            torch.tensor(pictures),
            image_at,
            torch.tensor(rows),
            torch.tensor(columns),
            torch.tensor(targets),
            torch.from_numpy(np.concatenate(kinds)),
            torch.from_numpy(np.concatenate(weights)),
        )


def image_positions(image_at: Tensor) -> Tensor:
    """(3, B, T) positions of Qwen2-VL for texts with one picture: time, row and column count on within the picture and
    all go on from the largest one after it."""
    b, t = image_at.shape
    gh, gw = GRID_THW[1] // MERGE, GRID_THW[2] // MERGE
    start = image_at.float().argmax(1)
    grid = torch.stack(
        [torch.zeros(gh * gw), torch.arange(gh).repeat_interleave(gw).float(), torch.arange(gw).repeat(gh).float()]
    ).long()
    positions = torch.arange(t)[None, None].repeat(3, b, 1)
    after = torch.arange(t)[None] >= start[:, None] + IMAGE_TOKENS
    positions = positions - after[None] * (IMAGE_TOKENS - max(gh, gw))
    for row, at in enumerate(start.tolist()):
        if image_at[row, at]:
            positions[:, row, at : at + IMAGE_TOKENS] = grid + at
        else:
            positions[:, row] = torch.arange(t)
    return positions


def smooth_number_embeddings(weight: Tensor, encoder: PairEncoder, seed: int = 0) -> None:
    """Start the embeddings of numbers as smooth functions of the number (random Fourier features on two scales), so
    that what is learned of one is learned of its neighbours."""
    generator = torch.Generator().manual_seed(seed)
    dim = weight.shape[1]
    for values, scale in ((encoder.heading_of, 25.0), (encoder.decimal_of, 0.8)):
        number = torch.tensor([float(v) for v in values.values()])
        signed = number.sign() * number.abs().sqrt() * math.sqrt(scale) if scale > 1 else number
        frequency = torch.randn(dim, generator=generator) / scale * torch.where(torch.arange(dim) % 4 == 0, 4.0, 1.0)
        phase = torch.rand(dim, generator=generator) * 2 * math.pi
        smooth = torch.cos(signed[:, None] * frequency + phase) * math.sqrt(2.0)
        ids = torch.tensor(list(values))
        with torch.no_grad():
            weight[ids] = weight.std() * (0.95 * smooth + 0.3 * torch.randn(len(ids), dim, generator=generator))

"""From plan requests to a model's input tensors: the two-frame form of the Qwen2-VL family, and the processor's for all
others. Knows the models' preprocessing, nothing of decoding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from bridge.planning import PlanRequest
from planner.frames import GRID_THW, HEIGHT_PX, MERGE, PATCH_PX, WIDTH_PX, pair_values
from planner.prompt import chat_text, messages

PAIR_MODELS = ("qwen2_vl", "qwen2_5_vl")  # patches of 14 px, two frames deep, the same normalisation


class PairInputs:
    """Qwen2-VL family: previous and current frame as one image, without processor or template engine."""

    def __init__(self, folder: str | Path, tokenizer, system: str):
        self._tokenizer = tokenizer
        self._system = system
        self._image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._pixels = _pixel_range(Path(folder))
        self._marks = _has_marks(Path(folder))

    def __call__(self, requests: Sequence[PlanRequest], prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Left-padded input tensors for the model's forward. Raises ValueError for frames that are not images."""
        grids = [self._grid(request) for request in requests]
        texts = [chat_text(p, g[1] * g[2] // MERGE**2, self._system) for p, g in zip(prompts, grids, strict=True)]
        encoded = self._tokenizer(
            texts, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt"
        )
        ids = encoded["input_ids"]
        values = [pair_values(r.images, g, marks=self._marks) for r, g in zip(requests, grids, strict=True)]
        return {
            "input_ids": ids,
            "attention_mask": encoded["attention_mask"],
            "mm_token_type_ids": (ids == self._image_id).int(),
            "pixel_values": torch.cat(values),
            "image_grid_thw": torch.tensor(grids),
        }

    def _grid(self, request: PlanRequest) -> tuple[int, int, int]:
        if not request.images:
            raise ValueError("frames: none given, one or two are needed")
        if self._pixels == (WIDTH_PX * HEIGHT_PX,) * 2:  # trained on one size
            return GRID_THW
        height, width = request.images[-1].shape[:2]
        h, w = smart_resize(height, width, PATCH_PX * MERGE, *self._pixels)
        return 1, h // PATCH_PX, w // PATCH_PX


class ProcessorInputs:
    """Any image-text-to-text model: the newest frame, the model's own chat template and processor."""

    def __init__(self, processor, system: str):
        self._processor = processor
        self._system = system
        processor.tokenizer.padding_side = "left"

    def __call__(self, requests: Sequence[PlanRequest], prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Left-padded input tensors for the model's forward. Raises ValueError without frames."""
        if not all(request.images for request in requests):
            raise ValueError("frames: none given, one is needed")
        texts = [
            self._processor.apply_chat_template(messages(p, self._system), add_generation_prompt=True) for p in prompts
        ]
        images = [[Image.fromarray(request.images[-1])] for request in requests]
        return dict(self._processor(text=texts, images=images, padding=True, return_tensors="pt"))


def _has_marks(folder: Path) -> bool:
    """Whether the model was trained with position marks; its own configuration says so."""
    path = folder / "config.json"
    return path.exists() and bool(json.loads(path.read_text()).get("position_marks"))


def _pixel_range(folder: Path) -> tuple[int, int]:
    """(least, most) pixels of a resized image, as the folder's processor settings say."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if path.exists():
            plain = json.loads(path.read_text())
            plain = plain.get("image_processor", plain)
            size = plain.get("size") or {}
            least = plain.get("min_pixels") or size.get("shortest_edge")
            most = plain.get("max_pixels") or size.get("longest_edge")
            if least and most:
                return least, most
    return 56 * 56, 28 * 28 * 1280

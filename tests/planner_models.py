"""Small random planners for tests: the real architecture, tokenizer and folder layout, fewer layers."""

from pathlib import Path

import numpy as np

from bridge.messages import Doing, EgoState, VehicleProfile
from bridge.planning import CommandInForce, PlanRequest
from planner import nano

TEXTS = (
    "Speed 1.2, cruise 1.2, doing follow_lane 3 s. Command 2 s ago from lane 0: overtake on the left",
    "Command: go faster",
    "从左边超车",
    "以1.5米每秒行驶",
)


def tiny_tokenizer():
    return nano.build_tokenizer(TEXTS)


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """A random planner of one vision and two text layers in a standard folder."""
    tokenizer = tiny_tokenizer()
    config = nano.build_config(tokenizer, text_layers=2, vision_depth=1)
    nano.save(nano.build_model(config, seed), tokenizer, folder)
    return folder


def save_other(kind: str, folder: Path) -> Path:
    """A random model of another make: "qwen2_5_vl" (two frames as well) or "llava" (its own processor)."""
    import torch
    import transformers as hf

    torch.manual_seed(1)  # of some random weights two words are so nearly alike that a batch's rounding decides
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in (*nano.SPECIALS, "<image>")}
    text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "vocab_size": 1024, "bos_token_id": None}
    text |= {"eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}
    if kind == "qwen2_5_vl":
        vision = {"depth": 2, "hidden_size": 64, "out_hidden_size": 64, "num_heads": 4, "intermediate_size": 128}
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
        config = hf.Qwen2_5_VLConfig(
            vision_config=vision | {"patch_size": 14, "fullatt_block_indexes": [1], "window_size": 56},
            text_config=text | {"rope_parameters": rope, "max_position_embeddings": 2048},
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )
        hf.Qwen2_5_VLForConditionalGeneration._from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**vision, image_size=56, patch_size=14),
        text_config=hf.LlamaConfig(**text),
        image_token_index=ids["<image>"],
        vision_feature_layer=-1,
    )
    hf.LlavaForConditionalGeneration._from_config(config).save_pretrained(folder)
    template = (
        "{% for m in messages %}{{ m.role }}: {% for c in m.content %}"
        "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}\n{% endfor %}assistant:"
    )
    images = hf.CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    processor = hf.LlavaProcessor(
        images,
        tokenizer,
        chat_template=template,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(folder)
    return folder


def make_request(seed: int = 0, command: str | None = "overtake on the left", frames: int = 2) -> PlanRequest:
    rng = np.random.default_rng(seed)
    images = tuple(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8) for _ in range(frames))
    order = CommandInForce("c1", command, 1.0 + seed, 0) if command else None
    speed = EgoState(speed_mps=0.3 * seed)
    return PlanRequest(images, speed, Doing(), VehicleProfile(), 1.2, order)

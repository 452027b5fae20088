"""The quick paths must compute what transformers computes."""

import torch

from planner.frames import GRID_THW, HEIGHT_PX, PATCHES, WIDTH_PX
from planner.nano import build_config, build_model, build_tokenizer
from training.planner.fastpath import TextPath, VisionPath
from training.planner.tokens import PairEncoder

PAIRS = [
    ("Speed 1.2, cruise 1.2, doing follow_lane 3 s. Command: none", "1 lane, I am in lane 0, left.\nspeed 1.2 1.0"),
    ("Speed 0.2, cruise 1.0, doing stop 1 s. Command 1 s ago: stop", "2 lanes.\nintent stop accepted\npath 1 2 3"),
]


def small_model():
    tokenizer = build_tokenizer([text for pair in PAIRS for text in pair], max_vocab=1400)
    return build_model(build_config(tokenizer, text_layers=2, vision_depth=2)).eval(), PairEncoder(tokenizer, 96)


@torch.no_grad()
def test_vision_and_text_equal_transformers():
    torch.manual_seed(0)
    model, encoder = small_model()
    patches = torch.randn(1, PATCHES, 1176)
    tokens, _ = VisionPath(model.model.visual, HEIGHT_PX, WIDTH_PX, torch.float32)(patches)
    right = model.model.visual(patches.flatten(0, 1), grid_thw=torch.tensor([GRID_THW])).pooler_output
    assert torch.allclose(tokens[0], right, atol=1e-5)

    batch = encoder.collate(PAIRS, [0, 0])
    cut = encoder.prefix
    path = TextPath(model.model.language_model, torch.float32, per_prefix=2)
    embed = model.model.language_model.embed_tokens
    first = embed(batch.ids[:1, :cut]).masked_scatter(batch.image_at[:1, :cut, None], tokens)
    angles = path.angles(batch.positions[:, :1, :cut]), path.angles(batch.positions[:, :, cut:])
    hidden = path(first, embed(batch.ids[:, cut:]), *angles)
    logits = model(
        input_ids=batch.ids,
        attention_mask=(batch.ids != encoder.pad_id).long(),
        pixel_values=patches.flatten(0, 1).repeat(2, 1),
        image_grid_thw=torch.tensor([GRID_THW, GRID_THW]),
        mm_token_type_ids=batch.image_at.int(),
    ).logits
    ours = hidden[batch.rows, batch.columns - cut] @ embed.weight.T
    assert torch.allclose(ours, logits[batch.rows, batch.columns], atol=1e-4)

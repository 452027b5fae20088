"""The lean language half gives the numbers and the answers of transformers' own implementation."""

import pytest
import torch
from planner_models import TEXTS, make_request, tiny_tokenizer

from planner import nano
from planner.decoding import Grammar, decode
from planner.frames import GRID_THW, IMAGE_TOKENS, pair_values
from planner.grammar import answer_regex
from planner.lean import LeanQwen2VL
from planner.prompt import chat_text


@pytest.fixture(scope="module")
def pair():
    """(tokenizer, model): random, with norm weights and biases that matter."""
    tokenizer = tiny_tokenizer()
    model = nano.build_model(nano.build_config(tokenizer, text_layers=2, vision_depth=1)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))))
    return tokenizer, model


def _inputs(tokenizer, prompts):
    texts = [chat_text(prompt, IMAGE_TOKENS) for prompt in prompts]
    encoded = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False)
    image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    return {
        "input_ids": encoded["input_ids"],
        "attention_mask": encoded["attention_mask"],
        "mm_token_type_ids": (encoded["input_ids"] == image_id).int(),
        "pixel_values": torch.cat([pair_values(make_request(k).images) for k in range(len(prompts))]),
        "image_grid_thw": torch.tensor([GRID_THW] * len(prompts)),
    }


@torch.inference_mode()
@pytest.mark.parametrize("prompts", [TEXTS[:1], TEXTS])
def test_logits_equal_the_models(pair, prompts):
    """After the prompt, after one token and after a chunk of several with padding in it."""
    tokenizer, model = pair
    lean, inputs = LeanQwen2VL(model), _inputs(tokenizer, prompts)
    rows, mask = len(prompts), inputs["attention_mask"]
    ours, theirs = lean(**inputs), model(**inputs, use_cache=True, logits_to_keep=1)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=2e-4, rtol=1e-4)
    chunks = [torch.ones(rows, 1), torch.ones(rows, 4), torch.ones(rows, 1)]
    if rows > 1:
        chunks[1][1, :2] = 0
        chunks[2][0] = 0
    for fed in chunks:
        ids = torch.randint(0, 300, fed.shape, generator=torch.Generator().manual_seed(3))
        mask = torch.cat((mask, fed.long()), 1)
        plain = (mask.cumsum(1) - 1).clamp_min(0)[:, -fed.shape[1] :]
        given = {"input_ids": ids, "attention_mask": None if rows == 1 else mask}
        ours = lean(**given, position_ids=plain, past_key_values=ours.past_key_values)
        at = (plain + model.model.rope_deltas)[None].expand(3, -1, -1)
        theirs = model(
            **given, position_ids=at, past_key_values=theirs.past_key_values, use_cache=True, logits_to_keep=1
        )
        alive = fed[:, -1].bool()
        torch.testing.assert_close(ours.logits[alive], theirs.logits[alive], atol=2e-4, rtol=1e-4)


def test_answers_equal_the_models(pair):
    tokenizer, model = pair
    inputs = _inputs(tokenizer, TEXTS)
    for free in (False, True):  # free answers are longer than the cache has room for at first
        grammar = Grammar(tokenizer, answer_regex(free=free), model.config.text_config.vocab_size)
        assert decode(LeanQwen2VL(model), inputs, grammar, 500) == decode(model, inputs, grammar, 500)

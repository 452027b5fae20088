"""planner-nano: a Qwen2-VL of about 7 M parameters, its own tokenizer and processor, in a standard Hugging Face folder.

Builds and saves; training stands in `training/planner`, serving in `planner/backends`. The tokenizer makes one token of
every number and every common word of prompts and answers, so that an answer takes about 50 steps; whatever it does not
know falls back to pieces and bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

from bridge.messages import Intent, Verdict
from planner.frames import HEIGHT_PX, MEAN, MERGE, PATCH_PX, STD, WIDTH_PX
from planner.grammar import ACTIONS, ACTOR_KINDS, BENDS, POSITIONS, REASONS
from planner.prompt import SYSTEM

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
MAX_VOCAB = 2048
SUBWORDS = 200
# Signed numbers whole, words with their leading space or newline, every Chinese character for itself.
_SPLIT = r" ?-?\d+(?:\.\d+)?|\p{Han}|[ \n]?[\p{L}_]+| ?[^\s\p{L}\d_]|\s"
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] in ('image', 'image_url') or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class StillsProcessor(Qwen2VLProcessor):
    """Qwen2-VL's processor without the video half, which would need torchvision."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        super(Qwen2VLProcessor, self).__init__(image_processor, tokenizer, chat_template=chat_template)


def build_tokenizer(texts: Iterable[str], max_vocab: int = MAX_VOCAB) -> PreTrainedTokenizerFast:
    """Tokenizer from sample texts (prompts, answers, phrasings; each read once). The numbers and words of grammar and
    prompt are always in; then the most frequent words, up to `max_vocab` with the special tokens."""
    core = _empty_core(BPE())
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(text)))
    trainer = trainers.BpeTrainer(
        vocab_size=256 + SUBWORDS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    pieces = _empty_core(BPE())
    pieces.train_from_iterator(_spread(counts, core), trainer)
    model = json.loads(pieces.to_str())["model"]
    words = [p for text in _always() for p, _ in core.pre_tokenizer.pre_tokenize_str(text)]
    words += [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    vocab = dict(model["vocab"])
    for word in words:
        if len(vocab) + len(SPECIALS) >= max_vocab:
            break
        vocab.setdefault(word, len(vocab))
    merges = [tuple(m) for m in model["merges"]]
    tokenizer = _empty_core(BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[s for s in SPECIALS if s not in ("<|im_end|>", "<|endoftext|>")],
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def build_config(tokenizer: PreTrainedTokenizerFast, *, text_layers: int = 5, vision_depth: int = 4) -> Qwen2VLConfig:
    """The model's shape: vision width 192, text width 256 with heads of 64 (what vLLM serves), tied embeddings."""
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIALS}
    return Qwen2VLConfig(
        vision_config={
            "depth": vision_depth,
            "embed_dim": 192,
            "hidden_size": 256,
            "num_heads": 6,
            "mlp_ratio": 4,
            "patch_size": PATCH_PX,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
        },
        text_config={
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "hidden_size": 256,
            "num_hidden_layers": text_layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 768,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]},
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
        tie_word_embeddings=True,
        position_marks=True,  # ours: see planner.frames.position_marks
    )


def build_model(config: Qwen2VLConfig, seed: int = 0) -> Qwen2VLForConditionalGeneration:
    """Random weights from the seed, float32, SDPA attention."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2VLForConditionalGeneration._from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    model.generation_config.eos_token_id = config.text_config.eos_token_id
    model.generation_config.pad_token_id = config.text_config.pad_token_id
    model.generation_config.do_sample = False
    return model


def build_processor(tokenizer: PreTrainedTokenizerFast) -> StillsProcessor:
    """Processor that resizes a 160 x 120 frame to WIDTH_PX x HEIGHT_PX (24 image tokens)."""
    from transformers import Qwen2VLImageProcessor

    pixels = WIDTH_PX * HEIGHT_PX
    images = Qwen2VLImageProcessor(
        size={"shortest_edge": pixels, "longest_edge": pixels},
        patch_size=PATCH_PX,
        merge_size=MERGE,
        temporal_patch_size=2,
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    return StillsProcessor(images, tokenizer, chat_template=CHAT_TEMPLATE)


def save(model: Qwen2VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write a standard folder, weights in bfloat16 in shards under 15 MB; the model itself stays as it is."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().to("cpu", torch.bfloat16) for name, value in model.state_dict().items()}
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder, state_dict=weights, max_shard_size=14_900_000)
    build_processor(tokenizer).save_pretrained(folder)
    # Other programs, and older ones, know the stock classes only.
    _patch(folder / "processor_config.json", processor_class="Qwen2VLProcessor")
    _patch(
        folder / "tokenizer_config.json", processor_class="Qwen2VLProcessor", tokenizer_class="PreTrainedTokenizerFast"
    )
    # Whoever loads the folder by its path must know that it was taught the plan grammar and the short prompt.
    (folder / "pacenote.json").write_text('{"grammar": 1}\n')


def _patch(path: Path, **values: str) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=2) + "\n")


def _empty_core(model: BPE) -> Tokenizer:
    core = Tokenizer(model)
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    return core


def _spread(counts: Counter[str], core: Tokenizer) -> Iterable[str]:
    """Every word a few times at most: pieces are to come from the breadth of words, not from the template."""
    for word, count in sorted(counts.items()):
        for _ in range(min(count, 5)):
            yield core.decoder.decode([word])


def _always() -> list[str]:
    """Texts whose every word must be one token, whatever the samples held."""
    numbers = [f" {n}" for n in range(-180, 181)] + [f" {n / 10:.1f}" for n in range(100)]
    return [
        *numbers,
        *(f" {i}" for i in (*Intent, *Verdict)),
        *(f" {word}" for word in (*POSITIONS, *ACTOR_KINDS, *ACTIONS, *REASONS, *BENDS)),
        *(f". {action[0].upper()}{action[1:]}." for action in ACTIONS),
        SYSTEM,
        "1 lane, 2 lanes, I am in lane 0, centre. Road is, bends. Car Cone Box in lane 0 at 2.5 m. Nothing ahead.",
        "\nintent follow_lane none: reason\npath\nspeed",
        "Speed 1.2, cruise 1.2, doing follow_lane 3 s. Command 2 s ago from lane 0: none",
        "system user assistant\n",
    ]

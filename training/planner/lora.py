"""Teach a ready-made vision-language model our plans: a LoRA adapter on its language model, same data, same targets.

For any Hugging Face folder that `planner.backends` can serve (Qwen2-VL, Qwen2.5-VL, Qwen3-VL, SmolVLM, InternVL). The
vision tower stays as it is: servers such as vLLM take adapters on the language model only. Runs on whatever device
torch finds; several GPUs go through `accelerate launch`-style tools and are not handled here.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge.messages import Doing, VehicleProfile
from bridge.planning import PlanRequest
from planner.backends.model_inputs import PAIR_MODELS, PairInputs, ProcessorInputs
from planner.prompt import SYSTEM
from training.planner.feed import FeedSpec, Lesson, make_lessons
from training.planner.settings import PlannerTrainSettings
from training.planner.state import TrainState
from training.planner.train_log import TrainLog

TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
IGNORE = -100


def load_inputs(base: str):
    """(tokenizer, maker of input tensors from plan requests and prompts) of a model folder."""
    from transformers import AutoConfig, AutoProcessor, AutoTokenizer

    if AutoConfig.from_pretrained(base).model_type in PAIR_MODELS:
        tokenizer = AutoTokenizer.from_pretrained(base)
        return tokenizer, PairInputs(base, tokenizer, SYSTEM)
    processor = AutoProcessor.from_pretrained(base)
    return processor.tokenizer, ProcessorInputs(processor, SYSTEM)


def batch_of(lesson: Lesson, tokenizer, inputs) -> tuple[dict[str, Tensor], Tensor]:
    """Input tensors with the answers appended, and labels that count only those. Prompts are padded left, answers
    right."""
    profile = VehicleProfile()
    per_scene = len(lesson.dreams) // len(lesson.pictures.frames)
    frames = lesson.pictures.frames.numpy()
    requests = [
        PlanRequest(tuple(frames[k // per_scene]), ego=_still(), doing=Doing(), profile=profile, cruise_mps=1.0)
        for k in range(len(lesson.dreams))
    ]
    batch = inputs(requests, [d.prompt for d in lesson.dreams])
    tails = [tokenizer.encode(d.text, add_special_tokens=False) + [tokenizer.eos_token_id] for d in lesson.dreams]
    longest = max(map(len, tails))
    answer = torch.tensor([t + [tokenizer.eos_token_id] * (longest - len(t)) for t in tails])
    counts = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in tails])
    labels = torch.cat([torch.full_like(batch["input_ids"], IGNORE), answer.masked_fill(counts == 0, IGNORE)], 1)
    batch["input_ids"] = torch.cat([batch["input_ids"], answer], 1)
    batch["attention_mask"] = torch.cat([batch["attention_mask"], counts], 1)
    if "mm_token_type_ids" in batch:
        batch["mm_token_type_ids"] = torch.cat([batch["mm_token_type_ids"], torch.zeros_like(answer).int()], 1)
    return batch, labels


def _still():
    from bridge.messages import EgoState

    return EgoState()


def train_lora(settings: PlannerTrainSettings) -> Path:
    """Train an adapter on `settings.start_from`; returns its folder. Raises ValueError without a base model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    if settings.start_from is None:
        raise ValueError("lora: give the base model's folder in `start_from`")
    base = str(settings.start_from)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    tokenizer, inputs = load_inputs(base)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=dtype).to(device)
    config = LoraConfig(r=settings.lora_rank, lora_alpha=2 * settings.lora_rank, target_modules=TARGETS)
    model = get_peft_model(model, config)
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=settings.lora_lr, weight_decay=0.0)
    log, state = TrainLog(settings.log_dir, f"{settings.name}-lora"), TrainState(stage="lora")
    spec = FeedSpec(
        seed=settings.seed,
        scenes=settings.scenes_per_step,
        per_scene=settings.dreams_per_scene,
        tokenizer=None,
        text_tokens=settings.text_tokens,
        driven_share=settings.driven_share,
        dream_texts=True,
    )
    begin = last = time.monotonic()
    for lesson in make_lessons(spec):
        batch, labels = batch_of(lesson, tokenizer, inputs)
        logits = model(**{k: v.to(device, dtype if v.is_floating_point() else None) for k, v in batch.items()}).logits
        flat = logits[:, :-1].float().reshape(-1, logits.shape[-1])
        loss = F.cross_entropy(flat, labels[:, 1:].reshape(-1).to(device), ignore_index=IGNORE)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state.step, state.samples = state.step + 1, state.samples + len(labels)
        state.elapsed_s = time.monotonic() - begin
        done = state.elapsed_s > 60 * settings.minutes
        if done or time.monotonic() - last > 20:
            log.row("lora", state, {"loss": float(loss.detach())})
            last = time.monotonic()
        if done:
            break
    model.save_pretrained(settings.out)
    tokenizer.save_pretrained(settings.out)
    (settings.out / "pacenote.json").write_text('{"grammar": 1}\n')
    log.draw()
    return Path(settings.out)

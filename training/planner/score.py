"""How right the model's answers are: greedy answers to unseen pictures against the expert's.

Decoding here is free (no grammar), so that it also shows how often the form holds by itself.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bridge.messages import VehicleProfile
from planner.frames import IMAGE_TOKENS
from planner.grammar import GrammarError, parse_answer
from planner.prompt import chat_text
from training.planner.feed import Lesson
from training.planner.tokens import PairEncoder, image_positions


@torch.no_grad()
def greedy_answers(
    model: nn.Module, encoder: PairEncoder, tokens: Tensor, prompts: list[str], limit: int = 96
) -> list[str]:
    """Greedy answers for image tokens (n, IMAGE_TOKENS, width) and one prompt each."""
    heads = [encoder.encode_text(chat_text(p, IMAGE_TOKENS)) for p in prompts]
    longest = max(map(len, heads))
    count = len(heads)
    ids = torch.full((count, longest), encoder.pad_id)
    keep = torch.zeros((count, longest), dtype=torch.long)
    for b, head in enumerate(heads):
        ids[b, longest - len(head) :] = torch.tensor(head)
        keep[b, longest - len(head) :] = 1
    positions = torch.zeros((3, count, longest), dtype=torch.long)
    for b, head in enumerate(heads):
        row = ids[b : b + 1, longest - len(head) :]
        positions[:, b, longest - len(head) :] = image_positions(row == encoder.image_id)[:, 0]
    lm = model.model.language_model
    embeds = lm.embed_tokens(ids)
    embeds = embeds.masked_scatter((ids == encoder.image_id)[..., None], tokens.reshape(-1, tokens.shape[-1]))
    out = lm(inputs_embeds=embeds, attention_mask=keep, position_ids=positions, use_cache=True)
    written = [[] for _ in range(count)]
    at = positions[0, :, -1:] + 1
    for _ in range(limit):
        following = (out.last_hidden_state[:, -1] @ lm.embed_tokens.weight.T).argmax(-1)
        for b in range(count):
            if not written[b] or written[b][-1] != encoder.end_id:
                written[b].append(int(following[b]))
        if all(w[-1] == encoder.end_id for w in written):
            break
        keep = torch.cat([keep, torch.ones((count, 1), dtype=torch.long)], 1)
        out = lm(
            input_ids=following[:, None],
            attention_mask=keep,
            position_ids=at[None].expand(3, -1, -1),
            past_key_values=out.past_key_values,
            use_cache=True,
        )
        at = at + 1
    return [encoder.tokenizer.decode(w, skip_special_tokens=True) for w in written]


def score_answers(model: nn.Module, encoder: PairEncoder, tokens: Tensor, lesson: Lesson) -> dict[str, float]:
    """Shares and errors over a lesson with one dream to a picture."""
    profile = VehicleProfile()
    texts = greedy_answers(model, encoder, tokens, [d.prompt for d in lesson.dreams])
    marks: dict[str, list[float]] = {}
    for text, dream in zip(texts, lesson.dreams, strict=True):
        mark = lambda name, value: marks.setdefault(name, []).append(float(value))  # noqa: E731
        try:
            said = parse_answer(text, profile)
        except GrammarError:
            mark("parsed", 0)
            continue
        mark("parsed", 1)
        right = parse_answer(dream.text, profile)
        mark("intent", said.intent == right.intent)
        mark("verdict", said.verdict == right.verdict)
        a, b = said.extra["chain"], right.extra["chain"]
        mark("path_deg", np.abs(np.subtract(a.headings_deg, b.headings_deg)).mean())
        mark("speed_mps", abs(a.first_mps - b.first_mps))
        for name, value in compare_facts(said.extra.get("facts"), right.extra.get("facts")).items():
            mark(name, value)
    return {name: float(np.mean(values)) for name, values in marks.items()}


def compare_facts(said: dict | None, right: dict | None) -> dict[str, bool]:
    """Which statements are right. Of the nearest actor: its presence; where there is one, kind, lane and distance
    (within 0.5 m or 20 %)."""
    if said is None or right is None:
        return {"facts": False}
    marks = {k: said[k] == right[k] for k in ("lane_count", "lane", "position", "bend")}
    marks["actor_present"] = bool(said["actors"]) == bool(right["actors"])
    if right["actors"]:
        a, b = (said["actors"] or [None])[0], right["actors"][0]
        marks["actor_kind"] = a is not None and a["kind"] == b["kind"]
        marks["actor_lane"] = a is not None and a["lane"] == b["lane"]
        near = max(0.5, 0.2 * b["distance_m"]) + 1e-6
        marks["actor_distance"] = a is not None and abs(a["distance_m"] - b["distance_m"]) <= near
    return marks

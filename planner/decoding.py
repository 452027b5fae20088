"""Greedy decoding in a grammar around any Hugging Face causal model: what comes out always parses.

llguidance gives the tokens allowed next, and the ones that the grammar leaves no choice about; these are appended
without asking the model, several in one forward pass. Knows nothing of plans; the grammar is a regular expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import llguidance
import llguidance.hf
import torch


class DecodingError(RuntimeError):
    """The grammar or the model's answers cannot be handled; the message says why."""


class Grammar:
    """A regular expression compiled for one tokenizer. `vocab_size` is the width of the model's logits."""

    def __init__(self, tokenizer, regex: str, vocab_size: int):
        self.eos_id = tokenizer.eos_token_id
        wide = max(vocab_size, len(tokenizer))
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=wide)
        self._words = (wide + 31) // 32
        source = llguidance.LLMatcher.grammar_from_regex(regex)
        self._matcher = llguidance.LLMatcher(self._tokenizer, source, log_level=0)
        if self._matcher.is_error():
            raise DecodingError(f"grammar: {self._matcher.get_error()}")

    def start(self) -> llguidance.LLMatcher:
        """A fresh matcher at the beginning of an answer."""
        return self._matcher.deep_copy()

    def best(self, matcher: llguidance.LLMatcher, scores: torch.Tensor) -> int:
        """The allowed token with the highest score (scores: (vocab,) float32 on the CPU)."""
        bits = torch.empty(self._words, dtype=torch.int32)
        matcher.unsafe_compute_mask_ptr(bits.data_ptr(), bits.numel() * 4)
        allowed = (bits[:, None] >> torch.arange(32, dtype=torch.int32)) & 1
        allowed = allowed.reshape(-1)[: scores.shape[0]].bool()
        return int(scores.masked_fill(~allowed, float("-inf")).argmax())


@dataclass
class _Row:
    matcher: llguidance.LLMatcher
    tokens: list[int]
    done: bool = False

    def take(self, grammar: Grammar, scores: torch.Tensor) -> list[int]:
        """Choose the next token and everything that follows from it; returns what the model has yet to be fed."""
        token = grammar.best(self.matcher, scores)
        if token == grammar.eos_id:
            self.done = True
            return []
        self.matcher.consume_token(token)
        forced = self.matcher.compute_ff_tokens()
        if forced:
            self.matcher.consume_tokens(forced)
        if self.matcher.is_error():
            raise DecodingError(f"grammar: {self.matcher.get_error()}")
        self.done = self.matcher.is_stopped()
        self.tokens += [token, *forced]
        return [token, *forced]


@torch.inference_mode()
def decode(model, inputs: dict, grammar: Grammar, max_tokens: int) -> list[list[int] | None]:
    """Token ids of the answer for each row of `inputs` (what the model's forward takes, left-padded, with
    `attention_mask`), None for a row whose answer was not finished within `max_tokens`."""
    mask = inputs["attention_mask"]
    rows = [_Row(grammar.start(), []) for _ in range(mask.shape[0])]
    padded = bool((mask == 0).any())
    output = model(**inputs, use_cache=True, logits_to_keep=1)
    while True:
        scores = output.logits[:, -1].float().cpu()
        pending = [[] if row.done else row.take(grammar, scores[i]) for i, row in enumerate(rows)]
        if all(row.done or len(row.tokens) >= max_tokens for row in rows):
            return [row.tokens if row.done else None for row in rows]
        ids, fed = _left_padded(pending, grammar.eos_id, mask.device)
        mask = torch.cat((mask, fed), dim=1)
        padded = padded or bool((fed == 0).any())
        output = model(
            input_ids=ids,
            attention_mask=mask if padded else None,
            position_ids=_positions(model, mask, ids.shape[1]),
            past_key_values=output.past_key_values,
            use_cache=True,
            logits_to_keep=1,
        )


def _left_padded(pending: list[list[int]], pad_id: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(tokens) for tokens in pending)
    ids = [[pad_id] * (width - len(tokens)) + tokens for tokens in pending]
    fed = [[0] * (width - len(tokens)) + [1] * len(tokens) for tokens in pending]
    return torch.tensor(ids, device=device), torch.tensor(fed, device=device)


def _positions(model, mask: torch.Tensor, width: int) -> torch.Tensor:
    """Positions of the last `width` tokens; the Qwen-VL family adds what its image grid saved (`rope_deltas`)."""
    plain = (mask.cumsum(dim=1) - 1).clamp_min(0)[:, -width:]
    deltas = getattr(getattr(model, "model", None), "rope_deltas", None)
    if deltas is None:
        return plain
    return (plain + deltas.to(plain.device))[None].expand(3, -1, -1)

"""The language half of a small Qwen2-VL as few matrix products as possible: same weights, same numbers, a fraction of
the time of the general implementation, whose bookkeeping costs more than the arithmetic at this size.

Made from a loaded `Qwen2VLForConditionalGeneration` and called in its place for decoding on a CPU; the picture still
goes through the model's own vision tower. Float32. `tests/test_planner_lean.py` holds it equal to the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

_ROOM = 192  # tokens that a fresh cache has room for after the prompt; it grows as needed


@dataclass
class _Layer:
    """Norm weights are folded into the products that follow them."""

    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass
class _Cache:
    """`keys`, `values` (layers, batch, kv heads, room, head size), filled up to `length`; `shift` (batch, 1) is what
    the picture's grid saved in positions."""

    keys: Tensor
    values: Tensor
    shift: Tensor
    length: int = 0

    def grow(self, extra: int) -> None:
        if self.length + extra > self.keys.shape[3]:
            self.keys, self.values = (F.pad(t, (0, 0, 0, extra + _ROOM)) for t in (self.keys, self.values))


class LeanQwen2VL:
    """Takes the model's forward arguments as `planner.decoding.decode` gives them."""

    @torch.no_grad()
    def __init__(self, model):
        text = model.config.text_config
        language = model.model.language_model
        self._model = model.model
        self._embed = language.embed_tokens
        self._heads, self._kv_heads = text.num_attention_heads, text.num_key_value_heads
        self._size = text.hidden_size // text.num_attention_heads
        self._eps = text.rms_norm_eps
        self._layers = [_fold(layer) for layer in language.layers]
        self._head = model.lm_head.weight * language.norm.weight
        positions = torch.arange(text.max_position_embeddings)[:, None]
        angles = positions * language.rotary_emb.inv_freq.float()
        self._cos, self._sin = torch.cat((angles, angles), 1).cos(), torch.cat((-angles, angles), 1).sin()
        axis = torch.repeat_interleave(torch.arange(3), torch.tensor(text.rope_parameters["mrope_section"]))
        self._axis = torch.cat((axis, axis))[None, None, None]

    def __call__(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: _Cache | None = None,
        **picture,
    ) -> SimpleNamespace:
        """Logits (batch, 1, vocabulary) after the last token, and the cache."""
        x, cache = self._embed(input_ids), past_key_values
        batch, new = input_ids.shape
        if cache is None:
            x, cos, sin, cache = self._begin(x, input_ids, attention_mask, picture)
        else:
            at = position_ids + cache.shift
            cos, sin = self._cos[at], self._sin[at]
        cache.grow(new)
        mask = self._visible(new, cache.length, attention_mask)
        cos, sin = cos[:, :, None], sin[:, :, None]
        for k, layer in enumerate(self._layers):
            x = self._step(x, layer, cos, sin, cache.keys[k], cache.values[k], cache.length, mask)
        cache.length += new
        logits = F.linear(F.rms_norm(x[:, -1:], x.shape[-1:], None, self._eps), self._head)
        return SimpleNamespace(logits=logits, past_key_values=cache)

    def _begin(self, x: Tensor, ids: Tensor, mask: Tensor | None, picture: dict):
        grid = picture["image_grid_thw"]
        tokens = torch.cat(tuple(self._model.get_image_features(picture["pixel_values"], grid).pooler_output))
        x = x.masked_scatter((ids == self._model.config.image_token_id)[..., None], tokens)
        at, shift = self._model.get_rope_index(
            ids, image_grid_thw=grid, attention_mask=mask, mm_token_type_ids=picture["mm_token_type_ids"]
        )
        # Every part of a head turns with the position along its own axis: time, row or column.
        axis = self._axis.expand(1, *ids.shape, -1)
        cos, sin = (table[at].gather(0, axis)[0] for table in (self._cos, self._sin))
        room = (len(self._layers), ids.shape[0], self._kv_heads, ids.shape[1] + _ROOM, self._size)
        return x, cos, sin, _Cache(torch.zeros(room), torch.zeros(room), shift.reshape(-1, 1))

    def _step(self, x, layer: _Layer, cos, sin, keys, values, length: int, mask) -> Tensor:
        batch, new, width = x.shape
        rotated, kv = self._heads + self._kv_heads, self._kv_heads
        qkv = F.linear(F.rms_norm(x, (width,), None, self._eps), layer.qkv, layer.qkv_bias)
        qkv = qkv.view(batch, new, rotated + kv, self._size)
        turned = qkv[:, :, :rotated]
        turned = turned * cos + turned.roll(self._size // 2, -1) * sin
        end = length + new
        keys[:, :, length:end] = turned[:, :, self._heads :].transpose(1, 2)
        values[:, :, length:end] = qkv[:, :, rotated:].transpose(1, 2)
        # The heads that share keys are rows of one product: (batch, kv heads, heads per kv * new, size).
        q = turned[:, :, : self._heads].reshape(batch, new, kv, -1, self._size).permute(0, 2, 3, 1, 4)
        seen = F.scaled_dot_product_attention(
            q.reshape(batch, kv, -1, self._size), keys[:, :, :end], values[:, :, :end], mask
        )
        seen = seen.view(batch, kv, -1, new, self._size).permute(0, 3, 1, 2, 4).reshape(batch, new, -1)
        x = x + F.linear(seen, layer.out)
        gate, up = F.linear(F.rms_norm(x, (width,), None, self._eps), layer.gate_up).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, layer.down)

    def _visible(self, new: int, length: int, mask: Tensor | None) -> Tensor | None:
        """(batch or 1, 1, heads per kv * new, length + new) bool: what each new token may look at, None for all."""
        if new == 1 and mask is None:
            return None
        keys, queries = torch.arange(length + new), torch.arange(length, length + new)
        visible = (keys <= queries[:, None])[None]
        if mask is not None:  # a padding token sees at least itself: nothing at all would give NaN
            visible = visible & mask[:, None].bool() | (keys == queries[:, None])
        return visible.repeat(1, self._heads // self._kv_heads, 1)[:, None]


def _fold(layer) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    return _Layer(
        qkv=torch.cat([p.weight for p in projections]) * layer.input_layernorm.weight,
        qkv_bias=torch.cat([p.bias for p in projections]),
        out=attention.o_proj.weight.detach(),
        gate_up=torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)) * layer.post_attention_layernorm.weight,
        down=mlp.down_proj.weight.detach(),
    )

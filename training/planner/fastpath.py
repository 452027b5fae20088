"""The arithmetic of transformers' Qwen2-VL laid out for training on a CPU: same weights, same numbers, several times
quicker. All pictures are equally large, so vision attention is one batch instead of a loop over pictures; the patch
embedding is a matrix product instead of a 3-D convolution; products run in bfloat16 where the processor has AMX.

Knows the weights of `Qwen2VLForConditionalGeneration`; knows nothing of text, roads or losses.
`tests/test_training_planner_fastpath.py` holds it equal to transformers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MERGE = 2


def grid_positions(gh: int, gw: int) -> tuple[Tensor, Tensor]:
    """Row and column (gh*gw,) of each patch, in the order of `patchify`."""
    rows = torch.arange(gh)[:, None].expand(gh, gw)
    cols = torch.arange(gw)[None, :].expand(gh, gw)
    blocks = [a.reshape(gh // MERGE, MERGE, gw // MERGE, MERGE).permute(0, 2, 1, 3).reshape(-1) for a in (rows, cols)]
    return blocks[0], blocks[1]


def _linear(layer: nn.Linear, x: Tensor, dtype: torch.dtype) -> Tensor:
    bias = layer.bias.to(dtype) if layer.bias is not None else None
    return F.linear(x.to(dtype), layer.weight.to(dtype), bias)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """(B, H, T, D) each; `bias` (T, T) is added to the scores."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    scores = scores.float() if bias is None else scores.float() + bias
    return scores.softmax(-1).to(v.dtype) @ v


def _layer_norm(norm: nn.LayerNorm, x: Tensor, dtype: torch.dtype) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(dtype)


def _rms_norm(norm: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.variance_epsilon) * norm.weight).to(dtype)


class VisionPath(nn.Module):
    """`model.model.visual` for pictures of one size. Shares the weights of the model that it is given."""

    def __init__(self, visual: nn.Module, height: int, width: int, dtype: torch.dtype):
        super().__init__()
        self.visual, self.dtype = visual, dtype
        patch = visual.config.patch_size
        rows, cols = grid_positions(height // patch, width // patch)
        inv = visual.rotary_pos_emb.inv_freq.float().cpu()
        angle = torch.cat([rows[:, None] * inv, cols[:, None] * inv], dim=-1)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, pixels) -> image tokens (B, P/4, hidden) and patch features (B, P, embed), float32."""
        visual, dtype = self.visual, self.dtype
        weight = visual.patch_embed.proj.weight
        x = F.linear(patches.to(dtype), weight.flatten(1).to(dtype)).float()
        b, p, dim = x.shape
        for block in visual.blocks:
            qkv = _linear(block.attn.qkv, _layer_norm(block.norm1, x, dtype), dtype)
            q, k, v = qkv.view(b, p, 3, block.attn.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
            y = _attend(_rotate(q, self.cos, self.sin), _rotate(k, self.cos, self.sin), v, None)
            x = x + _linear(block.attn.proj, y.transpose(1, 2).reshape(b, p, dim), dtype)
            y = _linear(block.mlp.fc1, _layer_norm(block.norm2, x, dtype), dtype)
            x = x + _linear(block.mlp.fc2, block.mlp.act(y), dtype)
        merged = _layer_norm(visual.merger.ln_q, x, dtype).view(b, p // MERGE**2, -1)
        merged = F.gelu(_linear(visual.merger.mlp[0], merged, dtype))
        return _linear(visual.merger.mlp[2], merged, dtype).float(), x


class TextPath(nn.Module):
    """`model.model.language_model` on texts that share their beginnings: `per_prefix` right-padded continuations of
    every prefix, which is computed once (several instructions to one picture). Causal masking is all that is needed."""

    def __init__(self, language_model: nn.Module, dtype: torch.dtype, per_prefix: int):
        super().__init__()
        self.lm, self.dtype, self.per_prefix = language_model, dtype, per_prefix

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(3, B, T) multimodal positions -> cos, sin (B, 1, T, head_dim/2)."""
        cos, sin = self.lm.rotary_emb(torch.zeros(1), positions)
        half = cos.shape[-1] // 2
        return cos[:, None, :, :half], sin[:, None, :, :half]

    def forward(self, prefix: Tensor, rest: Tensor, prefix_angles: tuple, rest_angles: tuple) -> Tensor:
        """Embeddings (S, P, D) and (S * per_prefix, T, D) -> last hidden states (S * per_prefix, T, D) of the latter,
        after the final norm, in the working type."""
        dtype = self.dtype
        (s, p, dim), (b, t, _) = prefix.shape, rest.shape
        x = torch.cat([prefix.reshape(-1, dim), rest.reshape(-1, dim)]).float()
        for layer in self.lm.layers:
            y = _rms_norm(layer.input_layernorm, x, dtype)
            y = self._attention(layer.self_attn, y, (s, p), (b, t), prefix_angles, rest_angles)
            x = x + _linear(layer.self_attn.o_proj, y, dtype)
            y = _rms_norm(layer.post_attention_layernorm, x, dtype)
            y = F.silu(_linear(layer.mlp.gate_proj, y, dtype)) * _linear(layer.mlp.up_proj, y, dtype)
            x = x + _linear(layer.mlp.down_proj, y, dtype)
        return _rms_norm(self.lm.norm, x[s * p :].view(b, t, dim), dtype)

    def _attention(self, attn, y: Tensor, head: tuple, tail: tuple, head_angles: tuple, tail_angles: tuple) -> Tensor:
        (s, p), (b, t) = head, tail
        q, k, v = (_linear(f, y, self.dtype) for f in (attn.q_proj, attn.k_proj, attn.v_proj))
        first = [a[: s * p].view(s, p, -1, attn.head_dim).transpose(1, 2) for a in (q, k, v)]
        then = [a[s * p :].view(b, t, -1, attn.head_dim).transpose(1, 2) for a in (q, k, v)]
        first[:2] = [_rotate(a, *head_angles) for a in first[:2]]
        then[:2] = [_rotate(a, *tail_angles) for a in then[:2]]
        groups = attn.num_key_value_groups
        first[1:] = [a.repeat_interleave(groups, dim=1) for a in first[1:]]
        then[1:] = [a.repeat_interleave(groups, dim=1) for a in then[1:]]
        causal = torch.full((p + t, p + t), float("-inf")).triu(1)
        out_first = _attend(*first, causal[:p, :p])
        k, v = (torch.cat([a.repeat_interleave(self.per_prefix, dim=0), c], 2) for a, c in zip(first[1:], then[1:]))
        out_then = _attend(then[0], k, v, causal[p:])
        flat = [o.transpose(1, 2).reshape(-1, attn.num_heads * attn.head_dim) for o in (out_first, out_then)]
        return torch.cat(flat)

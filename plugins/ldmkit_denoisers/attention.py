"""Attention of image features to themselves or to tokens: Q from the features, K and V both from the tokens.

Rombach et al. 2022, section 3.3: Q = W_Q phi(z_t), K = W_K tau(y), V = W_V tau(y). The sentence behind that equation
swaps the shapes of W_Q and W_V; the equation is right.

Legend: B batch, N image positions, M tokens, C feature width, D token width, H heads, d width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit_denoisers.layers import Norm, Pointwise, zeroed

KeysValues = tuple[Tensor, Tensor]
"""K and V, each (B, H, M, d)."""

MASKED = -3.0e4
"""Added to the scores of pads: finite, so that a row of nothing but pads gives no NaN, and within fp16's range."""


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v.

    ``q`` (B, H, N, d), ``k`` and ``v`` (B, H, M, d), ``bias`` broadcasting to (B, H, N, M); returns (B, H, N, d).
    """
    bias = None if bias is None else bias.to(q.dtype)
    if q.device.type == "cpu" and q.requires_grad and q.element_size() < 4:
        # On a CPU the backward of torch's fused attention takes 3 to 5 times as long in bf16, if the tensors are small.
        return attend_in_steps(q, k, v, bias)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def attend_in_steps(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """As :func:`attend`, one multiplication after the other."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return (scores if bias is None else scores + bias).softmax(-1) @ v


def split_heads(features: Tensor, heads: int) -> Tensor:
    """(B, N, H * d) => (B, H, N, d)."""
    return features.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(features: Tensor) -> Tensor:
    """(B, H, N, d) => (B, N, H * d)."""
    return features.transpose(1, 2).flatten(2)


class HeadNorm(nn.Module):
    """Root mean square norm over the width of each head, with a learned scale (Zhang and Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, N, d) => (B, H, N, d), in the type of the features."""
        return F.rms_norm(features, self.weight.shape, self.weight.to(features.dtype), eps=1e-6)


class Attention(nn.Module):
    """Multi-head attention of features of width C = ``channels`` to something of width D = ``tokens``.

    ``bias`` is that of Q, K and V. ``qk_norm`` gives each head's q and k a root mean square of one and a learned scale
    (Esser et al. 2024, section 5.3.2), so that scores cannot grow without bound.
    """

    def __init__(
        self, channels: int, tokens: int, heads: int, dropout: float, *, bias: bool = False, qk_norm: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=bias)
        self.to_k = nn.Linear(tokens, channels, bias=bias)
        self.to_v = nn.Linear(tokens, channels, bias=bias)
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Dropout(dropout))
        self.norm_q = HeadNorm(channels // heads) if qk_norm else nn.Identity()
        self.norm_k = HeadNorm(channels // heads) if qk_norm else nn.Identity()

    def queries(self, features: Tensor) -> Tensor:
        """Features (B, N, C) => Q (B, H, N, d)."""
        return self.norm_q(split_heads(self.to_q(features), self.heads))

    def keys_values(self, tokens: Tensor) -> KeysValues:
        """Tokens (B, M, D) => K and V, each (B, H, M, d)."""
        return self.norm_k(split_heads(self.to_k(tokens), self.heads)), split_heads(self.to_v(tokens), self.heads)

    def out(self, attended: Tensor) -> Tensor:
        """What the heads have found, (B, H, N, d) => (B, N, C)."""
        return self.to_out(join_heads(attended))

    def forward(self, features: Tensor, keys_values: KeysValues | None = None, bias: Tensor | None = None) -> Tensor:
        """Features (B, N, C) attend to ``keys_values``, or to themselves where there are none: (B, N, C)."""
        k, v = self.keys_values(features) if keys_values is None else keys_values
        return self.out(attend(self.queries(features), k, v, bias))

    def identity(self, features: Tensor) -> Tensor:
        """Self-attention in which each position attends to itself alone: (B, N, C) => (B, N, C)."""
        return self.to_out(self.to_v(features))


class PlainAttention(nn.Module):
    """ADM's residual self-attention block (Dhariwal and Nichol 2021), for a UNet that is told no tokens.

    The 3 C outputs of ``qkv`` are ordered head by head, then q, k, v, as the original checkpoints have them.
    """

    def __init__(self, channels: int, heads: int, norm: str) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(norm, channels)
        self.qkv = Pointwise(channels, 3 * channels, axes=1)
        self.proj_out = zeroed(Pointwise(channels, channels, axes=1))

    def forward(self, features: Tensor, perturbed: bool = False) -> Tensor:
        """(B, C, h, w) => (B, C, h, w); ``perturbed``: each position attends to itself alone."""
        sequence = self.norm(features).permute(0, 2, 3, 1).flatten(1, 2)
        q, k, v = split_heads(self.qkv(sequence), self.heads).chunk(3, dim=-1)
        change = self.proj_out(join_heads(v if perturbed else attend(q, k, v)))
        return features + change.unflatten(1, features.shape[2:]).permute(0, 3, 1, 2)

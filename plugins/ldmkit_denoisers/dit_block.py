"""The transformer block of DiT, which time and vector modulate. Legend: B batch, N patches, M tokens, D width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit_denoisers.attention import Attention, KeysValues
from ldmkit_denoisers.layers import zeroed

EPS = 1e-6


class Modulation(nn.Module):
    """SiLU and a linear layer, which begins at zero: the condition (B, D) => ``count`` times (B, 1, D)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.linear = zeroed(nn.Linear(width, count * width))

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        """The condition (B, D) => shifts, scales and gates, each (B, 1, D)."""
        return self.linear(F.silu(condition))[:, None].chunk(self.count, dim=-1)


def modulate(features: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights of its own, then scale and shift: adaLN (Perez et al. 2018, FiLM)."""
    return F.layer_norm(features, features.shape[-1:], eps=EPS) * (1 + scale) + shift


def feed_forward(width: int, multiple: int) -> nn.Sequential:
    """Two linear layers with GELU, in its tanh form, between them."""
    inner = width * multiple
    return nn.Sequential(nn.Linear(width, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, width))


class DiTBlock(nn.Module):
    """Self-attention and feed-forward with adaLN-zero (Peebles and Xie 2023, figure 3, left).

    With ``tokens``, their width, an attention to them stands in between (figure 3, second from the right), its output
    layer zero at first like the gates beside it.
    """

    def __init__(self, width: int, *, heads: int, multiple: int, qk_norm: bool, tokens: int = 0) -> None:
        super().__init__()
        self.modulation = Modulation(width, 6)
        self.attention = Attention(width, width, heads, 0.0, bias=True, qk_norm=qk_norm)
        self.cross_norm = nn.LayerNorm(width, EPS) if tokens else None
        # Without a bias in K and V, tokens of zeros say nothing.
        self.cross_attention = Attention(width, tokens, heads, 0.0, qk_norm=qk_norm) if tokens else None
        self.feed_forward = feed_forward(width, multiple)

    def keys_values(self, tokens: Tensor) -> KeysValues:
        """Tokens (B, M, width of tokens) => K and V of the attention to them."""
        assert self.cross_attention is not None
        return self.cross_attention.keys_values(tokens)

    def forward(self, features: Tensor, condition: Tensor, told: KeysValues | None, bias: Tensor | None) -> Tensor:
        """Features (B, N, D) and the condition (B, D) => (B, N, D).

        ``bias`` is added to the scores of the tokens where ``told`` has K and V of some, else to those of the features.
        """
        seen, gate, *after = self.modulated(features, condition)
        features = features + gate * self.attention(seen, bias=bias if told is None else None)
        if self.cross_norm is not None and self.cross_attention is not None:
            features = features + self.cross_attention(self.cross_norm(features), told, bias)
        return self.fed_forward(features, *after)

    def modulated(self, features: Tensor, condition: Tensor) -> tuple[Tensor, ...]:
        """Features as the attention sees them, the gate behind it, and the three that :meth:`fed_forward` takes."""
        shift, scale, *others = self.modulation(condition)
        return modulate(features, shift, scale), *others

    def fed_forward(self, features: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        """The second half: (B, N, D) => (B, N, D)."""
        return features + gate * self.feed_forward(modulate(features, shift, scale))

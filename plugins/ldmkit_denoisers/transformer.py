"""The spatial transformer: how tokens speak to image features."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit_denoisers.attention import Attention, KeysValues
from ldmkit_denoisers.layers import Norm, Pointwise, zeroed


class GEGLU(nn.Module):
    """Linear and GELU-gated (Shazeer 2020, "GLU variants improve transformer")."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, 2 * outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(..., inputs) => (..., outputs)."""
        values, gates = self.proj(features).chunk(2, dim=-1)
        return values * F.gelu(gates)


class SiLULinear(nn.Module):
    """Linear and SiLU: half the work of GEGLU at the same inner width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(..., inputs) => (..., outputs)."""
        return F.silu(self.proj(features))


FEED_FORWARDS = {"geglu": GEGLU, "silu": SiLULinear}


class FeedForward(nn.Module):
    """Two linear layers with an inner width of ``multiple`` times the outer one."""

    def __init__(self, channels: int, kind: str, multiple: int, dropout: float) -> None:
        super().__init__()
        inner = channels * multiple
        self.net = nn.Sequential(FEED_FORWARDS[kind](channels, inner), nn.Dropout(dropout), nn.Linear(inner, channels))

    def forward(self, features: Tensor) -> Tensor:
        """(B, N, C) => (B, N, C)."""
        return self.net(features)


class TransformerBlock(nn.Module):
    """Self-attention, attention to the tokens, feed-forward, each with a layer norm in front and a skip connection.

    ``tokens`` is the width of the tokens; 0 makes the second attention self-attention, as the original has it.
    """

    def __init__(
        self, channels: int, *, tokens: int, heads: int, dropout: float, feed_forward: str, feed_forward_multiple: int
    ) -> None:
        super().__init__()
        self.attn1 = Attention(channels, channels, heads, dropout)
        self.ff = FeedForward(channels, feed_forward, feed_forward_multiple, dropout)
        self.attn2 = Attention(channels, tokens or channels, heads, dropout)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def keys_values(self, tokens: Tensor) -> KeysValues:
        """Tokens (B, M, D) => K and V, each (B, H, M, d)."""
        return self.attn2.keys_values(tokens)

    def forward(self, features: Tensor, keys_values: KeysValues | None, bias: Tensor | None) -> Tensor:
        """(B, N, C) => (B, N, C)."""
        features = features + self.attn1(self.norm1(features))
        features = features + self.attn2(self.norm2(features), keys_values, bias)
        return features + self.ff(self.norm3(features))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of the grid, beside a skip connection (Rombach et al. 2022, E.2.1).

    ``projection`` says as what its first and last layer are stored, ``"convolution"`` of 1x1 or ``"linear"`` (Stable
    Diffusion 2 and XL): it is the same function.
    ``index`` is its place among those of the network, which sets it.
    """

    index: int

    def __init__(
        self,
        channels: int,
        *,
        depth: int,
        projection: str,
        norm: str,
        tokens: int,
        heads: int,
        dropout: float,
        feed_forward: str,
        feed_forward_multiple: int,
    ) -> None:
        super().__init__()
        self.norm = Norm(norm, channels, eps=1e-6)
        axes = {"convolution": 2, "linear": 0}[projection]
        self.proj_in = Pointwise(channels, channels, axes)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(
                channels,
                tokens=tokens,
                heads=heads,
                dropout=dropout,
                feed_forward=feed_forward,
                feed_forward_multiple=feed_forward_multiple,
            )
            for _ in range(depth)
        )
        self.proj_out = zeroed(Pointwise(channels, channels, axes))

    def keys_values(self, tokens: Tensor | None) -> list[KeysValues | None]:
        """Tokens (B, M, D) => K and V for each block; without tokens None for each."""
        blocks = [block for block in self.transformer_blocks if isinstance(block, TransformerBlock)]
        return [None if tokens is None else block.keys_values(tokens) for block in blocks]

    def forward(self, features: Tensor, keys_values: Sequence[KeysValues | None], bias: Tensor | None) -> Tensor:
        """(B, C, h, w) => (B, C, h, w); ``keys_values`` has one entry for each block."""
        hidden = self.proj_in(self.norm(features).permute(0, 2, 3, 1).flatten(1, 2))
        for block, told in zip(self.transformer_blocks, keys_values, strict=True):
            hidden = block(hidden, told, bias)
        return features + self.proj_out(hidden).unflatten(1, features.shape[2:]).permute(0, 3, 1, 2)

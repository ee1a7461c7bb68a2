"""The block of MMDiT (Esser et al. 2024, figure 2b): patches and tokens, each with weights of their own, attend as one.

Legend: B batch, N patches, M tokens, D width, H heads, d width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ldmkit_denoisers.attention import HeadNorm, KeysValues, attend, split_heads
from ldmkit_denoisers.dit_block import DiTBlock, Modulation, modulate


class JointBlock(nn.Module):
    """Two DiT blocks, of the patches and of the tokens, with one attention over both sequences."""

    def __init__(self, width: int, *, heads: int, multiple: int, qk_norm: bool) -> None:
        super().__init__()
        self.image = DiTBlock(width, heads=heads, multiple=multiple, qk_norm=qk_norm)
        self.tokens = DiTBlock(width, heads=heads, multiple=multiple, qk_norm=qk_norm)

    def forward(
        self, features: Tensor, tokens: Tensor, condition: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Features (B, N, D), tokens (B, M, D) and the condition (B, D) => features and tokens.

        ``bias`` (B, 1, 1, M + N) is added to the scores of the tokens and features, in this order.
        """
        told, tokens_gate, *tokens_after = self.tokens.modulated(tokens, condition)
        seen, gate, *after = self.image.modulated(features, condition)
        q = torch.cat([self.tokens.attention.queries(told), self.image.attention.queries(seen)], dim=2)
        k, v = joined(self.tokens.attention.keys_values(told), self.image.attention.keys_values(seen))
        from_tokens, from_image = attend(q, k, v, bias).split([tokens.shape[1], features.shape[1]], dim=2)
        features = features + gate * self.image.attention.out(from_image)
        tokens = tokens + tokens_gate * self.tokens.attention.out(from_tokens)
        return self.image.fed_forward(features, *after), self.tokens.fed_forward(tokens, *tokens_after)


class LastJointBlock(nn.Module):
    """As :class:`JointBlock`, but nothing comes after it that would hear the tokens: they have K and V alone."""

    def __init__(self, width: int, *, heads: int, multiple: int, qk_norm: bool) -> None:
        super().__init__()
        self.image = DiTBlock(width, heads=heads, multiple=multiple, qk_norm=qk_norm)
        self.tokens = LastTokens(width, heads=heads, qk_norm=qk_norm)

    def forward(
        self, features: Tensor, tokens: Tensor, condition: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`JointBlock.forward`; the tokens come back as they were."""
        seen, gate, *after = self.image.modulated(features, condition)
        k, v = joined(self.tokens.keys_values(tokens, condition), self.image.attention.keys_values(seen))
        features = features + gate * self.image.attention.out(attend(self.image.attention.queries(seen), k, v, bias))
        return self.image.fed_forward(features, *after), tokens


class LastTokens(nn.Module):
    """K and V of tokens, behind a norm that the condition modulates."""

    def __init__(self, width: int, *, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = Modulation(width, 2)
        self.to_k, self.to_v = nn.Linear(width, width), nn.Linear(width, width)
        self.norm_k = HeadNorm(width // heads) if qk_norm else nn.Identity()

    def keys_values(self, tokens: Tensor, condition: Tensor) -> KeysValues:
        """Tokens (B, M, D) and the condition (B, D) => K and V, each (B, H, M, d)."""
        tokens = modulate(tokens, *self.modulation(condition))
        return self.norm_k(split_heads(self.to_k(tokens), self.heads)), split_heads(self.to_v(tokens), self.heads)


def joined(tokens: KeysValues, features: KeysValues) -> KeysValues:
    """K and V of the tokens, then those of the features: each (B, H, M + N, d)."""
    return torch.cat([tokens[0], features[0]], dim=2), torch.cat([tokens[1], features[1]], dim=2)

"""The transformer that reads text and layouts. Parameters have the names of the files of Rombach et al. 2022.

Legend: B batch, M tokens, D width, H heads, d width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention over the real tokens; its inner width H * d does not depend on the width D."""

    def __init__(self, width: int, heads: int, head_channels: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_channels
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        self.to_out = nn.Linear(inner, width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, M, D), of which ``mask`` (B, 1, 1, M) names the real ones, at least one a row => (B, M, D)."""
        q, k, v = (
            project(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        if q.device.type == "cpu" and q.requires_grad:
            # The backward of torch's fused attention is far slower than this on so few tokens.
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            attended = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.to_out(attended.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Linear to four times the width, GELU, linear back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The empty place in the middle keeps the second layer's number in the original files.
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU()), nn.Identity(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.net(tokens)


class Positions(nn.Module):
    """Learned absolute positions."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(length, width)

    def forward(self, length: int) -> Tensor:
        """The first ``length`` of them: (M, D)."""
        return self.emb.weight[:length]


class Layers(nn.Module):
    """``depth`` times attention and feed-forward, each behind a LayerNorm and beside a residual connection."""

    def __init__(self, width: int, depth: int, heads: int, head_channels: int) -> None:
        super().__init__()
        branches = [
            branch for _ in range(depth) for branch in (Attention(width, heads, head_channels), FeedForward(width))
        ]
        self.layers = nn.ModuleList(nn.ModuleList([nn.LayerNorm(width), branch]) for branch in branches)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            norm, branch = layer.children()
            tokens = tokens + branch(norm(tokens), mask)
        return tokens


class TokenTransformer(nn.Module):
    """Pre-norm encoder of Rombach et al. 2022, appendix E.2.1 and table 17, without its unused vocabulary head."""

    def __init__(self, *, vocabulary: int, length: int, width: int, depth: int, heads: int, head_channels: int) -> None:
        super().__init__()
        self.token_emb = nn.Embedding(vocabulary, width)
        self.pos_emb = Positions(length, width)
        self.attn_layers = Layers(width, depth, heads, head_channels)
        self.norm = nn.LayerNorm(width)
        # Begun near zero, words that look alike at first (triangle and cross, seen as "not round") are drawn to one
        # point by the first gradients and stay there; begun far apart they remain different words.
        nn.init.normal_(self.token_emb.weight, std=1.0)
        nn.init.normal_(self.pos_emb.emb.weight, std=0.02)

    def forward(self, pieces: Tensor, mask: Tensor) -> Tensor:
        """Numbers of pieces (B, M), real where ``mask`` (B, M) is True => (B, M, D); pads neither give nor take."""
        tokens = self.token_emb(pieces) + self.pos_emb(pieces.shape[1])
        tokens = self.norm(self.attn_layers(tokens, mask[:, None, None]))
        return tokens * mask.unsqueeze(-1)

"""Encoder and decoder of the convolutional autoencoders (Rombach et al. 2022, section 3.1 and appendix G).

Legend: B batch, C image channels, H W pixels, h w latent grid, p patch. Parameter names are those of the CompVis
checkpoints, so that published weights load with no renaming: ``down.0`` and ``up.0`` are the highest resolution.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ldmkit_first_stages.blocks import Downsample, ResidualBlock, SelfAttention, Upsample, normalization
from ldmkit_first_stages.layout import Layout


class Level(nn.Module):
    """``blocks`` residual blocks at one resolution, each followed by attention where the level has it.

    At its end a level may halve the resolution (encoder) or double it (decoder).
    """

    def __init__(
        self, layout: Layout, level: int, *, channels: int, blocks: int, halve: bool = False, double: bool = False
    ) -> None:
        super().__init__()
        width = layout.widths[level]
        inputs = [channels] + [width] * (blocks - 1)
        self.block = nn.ModuleList(
            ResidualBlock(each, width, norm=layout.norm, dropout=layout.dropout) for each in inputs
        )
        self.attn = nn.ModuleList(
            SelfAttention(width, norm=layout.norm) if layout.attention[level] else nn.Identity() for _ in inputs
        )
        self.downsample = Downsample(width) if halve else nn.Identity()
        self.upsample = Upsample(width) if double else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        for block, attn in zip(self.block, self.attn, strict=True):
            features = attn(block(features))
        return self.upsample(self.downsample(features))


class Middle(nn.Module):
    """Residual block, attention where the layout has it, residual block, at the lowest resolution."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        width = layout.widths[-1]
        self.block_1 = ResidualBlock(width, width, norm=layout.norm, dropout=layout.dropout)
        attends = layout.middle == "attention"
        self.attn_1 = SelfAttention(width, norm=layout.norm) if attends else nn.Identity()
        self.block_2 = ResidualBlock(width, width, norm=layout.norm, dropout=layout.dropout)

    def forward(self, features: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(features)))


def middle(layout: Layout) -> nn.Module:
    """The middle of ``layout``; the identity where it has none."""
    return nn.Identity() if layout.middle == "none" else Middle(layout)


class Encoder(nn.Module):
    """Images (B, C, H, W) => features (B, ``out_channels``, h, w), with ``blocks`` residual blocks a level."""

    def __init__(self, layout: Layout, *, channels: int, out_channels: int, blocks: int) -> None:
        super().__init__()
        self.patch = layout.patch
        self.conv_in = nn.Conv2d(channels * layout.patch**2, layout.widths[0], 3, padding=1)
        last = len(layout.widths) - 1
        self.down = nn.ModuleList(
            Level(layout, level, channels=layout.widths[max(level - 1, 0)], blocks=blocks, halve=level < last)
            for level in range(last + 1)
        )
        self.mid = middle(layout)
        self.norm_out = normalization(layout.norm, layout.widths[-1])
        self.conv_out = nn.Conv2d(layout.widths[-1], out_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        # pixels (B, C, H, W) => patches (B, C p^2, H / p, W / p)
        features = self.conv_in(_fold(images, self.patch))
        for level in self.down:
            features = level(features)
        return self.conv_out(F.silu(self.norm_out(self.mid(features))))


class Decoder(nn.Module):
    """Latents (B, ``z_channels``, h, w) => images (B, C, H, W), with ``blocks`` residual blocks a level."""

    def __init__(self, layout: Layout, *, channels: int, z_channels: int, blocks: int) -> None:
        super().__init__()
        self.patch = layout.patch
        self.conv_in = nn.Conv2d(z_channels, layout.widths[-1], 3, padding=1)
        self.mid = middle(layout)
        last = len(layout.widths) - 1
        self.up = nn.ModuleList(
            Level(layout, level, channels=layout.widths[min(level + 1, last)], blocks=blocks, double=level > 0)
            for level in range(last + 1)
        )
        self.norm_out = normalization(layout.norm, layout.widths[0])
        self.conv_out = nn.Conv2d(layout.widths[0], channels * layout.patch**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        features = self.mid(self.conv_in(latents))
        for level in reversed(self.up):
            features = level(features)
        # patches (B, C p^2, H / p, W / p) => pixels (B, C, H, W)
        return _unfold(self.conv_out(F.silu(self.norm_out(features))), self.patch)


def _fold(images: Tensor, p: int) -> Tensor:
    """Space to depth, as torch's pixel_unshuffle, which leaves a batch without rows as it is."""
    return rearrange(images, "b c (h p) (w q) -> b (c p q) h w", p=p, q=p)


def _unfold(patches: Tensor, p: int) -> Tensor:
    """Depth to space, the inverse of :func:`_fold`."""
    return rearrange(patches, "b (c p q) h w -> b c (h p) (w q)", p=p, q=p)

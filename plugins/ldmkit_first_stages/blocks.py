"""The blocks of the convolutional autoencoder (Esser et al. 2021, "Taming transformers", appendix A, table 7).

Legend: B batch, C channels, H W feature map. Parameter names are those of the CompVis checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32
EPSILON = 1e-6


def at_least_fp32(values: Tensor) -> Tensor:
    """Raise half precision to fp32, for sums and exponentials; fp32 and fp64 pass as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class GroupNorm(nn.GroupNorm):
    """32 groups, eps 1e-6; computed in fp32 at least, returned in the type of its input."""

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels, eps=EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        exact = at_least_fp32(features)
        weight, bias = self.weight.to(exact.dtype), self.bias.to(exact.dtype)
        return F.group_norm(exact, self.num_groups, weight, bias, self.eps).to(features.dtype)


def normalization(kind: str, channels: int) -> nn.Module:
    """``"group"`` or ``"none"``; the second has no parameters."""
    return GroupNorm(channels) if kind == "group" else nn.Identity()


def branch_end(convolution: nn.Conv2d, norm: str) -> nn.Conv2d:
    """Without normalisation, let a residual branch begin at zero, so that depth does not scale the features."""
    if norm == "none":
        for parameter in convolution.parameters():
            nn.init.zeros_(parameter)
    return convolution


class ResidualBlock(nn.Module):
    """(B, C, H, W) => (B, D, H, W): norm, SiLU, conv, norm, SiLU, dropout, conv; a 1x1 shortcut where C != D."""

    def __init__(self, channels: int, out_channels: int, *, norm: str, dropout: float) -> None:
        super().__init__()
        self.norm1 = normalization(norm, channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = normalization(norm, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = branch_end(nn.Conv2d(out_channels, out_channels, 3, padding=1), norm)
        self.nin_shortcut = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(features)))
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden))))
        return self.nin_shortcut(features) + hidden


class SelfAttention(nn.Module):
    """Single-head attention over all positions, with 1x1 convolutions: (B, C, H, W) => the same."""

    def __init__(self, channels: int, *, norm: str) -> None:
        super().__init__()
        self.norm = normalization(norm, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = branch_end(nn.Conv2d(channels, channels, 1), norm)

    def forward(self, features: Tensor) -> Tensor:
        normed = self.norm(features)
        q, k, v = (project(normed).flatten(2).mT.unsqueeze(1) for project in (self.q, self.k, self.v))  # (B, 1, HW, C)
        attended = F.scaled_dot_product_attention(q, k, v)  # the scale is C ** -0.5
        return features + self.proj_out(attended.squeeze(1).mT.unflatten(2, features.shape[2:]))


class Downsample(nn.Module):
    """(B, C, H, W) => (B, C, H / 2, W / 2): one row and column of zeros at the bottom and right, stride-2 conv."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(F.pad(features, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """(B, C, H, W) => (B, C, 2H, 2W): nearest neighbour, then a conv."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(F.interpolate(features, scale_factor=2.0, mode="nearest"))

"""Between latents and a sequence of patches: B batch, c channels, h w latent grid, p patch size, N patches, D width."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EdgeConvolution(nn.Module):
    """A convolution with which a network begins or ends.

    It is no ``nn.Conv2d``: Muon, which is for hidden weights, takes those of such layers, and leaves this one to AdamW.
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        bound = 1 / math.sqrt(inputs * size**2)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, size, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, h, w) => (B, outputs, h', w')."""
        return F.conv2d(features, self.weight, self.bias, self.stride, self.padding)


class FromPatches(nn.Module):
    """Linear from the features of each patch to its pixels of the latent grid. As an edge, it is AdamW's."""

    def __init__(self, width: int, channels: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        outputs, bound = patch_size**2 * channels, 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(outputs, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Tensor, rows: int, columns: int) -> Tensor:
        """(B, rows * columns, D) => (B, c, rows * p, columns * p); a patch is ordered row, column, channel."""
        size = self.patch_size
        patches = F.linear(features, self.weight, self.bias).unflatten(2, (size, size, -1))
        grid = patches.unflatten(1, (rows, columns))  # (B, rows, columns, p, p, c)
        return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def to_sequence(features: Tensor) -> Tensor:
    """(B, D, rows, columns) => (B, rows * columns, D), row by row."""
    return features.flatten(2).transpose(1, 2)

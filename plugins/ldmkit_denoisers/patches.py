"""Between latents and a sequence of patches: B batch, c channels, h w latent grid, p patch size, N patches, D width."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit.specs import LatentSpec
from ldmkit_denoisers.prepared import with_map


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


def embed_patches(
    embed: EdgeConvolution, z: Tensor, map: Tensor | None, *, latent: LatentSpec, denoiser: str
) -> Tensor:
    """Noisy latents (B, c, h, w) and their map (B, K, h, w) => embedded patches (B, D, h / p, w / p).

    Raises ConfigError as :func:`with_map` does.
    """
    remedy = "change image_size or denoiser.patch_size"
    return embed(with_map(z, map, latent=latent, multiple=embed.stride, denoiser=denoiser, remedy=remedy))


def to_sequence(grid: Tensor) -> Tensor:
    """(B, D, rows, columns) => (B, rows * columns, D), row by row."""
    return grid.flatten(2).transpose(1, 2)


def to_latents(patches: Tensor, rows: int, columns: int, size: int) -> Tensor:
    """(B, rows * columns, p * p * c) => (B, c, rows * p, columns * p), p = ``size``.

    A patch is ordered by row, column, channel.
    """
    grid = patches.unflatten(2, (size, size, -1)).unflatten(1, (rows, columns))  # (B, rows, columns, p, p, c)
    return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

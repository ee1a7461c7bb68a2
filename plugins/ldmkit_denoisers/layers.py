"""Layers that every block is made of."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit.errors import ConfigError

GROUPS = 32

Layer = TypeVar("Layer", bound=nn.Module)


def zeroed(layer: Layer) -> Layer:
    """Set every parameter of ``layer`` to zero, so that the branch it ends begins as no change at all."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def xavier(layer: nn.Linear) -> None:
    """Xavier-uniform weights and a bias of zero, as in ViT (Dosovitskiy et al. 2021)."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Norm(nn.Module):
    """Normalisation of (B, C, h, w), computed in fp32 whatever the type of the features.

    ``kind`` is ``"group"``, 32 groups of channels over all positions (Wu and He 2018), or ``"layer"``, all channels of
    each position (Ba et al. 2016). Both have the same parameters.
    """

    def __init__(self, kind: str, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        if kind == "group" and channels % GROUPS:
            raise ConfigError(
                f"denoiser 'unet' got a level of {channels} channels but norm=group expected a multiple of {GROUPS};"
                " change channels or multipliers, or set norm to layer"
            )
        self.kind = kind
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) => (B, C, h, w)."""
        if self.kind == "group":
            return F.group_norm(features, GROUPS, self.weight, self.bias, self.eps)
        rows = features.permute(0, 2, 3, 1)
        return F.layer_norm(rows, self.weight.shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class Pointwise(nn.Module):
    """A 1x1 convolution over ``axes`` spatial axes, applied to features that have their channels last: (..., C).

    The weight has the shape that it has in the original checkpoints: (out, in, 1, 1), (out, in, 1), or, where they have
    a linear layer, (out, in).
    """

    def __init__(self, inputs: int, outputs: int, axes: int = 2) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *[1] * axes).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        """(..., in) => (..., out)."""
        return F.linear(features, self.weight.flatten(1), self.bias)

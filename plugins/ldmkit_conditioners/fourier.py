"""A number as a vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Fourier(nn.Module):
    """Numbers in about 0..1 => vectors of ``width``: cos and sin of them at ``frequencies``, then a linear map.

    Frequencies are pi times powers of 2 from 1/2 to 2^6.
    """

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(-1, 7), persistent=False)
        self.linear = nn.Linear(2 * len(self.frequencies), width)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.linear.weight.device

    def forward(self, numbers: Tensor) -> Tensor:
        """(B,) => (B, width)."""
        angles = numbers.to(self.frequencies)[:, None] * self.frequencies
        out: Tensor = self.linear(torch.cat([angles.cos(), angles.sin()], dim=1))
        return out

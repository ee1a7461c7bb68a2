"""The sinusoidal embedding of the time that the network is told."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def time_embedding(t: Tensor, width: int, period: float = 10_000.0) -> Tensor:
    """Times (B,) => [cos | sin] of t * period^(-i / half), i = 0 .. half - 1, half = width / 2: fp32 (B, width).

    Ho et al. 2020, after Vaswani et al. 2017. ``width`` must be even.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(period) / half))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)

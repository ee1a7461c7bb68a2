"""Numbers as waves: networks read a number far better from its sines and cosines than from itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def fourier_features(values: Tensor, frequencies: Tensor) -> Tensor:
    """Values (...) => cosines, then sines, of ``frequencies`` (F,) cycles per unit: (..., 2F).

    Vaswani et al. 2017, section 3.5; Tancik et al. 2020, equation 5.
    """
    angles = 2 * math.pi * values.unsqueeze(-1) * frequencies.to(values.device)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)

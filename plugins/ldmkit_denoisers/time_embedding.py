"""The time that the network is told, as a sinusoidal embedding, and the vector that is added to it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ldmkit.errors import ConfigError


def time_embedding(t: Tensor, width: int, period: float = 10_000.0) -> Tensor:
    """Times (B,) => [cos | sin] of t * period^(-i / half), i = 0 .. half - 1, half = width / 2: fp32 (B, width).

    Ho et al. 2020, after Vaswani et al. 2017. ``width`` must be even.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(period) / half))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def vector_embedding(kind: str, inputs: int, width: int) -> nn.Module:
    """What makes a vector (B, ``inputs``) one (B, ``width``) that is added to the embedded time.

    ``kind`` is ``"mlp"``, two linear layers as in Stable Diffusion XL, or ``"add"``, the vector as it is, as ADM has
    its classes. Raises ConfigError where the latter does not fit.
    """
    if kind == "mlp":
        return nn.Sequential(nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width)))
    if inputs != width:
        raise ConfigError(
            f"denoiser 'unet' got a vector of width {inputs} but vector_embedding=add expected {width}, 4 times"
            " channels; let the conditioners yield that width, or set vector_embedding to mlp"
        )
    return nn.Identity()

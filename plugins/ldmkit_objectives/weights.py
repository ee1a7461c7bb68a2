"""How much the error at each noise level counts.

The published weights are weights on the error of eps. An objective whose network predicts something else hands over
how far eps moves with its prediction, so that one weight is the same loss in every parameterisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ldmkit.registry.ranges import above
from ldmkit.values import Levels

WAVES = 32
"""Numbers in the learned log-variance."""


@dataclass(frozen=True, kw_only=True)
class WeightConfig:
    """Keys of ``objective.weight``; the comments in the option files say what they do."""

    kind: Literal["uniform", "min-snr", "p2", "learned"]
    clip: float
    exponent: float

    def __post_init__(self) -> None:
        above(0, clip=self.clip, exponent=self.exponent)


class Weight(nn.Module):
    """Weighs the error of each row by its noise level.

    - ``uniform``: what the network predicts counts the same at every level.
    - ``min-snr``: min(SNR, clip) / SNR on the error of eps, Hang et al. 2023, "Efficient diffusion training via min-SNR
      weighting strategy", where ``clip`` is gamma; the same as min(SNR, clip) on the error of x0 and, in
      variance-preserving processes, min(SNR, clip) / (SNR + 1) on that of v.
    - ``p2``: 1 / (k + SNR)^exponent on the error of eps with k = 1, Choi et al. 2022, "Perception prioritized training
      of diffusion models", where ``exponent`` is gamma.
    - ``learned``: error / exp(u) + u, Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion
      models", on uncertainty-based weighting. u, which follows the logarithm of the error, is here a sum of cosines
      over the noise level whose coefficients are trained with the denoiser, from 0 on.
    """

    def __init__(self, config: WeightConfig) -> None:
        super().__init__()
        self.config = config
        if config.kind == "learned":
            self.coefficients = nn.Parameter(torch.zeros(WAVES))

    def forward(self, error: Tensor, level: Levels, eps_per_raw: Tensor) -> Tensor:
        """Errors (B,) of predictions at ``level`` (B,) => losses (B,).

        ``eps_per_raw`` (B,) is the derivative of the estimate of eps by the network's output.
        """
        if self.config.kind == "uniform":
            return error
        if self.config.kind == "learned":
            u = self.log_variance(level)
            return error / u.exp() + u
        snr = (level.alpha / level.sigma).square()
        if self.config.kind == "min-snr":
            weight = (self.config.clip / snr).clamp(max=1)  # finite at SNR = 0
        else:
            weight = (1 + snr).pow(-self.config.exponent)
        return error * weight * eps_per_raw.square()

    def log_variance(self, level: Levels) -> Tensor:
        """u at ``level`` (B,): (B,)."""
        angle = 2 * torch.atan2(level.sigma, level.alpha)  # 0 without noise, pi without signal
        waves = torch.arange(WAVES, device=angle.device)
        return (self.coefficients * torch.cos(waves * angle[:, None]) / math.sqrt(WAVES)).sum(1)

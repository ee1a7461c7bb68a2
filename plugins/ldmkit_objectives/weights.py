"""How much the error at each noise level counts.

The published weights are weights on the error of eps. An objective whose network predicts something else hands over
how far eps moves with its prediction, so that one weight is the same loss in every parameterisation.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ldmkit.values import Levels

Kind = Literal["uniform", "min-snr", "p2", "learned"]

WAVES = 32
"""Numbers in the learned log-variance."""


class Weight(nn.Module):
    """Weighs the error of each row by its noise level.

    - ``uniform``: what the network predicts counts the same at every level.
    - ``min-snr``: min(SNR, gamma) / SNR on the error of eps, Hang et al. 2023, "Efficient diffusion training via
      min-SNR weighting strategy"; the same as min(SNR, gamma) on the error of x0 and, in variance-preserving
      processes, min(SNR, gamma) / (SNR + 1) on that of v.
    - ``p2``: 1 / (k + SNR)^gamma on the error of eps with k = 1, Choi et al. 2022, "Perception prioritized training of
      diffusion models".
    - ``learned``: error / exp(u) + u, Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion
      models", on uncertainty-based weighting. u, which follows the logarithm of the error, is here a sum of cosines
      over the noise level whose coefficients are trained with the denoiser, from 0 on.
    """

    def __init__(self, kind: Kind, *, min_snr_gamma: float, p2_gamma: float) -> None:
        super().__init__()
        self.kind, self.min_snr_gamma, self.p2_gamma = kind, min_snr_gamma, p2_gamma
        if kind == "learned":
            self.coefficients = nn.Parameter(torch.zeros(WAVES))

    def forward(self, error: Tensor, level: Levels, eps_per_raw: Tensor) -> Tensor:
        """Errors (B,) of predictions at ``level`` (B,) => losses (B,).

        ``eps_per_raw`` (B,) is the derivative of the estimate of eps by the network's output.
        """
        snr = (level.alpha / level.sigma).square()
        match self.kind:
            case "uniform":
                return error
            case "learned":
                u = self.log_variance(level)
                return error / u.exp() + u
            case "min-snr":
                weight = (self.min_snr_gamma / snr).clamp(max=1)  # finite at SNR = 0
            case "p2":
                weight = (1 + snr).pow(-self.p2_gamma)
        return error * weight * eps_per_raw.square()

    def log_variance(self, level: Levels) -> Tensor:
        """u at ``level`` (B,): (B,)."""
        angle = 2 * torch.atan2(level.sigma, level.alpha)  # 0 without noise, pi without signal
        waves = torch.arange(WAVES, device=angle.device)
        return (self.coefficients * torch.cos(waves * angle[:, None]) / math.sqrt(WAVES)).sum(1)

"""DPM-Solver++(2M)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, Sampler
from ldmkit.registry.ranges import at_least
from ldmkit.values import Levels


class DPMpp2M(Sampler):
    """Lu et al. 2022, "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", algorithm 2.

    Deterministic, second order, one evaluation a step. The first and the last step are of first order: one has no
    estimate before it, the other may end at sigma = 0, infinitely far away in log-SNR.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=dpmpp-2m``."""

        name: str
        steps: int

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)

    def __init__(self, config: Config) -> None:
        self.steps = config.steps

    def sample(self, denoise: Denoise, noise: Tensor, levels: Levels, random: RowRandom) -> Tensor:
        alpha, sigma = levels.alpha, levels.sigma
        h = (levels.log_snr / 2).diff()  # lambda = log(alpha / sigma)
        z = alpha[0].hypot(sigma[0]) * noise  # z_T of data of unit variance
        before = noise
        for i in range(len(h)):
            x0 = denoise(z, levels[i])
            direction = x0
            if 0 < i < len(h) - 1:
                r = h[i - 1] / h[i]
                direction = x0 + (x0 - before) / (2 * r)
            z = sigma[i + 1] / sigma[i] * z - alpha[i + 1] * torch.expm1(-h[i]) * direction
            before = x0
        return z

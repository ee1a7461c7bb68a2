"""DPM-Solver++(2M)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels


class DPMpp2M(Sampler):
    """Lu et al. 2022, "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2M.

    One evaluation a step. The first step is of first order, having no estimate before it, and so is one that ends at
    sigma = 0, infinitely far away in log-SNR.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=dpmpp-2m``."""

        name: str
        steps: int
        spacing: Spacing

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)

    order = 2

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        alpha, sigma = levels.alpha, levels.sigma
        h = (levels.log_snr / 2).diff()  # lambda = log(alpha / sigma)
        before = z
        for i in range(len(h)):
            x0 = denoise(z, levels[i])
            on_step(i, levels[i], z, x0)
            direction = x0
            if i > 0 and h[i].isfinite():
                r = h[i - 1] / h[i]
                direction = x0 + (x0 - before) / (2 * r)
            z = sigma[i + 1] / sigma[i] * z - alpha[i + 1] * torch.expm1(-h[i]) * direction
            before = x0
        return z

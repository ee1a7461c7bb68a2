"""DPM-Solver++(3M)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels

CURVATURE = 2.0
"""The second derivative is this many times the second divided difference. Published code has 1, and so order 2."""


class DPMpp3M(Sampler):
    """DPM-Solver++ of third order, multistep: Lu et al. 2022, "DPM-Solver++", the expansion with k = 3.

    x0 is a parabola in log-SNR through the last three estimates; its integral is exact. One evaluation a step. The
    first step is of first, the second of second order; so is from alpha = 0 one step more. A step that ends at
    sigma = 0, infinitely far away in log-SNR, is of first order.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=dpmpp-3m``."""

        name: str
        steps: int
        spacing: Spacing

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)

    order = 3

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        exact = levels.double()
        alpha, sigma = exact.alpha, exact.sigma
        h = (exact.log_snr / 2).diff()  # lambda = log(alpha / sigma)
        history: list[Tensor] = []
        for i in range(len(h)):
            x0 = denoise(z, levels[i])
            on_step(i, levels[i], z, x0)
            history = [x0, *history[:2]]
            z = sigma[i + 1] / sigma[i] * z - alpha[i + 1] * torch.expm1(-h[i]) * x0
            if i > 0 and h[i].isfinite():
                phi_2 = torch.expm1(-h[i]) / h[i] + 1
                r0 = h[i - 1] / h[i]
                slope = (x0 - history[1]) / r0
                if i > 1:
                    r1 = h[i - 2] / h[i]
                    change = (slope - (history[1] - history[2]) / r1) / (r0 + r1)
                    slope = slope + r0 * change
                    z = z - alpha[i + 1] * (phi_2 / h[i] - 0.5) * CURVATURE * change
                z = z + alpha[i + 1] * phi_2 * slope
        return z

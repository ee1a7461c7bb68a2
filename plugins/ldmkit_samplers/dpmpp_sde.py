"""SDE-DPM-Solver++(2M)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels


class DPMppSDE(Sampler):
    """Lu et al. 2022, "DPM-Solver++": its SDE-DPM-Solver++(2M), for the diffusion SDE.

    Fresh noise at each step, one evaluation each. The first step is of first order, having no estimate before it, and
    so is one that ends at sigma = 0, infinitely far away in log-SNR; from alpha = 0 all noise is fresh.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=dpmpp-sde``."""

        name: str
        steps: int
        spacing: Spacing

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        exact = levels.double()
        alpha, sigma = exact.alpha, exact.sigma
        h = (exact.log_snr / 2).diff()  # lambda = log(alpha / sigma)
        before = z
        for i in range(len(h)):
            x0 = denoise(z, levels[i])
            on_step(i, levels[i], z, x0)
            direction = x0
            if i > 0 and h[i].isfinite():
                direction = x0 + (x0 - before) / (2 * h[i - 1] / h[i])
            forgotten = -torch.expm1(-2 * h[i])  # 1 - e^(-2h)
            z = sigma[i + 1] / sigma[i] * torch.exp(-h[i]) * z + alpha[i + 1] * forgotten * direction
            if sigma[i + 1] > 0:
                fresh = random.normal(f"dpmpp-sde-{i}", z.shape[1:], device=z.device, dtype=z.dtype)
                z = z + sigma[i + 1] * forgotten.sqrt() * fresh
            before = x0
        return z

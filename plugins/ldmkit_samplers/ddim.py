"""Denoising diffusion implicit models."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import Spacing
from ldmkit.values import Levels


class DDIM(Sampler):
    """Song et al. 2021, "Denoising diffusion implicit models", eq. 12 and 16.

    ``eta`` 0 is a deterministic walk of first order; 1 is ancestral sampling, the DDPM of Ho et al. 2020. Written with
    signal-to-noise ratios, eq. 16 holds for levels of any kind, not for alpha^2 + sigma^2 = 1 alone.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=ddim``."""

        name: str
        steps: int
        spacing: Spacing
        eta: float

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)
            between(0, 1, eta=self.eta)

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing
        self.eta = config.eta
        self.order = 1 if config.eta == 0 else None

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        alpha, sigma = levels.alpha, levels.sigma
        for i in range(len(levels) - 1):
            x0 = denoise(z, levels[i])
            on_step(i, levels[i], z, x0)
            eps = (z - alpha[i] * x0) / sigma[i]
            snr_ratio = (alpha[i] * sigma[i + 1] / (alpha[i + 1] * sigma[i])).square()
            fresh = self.eta * sigma[i + 1] * (1 - snr_ratio).sqrt()  # eq. 16
            z = alpha[i + 1] * x0 + (sigma[i + 1].square() - fresh.square()).sqrt() * eps  # eq. 12
            if self.eta > 0:
                z = z + fresh * random.normal(f"ddim-{i}", z.shape[1:], device=z.device, dtype=z.dtype)
        return z

"""Denoising diffusion probabilistic models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels


class DDPM(Sampler):
    """Ho et al. 2020, "Denoising diffusion probabilistic models", algorithm 2, with levels of any kind.

    z_s is drawn from q(z_s | z_t, x0), eq. 6 and 7, here in the form of Kingma et al. 2021, "Variational diffusion
    models", which holds for any alpha and sigma. ``variance``: ``small`` is that of q, optimal for data that are one
    point, and the same walk as DDIM with eta = 1; ``large`` is that of q(z_t | z_s), optimal for data N(0, I).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=ddpm``."""

        name: str
        steps: int
        spacing: Spacing
        variance: Literal["small", "large"]

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing
        self.variance = config.variance

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        alpha, sigma = levels.alpha.double(), levels.sigma.double()
        for i in range(len(levels) - 1):
            x0 = denoise(z, levels[i])
            on_step(i, levels[i], z, x0)
            alpha_ts = alpha[i] / alpha[i + 1]
            beta = sigma[i].square() - (alpha_ts * sigma[i + 1]).square()  # the variance of q(z_t | z_s)
            kept = (sigma[i + 1] / sigma[i]).square()
            z = alpha_ts * kept * z + alpha[i + 1] * beta / sigma[i].square() * x0
            if sigma[i + 1] > 0:
                variance = beta * kept if self.variance == "small" else beta
                z = z + variance.sqrt() * random.normal(f"ddpm-{i}", z.shape[1:], device=z.device, dtype=z.dtype)
        return z

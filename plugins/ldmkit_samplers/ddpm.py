"""Denoising diffusion probabilistic models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError
from ldmkit.protocols import Denoise, DenoiseWithVariance, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels


class DDPM(Sampler):
    """Ho et al. 2020, "Denoising diffusion probabilistic models", algorithm 2, with levels of any kind.

    z_s is drawn from q(z_s | z_t, x0), eq. 6 and 7, here in the form of Kingma et al. 2021, "Variational diffusion
    models", which holds for any alpha and sigma. ``variance``: ``small`` is that of q, optimal for data that are one
    point, and the same walk as DDIM with eta = 1; ``large`` is that of q(z_t | z_s), optimal for data N(0, I).
    ``learned`` lies between these two, in the logarithm, where the network says so (Nichol and Dhariwal 2021, "Improved
    denoising diffusion probabilistic models"); it takes a second evaluation a step.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=ddpm``."""

        name: str
        steps: int
        spacing: Spacing
        variance: Literal["small", "large", "learned"]

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing
        self.variance = config.variance
        self.learned_variance = config.variance == "learned"

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1 if self.learned_variance else steps  # the last step adds no noise

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
            mean = alpha_ts * kept * z + alpha[i + 1] * beta / sigma[i].square() * x0
            if sigma[i + 1] == 0:
                return mean
            variance = beta * kept ** (1 - self.share(denoise, z, levels[i]))
            fresh = random.normal(f"ddpm-{i}", z.shape[1:], device=z.device, dtype=z.dtype)
            z = mean + variance.sqrt() * fresh
        return z

    def share(self, denoise: Denoise, z: Tensor, level: Levels) -> Tensor | float:
        """How far the logarithm of the variance is on the way from small, 0, to large, 1."""
        if self.variance != "learned":
            return {"small": 0.0, "large": 1.0}[self.variance]
        if not isinstance(denoise, DenoiseWithVariance):
            raise ConfigError("sampler 'ddpm' with variance=learned got a denoise that knows no variance")
        return denoise.variance(z, level)

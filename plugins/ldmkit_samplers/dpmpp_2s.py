"""DPM-Solver++(2S)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels


class DPMpp2S(Sampler):
    """Lu et al. 2022, "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2S.

    Two evaluations a step, the second halfway in log-SNR (r = 1/2). A step that begins at alpha = 0 or ends at
    sigma = 0, infinitely far away in log-SNR, is of first order and takes one.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=dpmpp-2s``."""

        name: str
        steps: int
        spacing: Spacing

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)

    order = 2

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        exact = levels.double()
        alpha, sigma, lam = exact.alpha, exact.sigma, exact.log_snr / 2
        h = lam.diff()
        middle = levels.at(lam[:-1] + lam[1:])
        for i in range(len(h)):
            x0 = denoise(z, levels[i])
            on_step(i, levels[i], z, x0)
            if h[i].isfinite():
                s = middle[i]
                u = s.sigma / sigma[i] * z - s.alpha * torch.expm1(-h[i] / 2) * x0
                x0 = denoise(u, s)
            z = sigma[i + 1] / sigma[i] * z - alpha[i + 1] * torch.expm1(-h[i]) * x0
        return z

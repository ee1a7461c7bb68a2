"""Pseudo linear multistep."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of the estimates of eps, the newest first, by how many there are."""


class PLMS(Sampler):
    """Liu et al. 2022, "Pseudo numerical methods for diffusion models on manifolds", as in the code of Rombach et al.

    A linear multistep method of fourth order finds eps, their transfer (DDIM) carries z along it. A step of improved
    Euler begins, so that one evaluation more is made than steps. In a walk whose levels are not evenly spaced in
    sigma / alpha, the order is 2. From alpha = 0 the first step is of first order.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=plms``."""

        name: str
        steps: int
        spacing: Spacing

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)

    order = 2

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing

    def evaluations(self, steps: int) -> int:
        return steps + 1 if steps > 1 else 1

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        alpha, sigma = levels.alpha.double(), levels.sigma.double()
        history: list[Tensor] = []
        for i in range(len(levels) - 1):
            x0 = denoise(z, levels[i])
            on_step(i, levels[i], z, x0)
            eps = (z - alpha[i] * x0) / sigma[i]
            history = [eps, *history[:3]]
            if i == 0 and alpha[0] > 0 and sigma[1] > 0:
                ahead = alpha[1] * x0 + sigma[1] * eps
                eps = (eps + (ahead - alpha[1] * denoise(ahead, levels[1])) / sigma[1]) / 2
            elif i > 0:
                weights = ADAMS_BASHFORTH[len(history) - 1]
                eps = torch.stack([weight * each for weight, each in zip(weights, history, strict=True)]).sum(0)
            if alpha[i] > 0:
                x0 = (z - sigma[i] * eps) / alpha[i]
            z = alpha[i + 1] * x0 + sigma[i + 1] * eps
        return z

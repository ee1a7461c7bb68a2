"""The second-order sampler of EDM."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import above, at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels


class Heun(Sampler):
    """Karras et al. 2022, "Elucidating the design space of diffusion-based generative models", algorithm 2.

    Two evaluations a step, but for steps that begin at alpha = 0 or end at sigma = 0, which take Euler's. ``churn``
    adds fresh noise before a step, as much as raises the noise level sigma / alpha by at most ``churn`` / steps.
    A step is a straight line in sigma / alpha, so that levels next to no signal, where that is huge, want many steps.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=heun``."""

        name: str
        steps: int
        spacing: Spacing
        churn: float
        churn_from: float
        churn_to: float
        churn_noise: float

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)
            at_least(0, churn=self.churn, churn_from=self.churn_from)
            at_least(self.churn_from, churn_to=self.churn_to)
            above(0, churn_noise=self.churn_noise)

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing
        self.config = config
        self.order = 2 if config.churn == 0 else None

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        for i in range(len(levels) - 1):
            level, end = levels[i], levels[i + 1].double()
            if gamma := self.gamma(level, len(levels) - 1):
                level = levels.at(level.log_snr - 2 * math.log1p(gamma))
                added = ((level.sigma / level.alpha).square() - (levels.sigma[i] / levels.alpha[i]).square()).sqrt()
                fresh = random.normal(f"heun-{i}", z.shape[1:], device=z.device, dtype=z.dtype)
                z = level.alpha * (z / levels.alpha[i] + added * self.config.churn_noise * fresh)
            x0 = denoise(z, level)
            on_step(i, level, z, x0)
            eps = (z - level.alpha * x0) / level.sigma  # the slope of z / alpha over sigma / alpha
            z = end.alpha * x0 + end.sigma * eps
            if level.alpha > 0 and end.sigma > 0:
                slope = (z - end.alpha * denoise(z, levels[i + 1])) / end.sigma
                z = z + (end.sigma - level.sigma / level.alpha * end.alpha) * (slope - eps) / 2
        return z

    def gamma(self, level: Levels, steps: int) -> float:
        """By what part the noise level is raised before a step of ``steps`` from ``level``; 0 from alpha = 0."""
        noise = float(level.sigma / level.alpha)
        inside = self.config.churn_from <= noise <= self.config.churn_to
        return min(self.config.churn / steps, math.sqrt(2) - 1) if inside and math.isfinite(noise) else 0.0

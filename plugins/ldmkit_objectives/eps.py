"""Predict the noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Objective
from ldmkit.specs import Spacing
from ldmkit.values import Levels
from ldmkit_objectives.distance import Norm, distance
from ldmkit_objectives.schedules import Schedule, ScheduleConfig
from ldmkit_objectives.times import Times, TimesConfig


class Eps(Objective):
    """The network predicts eps; every noise level weighs the same.

    Ho et al. 2020, "Denoising diffusion probabilistic models", eq. 14; Rombach et al. 2022, eq. 1. The estimate of
    z0 divides by alpha, so it is not finite where alpha is 0.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``objective=eps``."""

        name: str
        schedule: ScheduleConfig
        times: TimesConfig
        norm: Norm

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.schedule = Schedule(config.schedule)
        self.times = Times(config.times)
        self.distance = distance(config.norm)

    def levels(self, steps: int, spacing: Spacing = "trailing") -> Levels:
        return self.schedule.levels(steps, spacing)

    def training_levels(self, random: RowRandom) -> Levels:
        return self.schedule.at(self.times.draw(random, self.schedule.alpha.device))

    def denoiser_to_x0(self, raw: Tensor, z_t: Tensor, level: Levels) -> Tensor:
        """x0 = (z_t - sigma eps) / alpha. Ho et al. 2020, eq. 15."""
        level = level.beside(z_t)
        return (z_t - level.sigma * raw) / level.alpha

    def loss(
        self, denoiser: Callable[[Tensor, Tensor, Any], Tensor], z0: Tensor, conditioning: Any, random: RowRandom
    ) -> Tensor:
        level = self.training_levels(random)
        eps = random.normal("noise", z0.shape[1:], device=z0.device)
        z_t = self.add_noise(z0, eps, level)
        return self.distance(denoiser(z_t, level.t, conditioning), eps)

"""Predict the velocity."""

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


class V(Objective):
    """The network predicts v = alpha eps - sigma z0; every noise level weighs the same.

    Salimans and Ho 2022, "Progressive distillation for fast sampling of diffusion models", section 4 and appendix D.
    Finite at every level, alpha = 0 among them.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``objective=v``."""

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
        """x0 = (alpha z_t - sigma v) / (alpha^2 + sigma^2); the divisor is 1 but for rounding."""
        level = level.beside(z_t)
        return (level.alpha * z_t - level.sigma * raw) / (level.alpha.square() + level.sigma.square())

    def loss(
        self, denoiser: Callable[[Tensor, Tensor, Any], Tensor], z0: Tensor, conditioning: Any, random: RowRandom
    ) -> Tensor:
        level = self.training_levels(random)
        eps = random.normal("noise", z0.shape[1:], device=z0.device)
        z_t = self.add_noise(z0, eps, level)
        v = self.add_noise(eps, -z0, level)
        return self.distance(denoiser(z_t, level.t, conditioning), v)

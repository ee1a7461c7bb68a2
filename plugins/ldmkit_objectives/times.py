"""Which noise levels training meets how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.registry.ranges import above, finite
from ldmkit.values import Levels
from ldmkit_objectives.schedules import Schedule

TAIL = 2.0**-24
"""What is cut off at either end of a distribution that has none: the step in which random numbers are uniform."""


@dataclass(frozen=True, kw_only=True)
class TimesConfig:
    """Keys of ``objective.times``; the comments in the option files say what they do."""

    distribution: Literal["uniform", "logit-normal", "log-normal", "laplace"]
    stratified: bool
    mean: float
    std: float

    def __post_init__(self) -> None:
        finite(mean=self.mean)
        above(0, std=self.std)


class Times:
    """Random noise levels of a schedule: by their place in it, or by log(sigma / alpha) wherever that is in it."""

    def __init__(self, config: TimesConfig) -> None:
        self.config = config

    def draw(self, random: RowRandom, schedule: Schedule) -> Levels:
        """One level for each row: (B,).

        Stratified, row i of B falls into the i-th of B equal shares of probability, which lowers the variance of the
        batch's loss (the aim of Kingma et al. 2021, appendix I.1); a row's level then depends on its place in it.
        """
        mean, std = self.config.mean, self.config.std
        quantile = self.quantiles(random, schedule.alpha.device)
        match self.config.distribution:
            case "uniform":
                return schedule.at(quantile)
            case "logit-normal":
                # Esser et al. 2024, section 3.1: logit(t) ~ N(mean, std^2).
                return schedule.at(torch.sigmoid(mean + std * torch.special.ndtri(quantile)))
            case "log-normal":
                # Karras et al. 2022, table 1: ln(sigma) ~ N(P_mean, P_std^2).
                return schedule.at_log_snr(-2 * (mean + std * torch.special.ndtri(quantile.clamp(TAIL, 1 - TAIL))))
            case "laplace":
                # Hang et al. 2024, table 1, with mu = -mean and b = std: log-SNR ~ Laplace(mu, b).
                from_middle = 0.5 - quantile.clamp(TAIL, 1 - TAIL)
                distance = -torch.log(1 - 2 * from_middle.abs())
                return schedule.at_log_snr(-mean + std * from_middle.sign() * distance)

    def quantiles(self, random: RowRandom, device: torch.device | str = "cpu") -> Tensor:
        """Shares of probability in [0, 1), one for each row, 1 being the most noise: float32 (B,)."""
        quantile = random.uniform("time", device=device)
        if self.config.stratified:
            quantile = (torch.arange(len(random), device=device) + quantile) / len(random)
        return quantile

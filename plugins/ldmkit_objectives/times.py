"""Which noise levels training meets how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.registry.ranges import above, finite


@dataclass(frozen=True, kw_only=True)
class TimesConfig:
    """Keys of ``objective.times``; the comments in the option files say what they do."""

    distribution: Literal["logit-normal", "uniform"]
    stratified: bool
    mean: float
    std: float

    def __post_init__(self) -> None:
        finite(mean=self.mean)
        above(0, std=self.std)


class Times:
    """Random times in [0, 1], 1 being the most noise."""

    def __init__(self, config: TimesConfig) -> None:
        self.config = config

    def draw(self, random: RowRandom, device: torch.device | str = "cpu") -> Tensor:
        """One time for each row: float32 (B,).

        Stratified, row i of B falls into the i-th of B equal shares of probability, which lowers the variance of the
        batch's loss (the aim of Kingma et al. 2021, appendix I.1); a row's time then depends on its place in the batch.
        """
        quantile = random.uniform("time", device=device)
        if self.config.stratified:
            quantile = (torch.arange(len(random), device=device) + quantile) / len(random)
        if self.config.distribution == "uniform":
            return quantile
        # Esser et al. 2024, section 3.1: logit(t) ~ N(mean, std^2).
        return torch.sigmoid(self.config.mean + self.config.std * torch.special.ndtri(quantile))

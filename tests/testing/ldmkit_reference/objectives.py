"""An objective whose network predicts z0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.spacing import spaced
from ldmkit.protocols import Objective
from ldmkit.specs import Spacing
from ldmkit.values import Levels


class X0(Objective):
    """The network predicts ``scale`` times z0; alpha = cos and sigma = sin of an angle that falls evenly."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        scale: float

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.scale = config.scale

    def levels(self, steps: int, spacing: Spacing = "trailing") -> Levels:
        return spaced(self.at(torch.arange(1, 1001, dtype=torch.float64) / 1000), steps, spacing)

    def training_levels(self, random: RowRandom) -> Levels:
        return self.at(random.uniform("time").double())

    def at(self, time: Tensor) -> Levels:
        angle = 1.57 * time
        return Levels(angle.cos().float(), angle.sin().float(), (1000 * time).float())

    def denoiser_to_x0(self, raw: Tensor, z_t: Tensor, level: Levels) -> Tensor:
        return raw / self.scale

    def loss(
        self, denoiser: Callable[[Tensor, Tensor, Any], Tensor], z0: Tensor, conditioning: Any, random: RowRandom
    ) -> Tensor:
        level = self.training_levels(random)
        z_t = self.add_noise(z0, random.normal("noise", z0.shape[1:]), level)
        return (denoiser(z_t, level.t, conditioning) - self.scale * z0).square().flatten(1).mean(1)

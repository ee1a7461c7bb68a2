"""Noise schedules: alpha_t and sigma_t of a variance-preserving process in T training steps.

abar_t is the product of (1 - beta_s) over s <= t; alpha_t = sqrt(abar_t), sigma_t = sqrt(1 - abar_t).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ldmkit.diffusion.spacing import spaced
from ldmkit.registry.ranges import at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Keys of ``objective.schedule``; the comments in the option files say what they do."""

    kind: Literal["cosine", "linear"]
    steps: int
    start: float
    end: float

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        if self.kind == "linear" and not 0 < self.start <= self.end:
            raise ValueError(f"start is {self.start} but must be more than 0 and at most end, {self.end}")
        if self.kind == "linear" and self.end >= 1:
            raise ValueError(f"end is {self.end} but must be below 1")


def linear(config: ScheduleConfig) -> Tensor:
    """Betas on a straight line in sqrt(beta), the "linear" of Rombach et al. 2022: float64 (T,)."""
    return torch.linspace(config.start**0.5, config.end**0.5, config.steps, dtype=torch.float64).square()


def cosine(config: ScheduleConfig) -> Tensor:
    """Betas of Nichol and Dhariwal 2021, eq. 17, with s = 0.008 and beta capped at 0.999: float64 (T,)."""
    time = torch.arange(config.steps + 1, dtype=torch.float64) / config.steps
    f = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


BETAS: dict[str, Callable[[ScheduleConfig], Tensor]] = {"cosine": cosine, "linear": linear}


class Schedule(nn.Module):
    """The T noise levels of training, and levels to sample at. The tables ``alpha`` and ``sigma`` are float32 (T,)."""

    alpha: Tensor
    sigma: Tensor

    def __init__(self, config: ScheduleConfig) -> None:
        super().__init__()
        abar = torch.cumprod(1 - BETAS[config.kind](config), 0)
        self.register_buffer("alpha", abar.sqrt().float(), persistent=False)
        self.register_buffer("sigma", (1 - abar).sqrt().float(), persistent=False)

    def __len__(self) -> int:
        return len(self.alpha)

    def at(self, time: Tensor) -> Levels:
        """Levels at ``time`` (B,) in [0, 1], of which each training step owns an equal share."""
        index = (time * len(self)).long().clamp(0, len(self) - 1)
        return Levels(self.alpha[index], self.sigma[index], index.to(self.alpha.dtype))

    def levels(self, steps: int, spacing: Spacing = "trailing") -> Levels:
        """Levels to sample at: see :func:`ldmkit.diffusion.spacing.spaced`."""
        return spaced(Levels(self.alpha, self.sigma, torch.arange(len(self)).to(self.alpha)), steps, spacing)

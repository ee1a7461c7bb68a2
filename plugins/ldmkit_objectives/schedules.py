"""Noise schedules: alpha_t and sigma_t of a variance-preserving process in T training steps.

alpha_t = sqrt(abar_t), sigma_t = sqrt(1 - abar_t), where ``ldmkit_objectives.signal`` has the abar_t of every kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ldmkit.diffusion.spacing import spaced
from ldmkit.registry.ranges import above, at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels
from ldmkit_objectives import signal

OF_BETAS = ("cosine", "linear", "linear-beta")
"""Kinds that know whole steps only."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Keys of ``objective.schedule``; the comments in the option files say what they do."""

    kind: Literal["cosine", "edm", "flow", "linear", "linear-beta", "sigmoid"]
    steps: int
    start: float
    end: float
    tau: float
    shift: float
    zero_terminal_snr: bool

    def __post_init__(self) -> None:
        at_least(2, steps=self.steps)
        if self.kind in {"linear", "linear-beta"}:
            if not 0 < self.start <= self.end:
                raise ValueError(f"start is {self.start} but must be more than 0 and at most end, {self.end}")
            if self.end >= 1:
                raise ValueError(f"end is {self.end} but must be below 1")
        above(0, tau=self.tau, shift=self.shift)

    @property
    def ends_without_signal(self) -> bool:
        """Whether alpha is 0 at the last training step."""
        return self.zero_terminal_snr or self.kind == "flow"


def abar_of(config: ScheduleConfig) -> Tensor:
    """abar_t of every training step: float64 (T,)."""
    time = torch.arange(1, config.steps + 1, dtype=torch.float64) / config.steps
    match config.kind:
        case "cosine":
            abar = torch.cumprod(1 - signal.cosine(config.steps), 0)
        case "linear":
            abar = torch.cumprod(1 - signal.linear(config.steps, config.start, config.end), 0)
        case "linear-beta":
            abar = torch.cumprod(1 - signal.linear_beta(config.steps, config.start, config.end), 0)
        case "flow":
            abar = signal.flow(time)
        case "edm":
            abar = signal.edm(time)
        case "sigmoid":
            abar = signal.sigmoid(time, config.tau)
    if config.zero_terminal_snr:
        abar = signal.zero_terminal(abar)
    return abar if config.shift == 1 else signal.shifted(abar, config.shift)


class Schedule(nn.Module):
    """The T noise levels of training, and levels to sample at. The tables ``alpha`` and ``sigma`` are float32 (T,)."""

    alpha: Tensor
    sigma: Tensor

    def __init__(self, config: ScheduleConfig) -> None:
        super().__init__()
        self.whole_steps, self.shift = config.kind in OF_BETAS, config.shift
        abar = abar_of(config)
        self.register_buffer("alpha", abar.sqrt().float(), persistent=False)
        self.register_buffer("sigma", (1 - abar).sqrt().float(), persistent=False)

    def __len__(self) -> int:
        return len(self.alpha)

    def at(self, time: Tensor) -> Levels:
        """Levels at ``time`` (B,) in [0, 1]. Of schedules of betas each training step owns an equal share of it."""
        if not self.whole_steps:
            return self.step(time * len(self) - 1)
        index = (time * len(self)).long().clamp(0, len(self) - 1)
        return Levels(self.alpha[index], self.sigma[index], index.to(self.alpha.dtype))

    def at_log_snr(self, log_snr: Tensor) -> Levels:
        """Levels of any ``log_snr`` (B,), as it is before the shift; told as the nearest time beyond the ends."""
        log_snr = log_snr - 2 * math.log(self.shift)
        alpha, sigma = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
        angle, angles = torch.atan2(sigma, alpha), torch.atan2(self.sigma, self.alpha)
        high = torch.searchsorted(angles, angle).clamp(1, len(self) - 1)
        low = high - 1
        part = ((angle - angles[low]) / (angles[high] - angles[low]).clamp_min(1e-12)).clamp(0, 1)
        return Levels(alpha, sigma, low + part)

    def step(self, t: Tensor) -> Levels:
        """Levels at training step ``t`` (B,), clipped to [0, T - 1]; between two steps, on the chord of both."""
        t = t.to(self.alpha).clamp(0, len(self) - 1)
        low, high = t.floor().long(), t.ceil().long()
        alpha = torch.lerp(self.alpha[low], self.alpha[high], t.frac())
        sigma = torch.lerp(self.sigma[low], self.sigma[high], t.frac())
        length = alpha.hypot(sigma)
        return Levels(alpha / length, sigma / length, t)

    @property
    def table(self) -> Levels:
        """All T levels, from least noise to most."""
        return Levels(self.alpha, self.sigma, torch.arange(len(self)).to(self.alpha))

    def levels(self, steps: int, spacing: Spacing = "trailing") -> Levels:
        """Levels to sample at: see :func:`ldmkit.diffusion.spacing.spaced`."""
        return spaced(self.table, steps, spacing)

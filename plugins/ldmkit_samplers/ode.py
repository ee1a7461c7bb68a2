"""Adaptive solvers of ordinary differential equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import above, at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels


class ODE(Sampler):
    """The probability-flow ODE of Song et al. 2021, "Score-based generative modeling", by torchdiffeq.

    Solved from level to level in lambda = log(alpha / sigma), in which y = z / sqrt(alpha^2 + sigma^2) moves by
    dy / dlambda = cos (x0 - cos y), cos being alpha / sqrt(alpha^2 + sigma^2). A step that begins at alpha = 0 or ends
    at sigma = 0, infinitely far away in lambda, is DDIM's. The size of steps depends on the error in the whole batch,
    so that a picture is the same alone and in a batch within the tolerances only.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=ode``."""

        name: str
        steps: int
        spacing: Spacing
        method: Literal["dopri5", "bosh3", "dopri8", "adaptive_heun"]
        rtol: float
        atol: float

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)
            above(0, rtol=self.rtol, atol=self.atol)

    def __init__(self, config: Config) -> None:
        if find_spec("torchdiffeq") is None:
            raise ConfigError("sampler 'ode' needs the package torchdiffeq; type pip install 'ldmkit[ode]'")
        self.steps, self.spacing = config.steps, config.spacing
        self.config = config

    def evaluations(self, steps: int) -> None:
        return None

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        from torchdiffeq import odeint

        lam = levels.double().log_snr / 2
        for i in range(len(levels) - 1):
            level, end = levels[i], levels[i + 1]
            x0 = denoise(z, level)
            on_step(i, level, z, x0)
            if lam[i : i + 2].isfinite().all() and len(z):
                times = lam[i : i + 2].to(z.device, z.dtype)
                rtol, atol, method = self.config.rtol, self.config.atol, self.config.method
                y = odeint(slope(denoise, levels), z / level.scale, times, rtol=rtol, atol=atol, method=method)[1]
                z = end.scale * y
            else:
                z = end.alpha * x0 + end.sigma / level.sigma * (z - level.alpha * x0)
        return z


def slope(denoise: Denoise, levels: Levels) -> Callable[[Tensor, Tensor], Tensor]:
    """dy / dlambda as a function of lambda and y."""

    def of(lam: Tensor, y: Tensor) -> Tensor:
        level = levels.at(2 * lam.cpu())
        cos = level.alpha / level.scale
        return cos * (denoise(level.scale * y, level) - cos * y)

    return of

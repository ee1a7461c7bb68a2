"""Adaptive solvers of ordinary differential equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import above, at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels


class ODE(Sampler):
    """The probability-flow ODE of Song et al. 2021, "Score-based generative modeling", section 4.3, by torchdiffeq.

    Solved from level to level in the angle phi = atan(sigma / alpha), in which it is finite at both ends: for
    y = z / sqrt(alpha^2 + sigma^2), dy / dphi = cos(phi) eps - sin(phi) x0. The step to sigma = 0 is DDIM's. The size
    of steps depends on the error in the whole batch, so that a picture is the same alone and in a batch within the
    tolerances only.
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

        phi = torch.atan2(levels.sigma.double(), levels.alpha.double())
        for i in range(len(levels) - 1):
            level, end = levels[i], levels[i + 1]
            x0 = denoise(z, level)
            on_step(i, level, z, x0)
            if end.sigma == 0 or not len(z):
                z = end.alpha * x0 + end.sigma / level.sigma * (z - level.alpha * x0)
                continue
            y = odeint(
                velocity(denoise, levels),
                z / level.scale,
                phi[i : i + 2].to(z.device, z.dtype),
                rtol=self.config.rtol,
                atol=self.config.atol,
                method=self.config.method,
            )
            z = end.scale * y[1]
        return z


def velocity(denoise: Denoise, levels: Levels) -> Callable[[Tensor, Tensor], Tensor]:
    """dy / dphi as a function of phi and y."""

    def of(phi: Tensor, y: Tensor) -> Tensor:
        cos, sin = phi.cpu().double().cos(), phi.cpu().double().sin()
        level = levels.at(2 * (cos / sin).log())
        x0 = denoise(level.scale * y, level)
        return cos / sin * (y - cos * x0) - sin * x0

    return of

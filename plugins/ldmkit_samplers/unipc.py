"""UniPC."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import Spacing
from ldmkit.values import Levels

Point = tuple[Tensor, Tensor]
"""lambda and the estimate of x0 there."""


class UniPC(Sampler):
    """Zhao et al. 2023, "UniPC: a unified predictor-corrector framework", with B(h) = e^h - 1.

    UniP predicts z with the last ``predictor`` estimates of x0; the estimate at the predicted z then corrects it
    (UniC) at no further evaluation, which raises the order by one. A step that begins at alpha = 0 or
    ends at sigma = 0, infinitely far away in log-SNR, is of first order and not corrected.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=unipc``."""

        name: str
        steps: int
        spacing: Spacing
        predictor: int

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)
            between(1, 3, predictor=self.predictor)

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing
        self.predictor = config.predictor
        self.order = config.predictor + 1

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        exact = levels.double()
        lam = exact.log_snr / 2
        points: list[Point] = []
        before = z
        for i in range(len(levels) - 1):
            x0 = denoise(z, levels[i])
            if i > 0 and lam[i - 1].isfinite():
                z = advance(before, exact[i - 1 : i + 1], points[0], [*points[1:], (lam[i], x0)])
            on_step(i, levels[i], z, x0)
            points = [(lam[i], x0), *(point for point in points if point[0].isfinite())][: self.predictor]
            others = points[1:] if lam[i + 1].isfinite() else []
            before, z = z, advance(z, exact[i : i + 2], points[0], others)
        return z


def advance(z: Tensor, ends: Levels, newest: Point, others: list[Point]) -> Tensor:
    """One step over ``ends`` (2,) from z: with ``others`` all behind it UniP, with one at its end UniC."""
    lam, x0 = newest
    h = (ends.log_snr / 2).diff().squeeze()
    b = torch.expm1(-h)
    direction = x0
    if others:
        r = torch.stack([(other - lam) / h for other, _ in others])
        differences = [(estimate - x0) / each for each, (_, estimate) in zip(r, others, strict=True)]
        direction = x0 + sum(weight * each for weight, each in zip(weights(r, h), differences, strict=True))
    return ends.sigma[1] / ends.sigma[0] * z - ends.alpha[1] * b * direction


def weights(r: Tensor, h: Tensor) -> Tensor:
    """a of theorem 3.1 at the places ``r`` (p,) of a step of length h, solved from its linear system: (p,).

    For p = 1, where any h gives the order, it is 1/2.
    """
    if len(r) == 1:
        return torch.full_like(r, 0.5)
    b = torch.expm1(-h)
    phi, factorial, right = b / -h - 1, 1, []
    for k in range(1, len(r) + 1):
        right.append(phi * factorial / b)
        factorial *= k + 1
        phi = phi / -h - 1 / factorial
    powers = torch.stack([r**k for k in range(len(r))])
    return torch.linalg.solve(powers, torch.stack(right))

"""Diffusion exponential integrator sampler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import Spacing
from ldmkit.values import Levels

PLACES, WEIGHTS = np.polynomial.legendre.leggauss(24)
"""Gauss-Legendre quadrature on [-1, 1]."""


class DEIS(Sampler):
    """Zhang and Chen 2023, "Fast sampling of diffusion models with exponential integrator".

    eps is a polynomial in log(sigma / alpha) through its last ``estimates`` values, and integrated over sigma / alpha.
    One evaluation a step. The first steps are of lower order. A step that begins at alpha = 0 or ends at sigma = 0,
    infinitely far away in log-SNR, is of first order.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``sampler=deis``."""

        name: str
        steps: int
        spacing: Spacing
        estimates: int

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)
            between(1, 4, estimates=self.estimates)

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing
        self.estimates = self.order = config.estimates

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        exact = levels.double()
        alpha, sigma, lam = exact.alpha, exact.sigma, exact.log_snr / 2
        history: list[tuple[float, Tensor]] = []
        for i in range(len(levels) - 1):
            x0 = denoise(z, levels[i])
            on_step(i, levels[i], z, x0)
            eps = (z - alpha[i] * x0) / sigma[i]
            if (lam[i + 1] - lam[i]).isfinite():
                history = [(float(lam[i]), eps), *history][: self.estimates]
                weights = coefficients(np.array([place for place, _ in history]), float(lam[i + 1]))
                z = alpha[i + 1] / alpha[i] * z
                for weight, (_, each) in zip(weights, history, strict=True):
                    z = z + alpha[i + 1] * weight * each
            else:
                z = alpha[i + 1] * x0 + sigma[i + 1] * eps
        return z


def coefficients(places: np.ndarray, end: float) -> list[float]:
    """Eq. 15: integrals over sigma / alpha = exp(-lambda), from the first of ``places`` to ``end``, of the polynomials
    in lambda that are 1 at one place and 0 at the others.
    """
    lam = places[0] + (end - places[0]) * (PLACES + 1) / 2
    measure = -np.exp(-lam) * WEIGHTS * (end - places[0]) / 2
    integrals = []
    for j, place in enumerate(places):
        others = np.delete(places, j)
        integrals.append(float((np.prod((lam[:, None] - others) / (place - others), axis=1) * measure).sum()))
    return integrals

"""Predict the direction of the straight line from data to noise."""

from __future__ import annotations

from torch import Tensor

from ldmkit.values import Levels
from ldmkit_objectives.diffusion import Diffusion


class Flow(Diffusion):
    """Rectified flow: z_t = (1 - u) z0 + u eps, and the network predicts dz/du = eps - z0.

    Liu et al. 2022, "Flow straight and fast", eq. 1; Lipman et al. 2023, "Flow matching for generative modeling", with
    sigma_min = 0. Times and the shift by resolution: Esser et al. 2024, "Scaling rectified flow transformers",
    section 3.1 and eq. 23. Finite at every level, alpha = 0 among them.
    """

    def scaled(self, level: Levels) -> Levels:
        """Levels of unit variance => levels with alpha + sigma = 1."""
        total = level.alpha + level.sigma
        return Levels(level.alpha / total, level.sigma / total, level.t)

    def target(self, z0: Tensor, eps: Tensor, level: Levels) -> Tensor:
        return eps - z0

    def to_x0(self, prediction: Tensor, z_t: Tensor, level: Levels) -> Tensor:
        """x0 = (z_t - sigma (eps - z0)) / (alpha + sigma)."""
        return (z_t - level.sigma * prediction) / (level.alpha + level.sigma)

    def eps_per_raw(self, level: Levels) -> Tensor:
        """eps = (z_t + alpha (eps - z0)) / (alpha + sigma)."""
        return level.alpha / (level.alpha + level.sigma)

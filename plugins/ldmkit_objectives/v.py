"""Predict the velocity."""

from __future__ import annotations

from torch import Tensor

from ldmkit.values import Levels
from ldmkit_objectives.diffusion import Diffusion


class V(Diffusion):
    """The network predicts v = alpha eps - sigma z0.

    Salimans and Ho 2022, "Progressive distillation for fast sampling of diffusion models", section 4 and appendix D.
    Finite at every level, alpha = 0 among them. The divisor alpha^2 + sigma^2 is 1 but for rounding.
    """

    def target(self, z0: Tensor, eps: Tensor, level: Levels) -> Tensor:
        return level.alpha * eps + level.sigma * -z0

    def to_x0(self, prediction: Tensor, z_t: Tensor, level: Levels) -> Tensor:
        """x0 = (alpha z_t - sigma v) / (alpha^2 + sigma^2)."""
        return (level.alpha * z_t - level.sigma * prediction) / (level.alpha.square() + level.sigma.square())

    def eps_per_raw(self, level: Levels) -> Tensor:
        """eps = (sigma z_t + alpha v) / (alpha^2 + sigma^2)."""
        return level.alpha / (level.alpha.square() + level.sigma.square())

"""Predict the clean latent."""

from __future__ import annotations

from torch import Tensor

from ldmkit.values import Levels
from ldmkit_objectives.diffusion import Diffusion


class X0(Diffusion):
    """The network predicts z0. Ho et al. 2020, section 3.2; Salimans and Ho 2022, section 4.

    Finite at every level, and nearly without loss where there is little noise.
    """

    def target(self, z0: Tensor, eps: Tensor, level: Levels) -> Tensor:
        return z0

    def to_x0(self, prediction: Tensor, z_t: Tensor, level: Levels) -> Tensor:
        return prediction

    def eps_per_raw(self, level: Levels) -> Tensor:
        """eps = (z_t - alpha x0) / sigma."""
        return -level.alpha / level.sigma

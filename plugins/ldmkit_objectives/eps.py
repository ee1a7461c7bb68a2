"""Predict the noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.values import Levels
from ldmkit_objectives.diffusion import Diffusion


class Eps(Diffusion):
    """The network predicts eps.

    Ho et al. 2020, "Denoising diffusion probabilistic models", eq. 14; Rombach et al. 2022, eq. 1. The estimate of
    z0 divides by alpha, so schedules that end at alpha = 0 are refused.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Diffusion.Config):
        """Keys of ``objective=eps``."""

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.schedule.ends_without_signal:
                value = "zero_terminal_snr is true" if self.schedule.zero_terminal_snr else "kind is flow"
                raise ValueError(
                    f"schedule.{value}, so it ends without signal, where eps says nothing about the latent; "
                    "type objective=v"
                )

    def target(self, z0: Tensor, eps: Tensor, level: Levels) -> Tensor:
        return eps

    def to_x0(self, prediction: Tensor, z_t: Tensor, level: Levels) -> Tensor:
        """x0 = (z_t - sigma eps) / alpha. Ho et al. 2020, eq. 15."""
        return (z_t - level.sigma * prediction) / level.alpha

    def eps_per_raw(self, level: Levels) -> Tensor:
        return torch.ones_like(level.alpha)

"""Predict what preconditioning leaves to the network."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ldmkit.registry.ranges import above
from ldmkit.values import Levels
from ldmkit_objectives.diffusion import Diffusion


class EDM(Diffusion):
    """The network F is preconditioned: D(x; s) = c_skip x + c_out F(c_in x), x = y + s n.

    Karras et al. 2022, "Elucidating the design space of diffusion-based generative models", eq. 7 and table 1:

        c_skip = sd^2 / (s^2 + sd^2)    c_out = s sd / sqrt(s^2 + sd^2)
        c_in = 1 / sqrt(s^2 + sd^2)     lambda = 1 / c_out^2

    with s the noise level and sd = ``sigma_data``, and y = sd z0, our latents being of unit variance. Then c_in x is
    z_t of the variance-preserving process with sigma / alpha = s / sd, so the network is given z_t as it is; D / sd is
    alpha z_t + sigma F; and lambda makes the loss the squared error of F, the same at every level. The time told is
    not ln(s) / 4 but the training step, as with every schedule.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Diffusion.Config):
        """Keys of ``objective=edm``."""

        sigma_data: float

        def __post_init__(self) -> None:
            super().__post_init__()
            above(0, sigma_data=self.sigma_data)

    def __init__(self, config: Config) -> None:
        schedule = replace(config.schedule, shift=config.schedule.shift / config.sigma_data)  # s => s / sd
        super().__init__(replace(config, schedule=schedule))

    def target(self, z0: Tensor, eps: Tensor, level: Levels) -> Tensor:
        """F = (y - c_skip x) / c_out. Karras et al. 2022, eq. 8."""
        return level.sigma * z0 - level.alpha * eps

    def to_x0(self, prediction: Tensor, z_t: Tensor, level: Levels) -> Tensor:
        """D / sd; the divisor alpha^2 + sigma^2 is 1 but for rounding."""
        return (level.alpha * z_t + level.sigma * prediction) / (level.alpha.square() + level.sigma.square())

    def eps_per_raw(self, level: Levels) -> Tensor:
        """eps = (sigma z_t - alpha F) / (alpha^2 + sigma^2)."""
        return -level.alpha / (level.alpha.square() + level.sigma.square())

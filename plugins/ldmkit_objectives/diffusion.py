"""What all objectives of this package have in common: everything but what the network predicts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.spacing import spaced
from ldmkit.errors import ConfigError
from ldmkit.protocols import Objective
from ldmkit.registry.ranges import above, at_least
from ldmkit.specs import Spacing
from ldmkit.values import Levels
from ldmkit_objectives.distance import Norm, distance
from ldmkit_objectives.schedules import Schedule, ScheduleConfig
from ldmkit_objectives.times import Times, TimesConfig
from ldmkit_objectives.variance import share, step_kl
from ldmkit_objectives.weights import Kind, Weight

VLB_WEIGHT = 0.001
"""Weight of the variational bound in the hybrid loss (Nichol and Dhariwal 2021, section 3.1)."""


class Diffusion(Objective):
    """Noise levels, weights and the loss; a subclass states its parameterisation, which is three equations.

    With ``variance`` ``"learned"`` the network gives a second number for each number of a latent, and the bound on the
    likelihood trains it: L_hybrid of Nichol and Dhariwal 2021, eq. 16.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys that every objective of this package has; the comments in the option files say what they do."""

        name: str
        schedule: ScheduleConfig
        times: TimesConfig
        weight: Kind
        min_snr_gamma: float
        p2_gamma: float
        norm: Norm
        offset_noise: float
        variance: Literal["fixed", "learned"]

        def __post_init__(self) -> None:
            above(0, min_snr_gamma=self.min_snr_gamma, p2_gamma=self.p2_gamma)
            at_least(0, offset_noise=self.offset_noise)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.schedule = Schedule(config.schedule)
        self.times = Times(config.times)
        self.weight = Weight(config.weight, min_snr_gamma=config.min_snr_gamma, p2_gamma=config.p2_gamma)
        self.distance = distance(config.norm)
        self.offset_noise = config.offset_noise
        self.learned_variance = config.variance == "learned"
        self.predictions = 2 if self.learned_variance else 1

    @abstractmethod
    def target(self, z0: Tensor, eps: Tensor, level: Levels) -> Tensor:
        """What the network should say: (B, c, h, w). ``level`` broadcasts against ``z0``."""

    @abstractmethod
    def to_x0(self, prediction: Tensor, z_t: Tensor, level: Levels) -> Tensor:
        """The estimate of z0 that follows from a ``prediction``; ``level`` broadcasts against it."""

    @abstractmethod
    def eps_per_raw(self, level: Levels) -> Tensor:
        """Derivative, by the prediction, of the estimate of eps that follows from it."""

    def scaled(self, level: Levels) -> Levels:
        """``level``, given at unit variance, in the scale of z_t that this parameterisation is stated in."""
        return level

    def levels(self, steps: int, spacing: Spacing = "trailing") -> Levels:
        return spaced(self.scaled(self.schedule.table), steps, spacing)

    def training_levels(self, random: RowRandom) -> Levels:
        return self.scaled(self.times.draw(random, self.schedule))

    def denoiser_to_x0(self, raw: Tensor, z_t: Tensor, level: Levels) -> Tensor:
        return self.to_x0(self.split(raw, z_t)[0], z_t, level.beside(z_t))

    def denoiser_to_variance(self, raw: Tensor, z_t: Tensor) -> Tensor:
        return share(self.split(raw, z_t)[1])

    def loss(
        self, denoiser: Callable[[Tensor, Tensor, Any], Tensor], z0: Tensor, conditioning: Any, random: RowRandom
    ) -> Tensor:
        level = self.training_levels(random)
        at = level.beside(z0)
        eps = self.noise(z0, random)
        z_t = self.add_noise(z0, eps, level)
        prediction, *variance = self.split(denoiser(z_t, at.t, conditioning), z_t)
        error = self.distance(prediction, self.target(z0, eps, at))
        loss = self.weight(error, level, self.eps_per_raw(level))
        if variance:
            x0 = self.to_x0(prediction.detach().to(z_t.dtype), z_t, at)
            loss = loss + VLB_WEIGHT * len(self.schedule) * self.bound(z0, x0, variance[0], level.t)
        return loss

    def split(self, raw: Tensor, z_t: Tensor) -> tuple[Tensor, ...]:
        """Raw output => the prediction and, where it is learned, the variance; ConfigError for other channels."""
        expected = self.predictions * z_t.shape[1]
        if raw.shape[1] != expected:
            raise ConfigError(
                f"the denoiser gives {raw.shape[1]} channels but the objective expects {expected}; "
                "a denoiser that does not build its output for latent.outputs goes with objective.variance=fixed only"
            )
        return raw.chunk(self.predictions, dim=1)

    def noise(self, z0: Tensor, random: RowRandom) -> Tensor:
        """eps; with ``offset_noise``, which lets a model learn mean colours, each channel as a whole is noisy too.

        Guttenberg 2023, "Diffusion with offset noise".
        """
        eps = random.normal("noise", z0.shape[1:], device=z0.device)
        if self.offset_noise:
            eps = eps + self.offset_noise * random.normal("offset noise", (z0.shape[1], 1, 1), device=z0.device)
        return eps

    def bound(self, z0: Tensor, x0: Tensor, variance: Tensor, t: Tensor) -> Tensor:
        """One of the T terms of the variational bound, in nats, mean over the latent: (B,).

        The last step to z0, of which the posterior has no variance, counts as the one before it.
        """
        t = t.clamp(min=1)
        at, before = (self.scaled(self.schedule.step(step)).beside(z0) for step in (t, t - 1))
        return step_kl(z0, x0, variance.to(x0.dtype), at, before)

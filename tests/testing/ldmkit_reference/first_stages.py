"""A first stage of half the size, and its loss."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ldmkit.protocols import FirstStage, FirstStageLoss
from ldmkit.specs import LatentSpec, Reach
from ldmkit.values import Posterior, Reconstruction
from ldmkit_reference.adversaries import Filter


class Half(FirstStage):
    """Two by two pixels => ``width`` latent channels, by one linear map each way.

    The decoder takes each number to the nearest of ``2 * codes + 1`` an eighth apart, which are a codebook for each
    channel, and learns as if it did not (Bengio et al. 2013, the straight-through estimator).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        width: int
        codes: int

    def __init__(self, config: Config, *, channels: int) -> None:
        super().__init__()
        self.spec = LatentSpec(channels=config.width, factor=2)
        self.reach = Reach(encode=0, decode=0)
        self.codes = config.codes
        self.down = nn.Conv2d(channels, 2 * config.width, 2, stride=2)
        self.up = nn.ConvTranspose2d(config.width, channels, 2, stride=2)

    def encode(self, images: Tensor) -> Posterior:
        mean, log_std = self.down(images).float().chunk(2, 1)
        return Posterior(mean, log_std.clamp(-10, 10).exp())

    def decode(self, latents: Tensor) -> Tensor:
        coded = self.numbers(latents) / 8
        return self.up(latents + (coded - latents).detach())

    def numbers(self, latents: Tensor) -> Tensor:
        """Each latent's code, from -``codes`` to ``codes``."""
        return (8 * latents).round().clamp(-self.codes, self.codes)

    def code_counts(self, latents: Tensor) -> Tensor:
        numbers = self.numbers(latents).long() + self.codes
        return nn.functional.one_hot(numbers, 2 * self.codes + 1).sum((0, 2, 3))


class Squared(FirstStageLoss):
    """Squared error, ``kl_weight`` times the KL and the penalty, as means; and a :class:`Filter` to please."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        kl_weight: float

    def __init__(self, config: Config, *, image_numel: int, latent_numel: int, channels: int) -> None:
        super().__init__(Filter(channels))
        self.config, self.latent_numel = config, latent_numel

    def forward(
        self, images: Tensor, reconstruction: Reconstruction, step: int, last_layer: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        error = (images - reconstruction.images).square().mean()
        posterior, penalty = reconstruction.posterior, reconstruction.penalty or 0
        kl = posterior.kl().mean() / self.latent_numel if posterior.std.any() else images.new_zeros(())
        total = error + self.config.kl_weight * kl + penalty + 0.1 * self.adversary.against(reconstruction.images)
        return total, {"error": error.detach(), "kl": kl.detach()}

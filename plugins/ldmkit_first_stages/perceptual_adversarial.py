"""The paper's loss of a first stage: reconstruction, perceptual and adversarial terms, and a KL or a codebook's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ldmkit.errors import ConfigError
from ldmkit.pretrained.lpips import SMALLEST, PerceptualDistance, find_backbone, pretrained
from ldmkit.protocols import FirstStageLoss
from ldmkit.registry.ranges import at_least
from ldmkit.values import Reconstruction
from ldmkit_first_stages.adversarial import DiscriminatorConfig, PatchAdversary, adaptive_weight
from ldmkit_first_stages.patch_discriminator import smallest_side
from ldmkit_first_stages.terms import Distance, Kind, LatentTerms, Reduction, mean_error


class PerceptualAdversarial(FirstStageLoss):
    """Rombach et al. 2022, appendix G, equation 25, after Esser et al. 2021, section 3.1.

    The loss is likelihood + ``kl_weight`` * KL + ``codebook_weight`` * penalty + d * generator, where

    - error = |x - x_hat| + ``perceptual_weight`` * LPIPS(x, x_hat), for each element (LPIPS is the same for all);
    - likelihood = error / exp(logvar) + logvar with one scalar logvar that is learned from 0, or the error itself;
    - generator is what the discriminator holds against the reconstructions, from step ``discriminator.start`` on;
    - d = ``discriminator.weight`` * the ratio of the gradients of likelihood and generator at the decoder's last layer,
      and ``discriminator.weight`` itself for a first stage that names no such layer.

    ``reduction`` holds for every term but the generator's, which d puts to scale; see :class:`Reduction`.

    The parts it reports are reduced but not weighted: ``reconstruction``, ``perceptual`` (a mean over the batch),
    ``kl``, ``penalty``, ``generator``; and ``logvar`` and ``d_weight``.

    Raises :class:`ConfigError` for images that the perceptual network or the discriminator cannot take, and where
    VGG16's weights are asked for and missing.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        reconstruction: Distance
        perceptual: Literal["lpips", "random", "none"]
        perceptual_weight: float
        perceptual_file: Path | None
        reduction: Kind
        learned_variance: bool
        kl_weight: float
        codebook_weight: float
        discriminator: DiscriminatorConfig

        def __post_init__(self) -> None:
            at_least(0, perceptual_weight=self.perceptual_weight, kl_weight=self.kl_weight)
            at_least(0, codebook_weight=self.codebook_weight)

    def __init__(self, config: Config, *, image_numel: int, latent_numel: int, channels: int) -> None:
        _check_images(config, channels=channels, side=math.isqrt(image_numel // channels))
        plays = config.discriminator.weight > 0
        super().__init__(PatchAdversary(config.discriminator, channels=channels) if plays else None)
        self.config = config
        self.reduction = Reduction(config.reduction, image_numel, latent_numel)
        self.latent_terms = LatentTerms(self.reduction, config.kl_weight, config.codebook_weight)
        self.perceptual = _perceptual(config)
        self.logvar = nn.Parameter(torch.zeros(())) if config.learned_variance else None

    def constants(self) -> Mapping[str, float]:
        """The weight of the KL in the other reduction, for the log."""
        return self.latent_terms.constants()

    def forward(
        self, images: Tensor, reconstruction: Reconstruction, step: int, last_layer: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Images (B, C, H, W) and what became of them => scalar loss and its parts, detached."""
        likelihood, parts = self._likelihood(images, reconstruction.images)
        asked, of_latents = self.latent_terms(reconstruction)
        loss, parts = likelihood + asked, parts | of_latents
        adversary = self.adversary
        if isinstance(adversary, PatchAdversary) and adversary.plays(step):
            generator = adversary.generator_loss(reconstruction.images)
            d_weight = self.config.discriminator.weight * adaptive_weight(likelihood, generator, last_layer)
            loss, parts = loss + d_weight * generator, parts | {"generator": generator, "d_weight": d_weight}
        return loss, {name: part.detach() for name, part in parts.items()}

    def _likelihood(self, images: Tensor, reconstructions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        error = mean_error(images, reconstructions, self.config.reconstruction)
        parts = {"reconstruction": self.reduction.of_image(error)}
        if self.perceptual is not None:
            parts["perceptual"] = self.perceptual(images, reconstructions).mean()
            error = error + self.config.perceptual_weight * parts["perceptual"]
        if self.logvar is not None:
            parts["logvar"] = self.logvar
            error = error / self.logvar.exp() + self.logvar
        return self.reduction.of_image(error), parts


def _perceptual(config: PerceptualAdversarial.Config) -> PerceptualDistance | None:
    if config.perceptual == "none" or not config.perceptual_weight:
        return None
    if config.perceptual == "random":
        return PerceptualDistance("vgg", None)
    file = find_backbone(
        "vgg",
        config.perceptual_file,
        for_what=f"loss '{config.name}' with perceptual=lpips",
        key="loss.perceptual_file",
        instead="loss.perceptual=random or loss.perceptual=none",
    )
    return pretrained("vgg", file)


def _check_images(config: PerceptualAdversarial.Config, *, channels: int, side: int) -> None:
    if config.perceptual != "none" and channels not in (1, 3):
        raise ConfigError(
            f"loss '{config.name}': perceptual={config.perceptual} takes images of 1 or 3 channels, got {channels}; "
            f"type loss.perceptual=none"
        )
    if config.perceptual != "none" and side < SMALLEST["vgg"]:
        raise ConfigError(
            f"loss '{config.name}': perceptual={config.perceptual} takes images of {SMALLEST['vgg']} pixels or more, "
            f"got {side}; type loss.perceptual=none"
        )
    needed = smallest_side(config.discriminator.layers)
    if config.discriminator.weight > 0 and side < needed:
        raise ConfigError(
            f"loss '{config.name}': a discriminator of {config.discriminator.layers} layers takes images of {needed} "
            f"pixels or more, got {side}; type loss.discriminator.layers=1 or loss.discriminator.weight=0"
        )

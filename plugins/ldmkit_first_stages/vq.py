"""The autoencoder whose decoder sees codes: its latents are quantised on the way in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.registry.ranges import at_least
from ldmkit.values import Posterior, Reconstruction
from ldmkit_first_stages.architecture import Architecture
from ldmkit_first_stages.autoencoder import ConvolutionalAutoencoder
from ldmkit_first_stages.blocks import at_least_fp32
from ldmkit_first_stages.codebook import Codebook
from ldmkit_first_stages.packaged_quantisers import packaged
from ldmkit_first_stages.quantiser import Quantiser, counts


class VQAutoencoder(ConvolutionalAutoencoder):
    """Images (B, C, H, W) in [-1, 1] => latents (B, ``z_channels``, H / f, W / f) *before* quantisation.

    They are fp32 also under autocast, with deviation 0: diffusion works on those, and the decoder quantises first, so
    that what a sampler draws need not be a code. With ``quantiser`` ``"vq"`` the published checkpoints load.

    While it trains, it wants its codebook small in the terms of :class:`Codebook`, and reports ``codebook``,
    ``commitment``, ``usage`` (share of the codes that the batch uses) and ``perplexity``.

    Raises :class:`ConfigError` for a quantiser whose package is missing, and as :class:`ConvolutionalAutoencoder` does.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Architecture):
        """The keys of :class:`Architecture`, then those of the quantiser."""

        quantiser: Literal["vq", "fsq", "lfq", "residual"]
        codes: int
        commitment: float
        placing: Literal["commitment", "legacy"]
        revive_after: int
        codebooks: int
        levels: list[int]
        entropy_weight: float

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(2, codes=self.codes)
            at_least(3, levels=self.levels)
            at_least(1, codebooks=self.codebooks)
            at_least(0, commitment=self.commitment, revive_after=self.revive_after, entropy_weight=self.entropy_weight)
            if not self.levels:
                raise ValueError("levels is [] but must have one number for each channel that is rounded")

    def __init__(self, config: Config, *, channels: int) -> None:
        z_channels = config.z_channels
        super().__init__(config, channels=channels, moments=z_channels)
        self.quantize = _quantiser(config)
        self.quant_conv = nn.Conv2d(z_channels, z_channels, 1)
        self.post_quant_conv = nn.Conv2d(z_channels, z_channels, 1)

    def encode(self, images: Tensor) -> Posterior:
        """Pixels in [-1, 1], (B, C, H, W) => latents before quantisation (B, z_channels, H / f, W / f)."""
        mean = at_least_fp32(self.quant_conv(self.encoded(images)))
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, z_channels, h, w), quantised first => pixels, nominally in [-1, 1], (B, C, f h, f w)."""
        return self.decoder(self.post_quant_conv(self.quantize(latents)))

    def reconstruct(self, images: Tensor, random: RowRandom) -> Reconstruction:
        """See :meth:`FirstStage.reconstruct`; with the quantiser's penalty and parts."""
        posterior = self.encode(images)
        quantised = self.quantize.learn(posterior.mean, random)
        decoded = self.decoder(self.post_quant_conv(quantised.latents))
        return Reconstruction(decoded, posterior, quantised.penalty, quantised.parts)

    def code_counts(self, latents: Tensor) -> Tensor:
        """See :meth:`FirstStage.code_counts`."""
        return counts(self.quantize.codes(latents), self.quantize.size)


def _quantiser(config: VQAutoencoder.Config) -> Quantiser:
    if config.quantiser == "vq":
        return Codebook(
            codes=config.codes,
            channels=config.z_channels,
            commitment=config.commitment,
            placing=config.placing,
            revive_after=config.revive_after,
        )
    return packaged(
        config.quantiser,
        name=config.name,
        channels=config.z_channels,
        codes=config.codes,
        codebooks=config.codebooks,
        levels=config.levels,
        commitment=config.commitment,
        entropy_weight=config.entropy_weight,
    )

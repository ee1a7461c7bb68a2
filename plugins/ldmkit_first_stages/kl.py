"""The autoencoder with a Gaussian posterior that is held near N(0, I) by a small KL term."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ldmkit.values import Posterior
from ldmkit_first_stages.architecture import Architecture
from ldmkit_first_stages.autoencoder import ConvolutionalAutoencoder
from ldmkit_first_stages.blocks import at_least_fp32

LOG_VARIANCE = (-30.0, 20.0)


class KLAutoencoder(ConvolutionalAutoencoder):
    """Images (B, C, H, W) in [-1, 1] => diagonal Gaussian over latents (B, ``z_channels``, H / f, W / f).

    Its log-variance is clamped to [-30, 20]; mean and deviation are fp32 also under autocast. Errors are those of
    :class:`ConvolutionalAutoencoder`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Architecture):
        """The keys of :class:`Architecture`, no more."""

    def __init__(self, config: Config, *, channels: int) -> None:
        z_channels = config.z_channels
        super().__init__(config, channels=channels, moments=2 * z_channels)
        self.quant_conv = nn.Conv2d(2 * z_channels, 2 * z_channels, 1)
        self.post_quant_conv = nn.Conv2d(z_channels, z_channels, 1)

    def encode(self, images: Tensor) -> Posterior:
        """Pixels in [-1, 1], (B, C, H, W) => posterior (B, z_channels, H / f, W / f)."""
        moments = at_least_fp32(self.quant_conv(self.encoded(images)))
        mean, log_variance = moments.chunk(2, dim=1)
        return Posterior(mean, (0.5 * log_variance.clamp(*LOG_VARIANCE)).exp())

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, z_channels, h, w) => pixels, nominally in [-1, 1], (B, C, f h, f w)."""
        return self.decoder(self.post_quant_conv(latents))

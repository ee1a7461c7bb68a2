"""The autoencoder with a Gaussian posterior that is held near N(0, I) by a small KL term."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ldmkit.protocols import FirstStage
from ldmkit.specs import LatentSpec
from ldmkit.values import Posterior
from ldmkit_first_stages.architecture import Architecture
from ldmkit_first_stages.blocks import at_least_fp32
from ldmkit_first_stages.image_size import check_image_size
from ldmkit_first_stages.networks import Decoder, Encoder
from ldmkit_first_stages.reach import reach_of

LOG_VARIANCE = (-30.0, 20.0)


class KLAutoencoder(FirstStage):
    """Convolutional autoencoder (Rombach et al. 2022, section 3.1, appendix G; figures in table 8).

    Images (B, C, H, W) in [-1, 1] => diagonal Gaussian over latents (B, ``z_channels``, H / f, W / f), whose
    log-variance is clamped to [-30, 20] and whose mean and deviation are fp32 also under autocast. With ``patch`` 1,
    norm ``group``, middle ``attention``, 2 and 3 blocks, it is the paper's network, and the CompVis checkpoint of a
    first stage loads with no renaming; with norm ``none`` each residual branch begins at zero.

    Raises :class:`ConfigError` for a config whose levels do not fit, and for images whose sides are not multiples of f.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Architecture):
        """The keys of :class:`Architecture`, no more."""

    def __init__(self, config: Config, *, channels: int) -> None:
        super().__init__()
        layout = config.layout()
        z_channels = config.z_channels
        self.name = config.name
        self.spec = LatentSpec(channels=z_channels, factor=config.factor)
        self.reach = reach_of(layout, encoder_blocks=config.encoder_blocks, decoder_blocks=config.decoder_blocks)
        self.encoder = Encoder(layout, channels=channels, out_channels=2 * z_channels, blocks=config.encoder_blocks)
        self.decoder = Decoder(layout, channels=channels, z_channels=z_channels, blocks=config.decoder_blocks)
        self.quant_conv = nn.Conv2d(2 * z_channels, 2 * z_channels, 1)
        self.post_quant_conv = nn.Conv2d(z_channels, z_channels, 1)

    def encode(self, images: Tensor) -> Posterior:
        """Pixels in [-1, 1], (B, C, H, W) => posterior (B, z_channels, H / f, W / f)."""
        check_image_size(self.name, images, self.spec.factor)
        moments = at_least_fp32(self.quant_conv(self.encoder(images)))
        mean, log_variance = moments.chunk(2, dim=1)
        return Posterior(mean, (0.5 * log_variance.clamp(*LOG_VARIANCE)).exp())

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, z_channels, h, w) => pixels, nominally in [-1, 1], (B, C, f h, f w)."""
        return self.decoder(self.post_quant_conv(latents))

    @property
    def last_layer(self) -> Tensor:
        """Weight of the decoder's last convolution, by whose gradients an adversarial term is weighted."""
        return self.decoder.conv_out.weight

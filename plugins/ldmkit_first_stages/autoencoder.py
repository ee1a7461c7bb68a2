"""What the convolutional autoencoders have in common: encoder and decoder, whatever stands between them."""

from __future__ import annotations

from torch import Tensor

from ldmkit.protocols import FirstStage
from ldmkit.specs import LatentSpec
from ldmkit_first_stages.architecture import Architecture
from ldmkit_first_stages.image_size import check_image_size
from ldmkit_first_stages.networks import Decoder, Encoder
from ldmkit_first_stages.reach import reach_of


class ConvolutionalAutoencoder(FirstStage):
    """Encoder and decoder of Rombach et al. 2022, section 3.1 and appendix G; figures in table 8.

    The encoder yields ``moments`` channels. With ``patch`` 1, norm ``group``, middle ``attention``, 2 and 3 blocks
    they are the paper's networks, and the CompVis checkpoint of a first stage loads with no renaming; with norm
    ``none`` each residual branch begins at zero.

    Raises :class:`ConfigError` for a config whose levels do not fit, and for images whose sides are not multiples of f.
    """

    def __init__(self, config: Architecture, *, channels: int, moments: int) -> None:
        super().__init__()
        layout = config.layout()
        self.name = config.name
        self.spec = LatentSpec(channels=config.z_channels, factor=config.factor)
        self.reach = reach_of(layout, encoder_blocks=config.encoder_blocks, decoder_blocks=config.decoder_blocks)
        self.encoder = Encoder(layout, channels=channels, out_channels=moments, blocks=config.encoder_blocks)
        self.decoder = Decoder(layout, channels=channels, z_channels=config.z_channels, blocks=config.decoder_blocks)

    def encoded(self, images: Tensor) -> Tensor:
        """Pixels in [-1, 1], (B, C, H, W) => what the encoder says (B, moments, H / f, W / f)."""
        check_image_size(self.name, images, self.spec.factor)
        return self.encoder(images)

    @property
    def last_layer(self) -> Tensor:
        """Weight of the decoder's last convolution, by whose gradients an adversarial term is weighted."""
        return self.decoder.conv_out.weight

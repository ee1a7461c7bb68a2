"""The discriminator that judges an image patch by patch."""

from __future__ import annotations

from torch import Tensor, nn

SLOPE = 0.2
DEVIATION = 0.02


class PatchDiscriminator(nn.Module):
    """Images (B, C, H, W) => logits (B, 1, h, w), one for each patch; above 0 means that it looks real.

    The "PatchGAN" of Isola et al. 2017, "Image-to-image translation with conditional adversarial networks", section
    3.2.2 and appendix 6.1.2: ``layers`` convolutions 4x4 of stride 2, from ``width`` channels doubling up to eight
    times that, then two of stride 1; LeakyReLU 0.2; batch normalisation (and then no bias) in all but the first and
    last. With 3 layers a logit sees 70x70 pixels, with 2 layers 34x34. Initial weights are N(0, 0.02), gains
    N(1, 0.02). Parameters are named as those below ``loss.discriminator`` in the CompVis checkpoints.
    """

    def __init__(self, channels: int, *, width: int, layers: int) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(layers + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        for level in range(1, layers + 1):
            stride = 2 if level < layers else 1
            blocks += [
                nn.Conv2d(widths[level - 1], widths[level], 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(widths[level]),
                nn.LeakyReLU(SLOPE),
            ]
        self.main = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.main(images)
        return logits


def smallest_side(layers: int) -> int:
    """Pixels a side of the smallest image that yields a logit: halved ``layers`` times, it has 3 positions left."""
    return 3 * 2**layers


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, DEVIATION)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, DEVIATION)

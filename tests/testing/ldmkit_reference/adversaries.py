"""What the loss plays against the first stage: one linear filter."""

from __future__ import annotations

from torch import Tensor, nn

from ldmkit.protocols import Adversary
from ldmkit.specs import OptimizerSpec


class Filter(Adversary):
    """Three by three pixels => how real they look, by one linear map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.optimizer = OptimizerSpec(lr=1e-3, betas=(0.5, 0.9))
        self.look = nn.Conv2d(channels, 1, 3)

    def forward(self, images: Tensor, reconstructions: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]] | None:
        real, fake = (self.look(each).square().mean() for each in (images, reconstructions))
        return nn.functional.softplus(fake - real), {"margin": (real - fake).detach()}

    def against(self, images: Tensor) -> Tensor:
        """How unreal ``images`` look, without a gradient for the filter."""
        look = nn.functional.conv2d(images, self.look.weight.detach(), self.look.bias.detach())
        return nn.functional.softplus(-look.square().mean())

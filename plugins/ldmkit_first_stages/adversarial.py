"""The adversarial game: what the discriminator minimises, what the first stage does, and how much that weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from ldmkit.protocols import Adversary
from ldmkit.registry.ranges import above, at_least, below_one
from ldmkit.specs import OptimizerSpec
from ldmkit_first_stages.blocks import at_least_fp32
from ldmkit_first_stages.patch_discriminator import PatchDiscriminator

Game = Literal["hinge", "vanilla"]
SMALL, LARGEST = 1e-4, 1e4
"""Of the adaptive weight: what keeps its denominator from zero, and its upper limit."""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The keys below ``discriminator``; ``weight`` 0 leaves it out."""

    game: Game
    weight: float
    start: int
    layers: int
    width: int
    lr: float
    betas: tuple[float, float]

    def __post_init__(self) -> None:
        at_least(0, weight=self.weight, start=self.start)
        at_least(1, layers=self.layers, width=self.width)
        above(0, lr=self.lr)
        below_one(betas=self.betas)


class PatchAdversary(Adversary):
    """A :class:`PatchDiscriminator` that tells images from reconstructions from step ``start`` on.

    Before that the paper's gate is 0; here nothing is computed, so the optimiser begins afresh at ``start``.

    Its batch normalisation uses the statistics of the batch in hand, each kind of picture by itself: it plays in
    training only. The running statistics are kept and saved with it for whoever evaluates it, and determine nothing.
    """

    def __init__(self, config: DiscriminatorConfig, *, channels: int) -> None:
        super().__init__()
        self.game, self.start = config.game, config.start
        self.optimizer = OptimizerSpec(lr=config.lr, betas=config.betas)
        self.discriminator = PatchDiscriminator(channels, width=config.width, layers=config.layers)

    def plays(self, step: int) -> bool:
        """Whether the game is on at ``step``, counted from 0."""
        return step >= self.start

    def forward(self, images: Tensor, reconstructions: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]] | None:
        """Its turn: the loss that tells images from reconstructions, and the mean logits of both."""
        if not self.plays(step):
            return None
        real, fake = (at_least_fp32(self.discriminator(each)) for each in (images, reconstructions.detach()))
        logits = {"logits_real": real.mean().detach(), "logits_fake": fake.mean().detach()}
        return discriminator_loss(real, fake, self.game), logits

    def generator_loss(self, reconstructions: Tensor) -> Tensor:
        """The first stage's turn: how far the pictures are from passing for real; no gradient for the discriminator."""
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        logits = functional_call(self.discriminator, frozen, (reconstructions,))
        return generator_loss(at_least_fp32(logits), self.game)


def discriminator_loss(real: Tensor, fake: Tensor, game: Game) -> Tensor:
    """Logits of images and of reconstructions => scalar, the mean of both kinds.

    hinge: max(0, 1 - real) and max(0, 1 + fake) (Lim and Ye 2017, "Geometric GAN"). vanilla: the negative
    log-likelihood of a logistic classifier (Goodfellow et al. 2014, equation 1).
    """
    if game == "hinge":
        return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def generator_loss(fake: Tensor, game: Game) -> Tensor:
    """Logits of reconstructions => scalar.

    hinge: minus their mean (Rombach et al. 2022, equation 25). vanilla: -log D, which does not saturate where the
    discriminator is sure (Goodfellow et al. 2014, section 3).
    """
    return -fake.mean() if game == "hinge" else F.softplus(-fake).mean()


def adaptive_weight(likelihood: Tensor, generator: Tensor, last_layer: Tensor | None) -> Tensor:
    """|gradient of ``likelihood``| / (|gradient of ``generator``| + 1e-4) at ``last_layer``, at most 1e4; detached.

    Both are scalars that were computed from images which ``last_layer`` made (Esser et al. 2021, "Taming
    transformers", equation 7). 1 where there is no such layer.
    """
    if last_layer is None:
        return generator.new_ones(())
    with torch.autocast(last_layer.device.type, enabled=False):
        (wanted,) = torch.autograd.grad(likelihood, last_layer, retain_graph=True)
        (there,) = torch.autograd.grad(generator, last_layer, retain_graph=True)
    return (wanted.norm() / (there.norm() + SMALL)).clamp(0.0, LARGEST).detach()

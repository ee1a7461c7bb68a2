"""Condition on the known part of a picture: inpainting and outpainting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.latent_space import LatentSpace
from ldmkit.protocols import Conditioner
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import CondSpec, DataSpec, FieldSpec
from ldmkit.values import Conditioning, Fields, to_pixels
from ldmkit_conditioners.masks import draw_masks

IMAGE, MASK = "image", "mask"


class Inpaint(Conditioner):
    """The latent of the masked picture and the mask itself, beside the noisy latent (Rombach et al. 2022, section 4.5).

    As in the paper's model the map is [latent c | mask 1]: missing pixels are black (-1) before the first stage encodes
    the picture, and the mask, 1 where missing and -1 where known, is brought to latent size by its nearest pixel. The
    latent has the shift and scale of all latents. While training, masks are drawn anew each time. What is known is
    kept: decoded pixels outside the mask are replaced by those given. The null conditioning is a picture of which
    everything is missing.
    """

    in_latents: ClassVar[bool] = True

    @dataclass(frozen=True, kw_only=True)
    class Shares:
        """How often each kind of mask comes, in any unit."""

        boxes: float
        strokes: float
        half: float
        outpaint: float

        def __post_init__(self) -> None:
            at_least(0, **asdict(self))
            if not any(asdict(self).values()):
                raise ValueError("boxes, strokes, half and outpaint are all 0 but one must be more")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``cond=inpaint``."""

        name: str
        dropout: float
        shares: Inpaint.Shares

        def __post_init__(self) -> None:
            between(0, 1, dropout=self.dropout)

    def __init__(self, config: Config, *, data: DataSpec, latents: LatentSpace) -> None:
        super().__init__()
        self.shares = asdict(config.shares)
        self.dropout = config.dropout
        self.channels, self.latents = data.channels, latents
        self.needs = {IMAGE: "image", MASK: "mask"}
        self.observed = {IMAGE: FieldSpec("image", factor=1), MASK: FieldSpec("mask", factor=1)}
        self.spec = CondSpec(map=latents.spec.channels + 1)

    def observe(self, images: Tensor, random: RowRandom) -> Fields:
        """The pictures as they are, and a mask for each."""
        size = (images.shape[2], images.shape[3])
        return {IMAGE: images, MASK: draw_masks(random, size, self.shares, images.device)}

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        return self._encode(fields[IMAGE], fields[MASK], latent_size)

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        size = [side * self.latents.spec.factor for side in latent_size]
        device = self.latents.device
        missing = torch.ones(1, *size, dtype=torch.bool, device=device)
        black = torch.zeros(1, self.channels, *size, dtype=torch.uint8, device=device)
        return self._encode(black, missing, latent_size).apply(lambda value: value.expand(batch, -1, -1, -1))

    def paste(self, images: Tensor, fields: Fields) -> Tensor:
        return torch.where(fields[MASK][:, None], images, to_pixels(fields[IMAGE]))

    def _encode(self, images: Tensor, masks: Tensor, latent_size: Sequence[int]) -> Conditioning:
        device = self.latents.device
        images, missing = images.to(device), masks.to(device)[:, None]
        latent = self.latents.encode(torch.where(missing, -1.0, to_pixels(images)))
        mask = F.interpolate(2 * missing.float() - 1, size=tuple(latent_size), mode="nearest")
        return Conditioning(map=torch.cat([latent.float(), mask], dim=1))

"""Pixel space: the first stage of a diffusion model that has none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.protocols import FirstStage
from ldmkit.specs import LatentSpec, Reach
from ldmkit.values import Posterior


class Identity(FirstStage):
    """The latent is the image: f = 1, deviation 0, no parameters (LDM-1 of Rombach et al. 2022, table 6)."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config: Config, *, channels: int) -> None:
        super().__init__()
        self.spec = LatentSpec(channels=channels, factor=1)
        self.reach = Reach(encode=0, decode=0)

    def encode(self, images: Tensor) -> Posterior:
        """Pixels in [-1, 1], (B, C, H, W) => the same as mean, with deviation 0."""
        return Posterior(images, torch.zeros_like(images))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, H, W) => the same."""
        return latents

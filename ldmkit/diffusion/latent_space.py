"""The latent space: a first stage with the statistics of its latents."""

from __future__ import annotations

import torch
from torch import Tensor

from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.diffusion.tiling import DEFAULT_TILING, Tiling
from ldmkit.protocols import FirstStage
from ldmkit.specs import LatentSpec


class LatentSpace:
    """The way from pixels to the latents that the denoiser works in, and back.

    No module: who holds it, as a conditioner may, has the first stage not among its own weights. ``statistics`` is None
    until the latents have been measured; latents are then used as they are.
    """

    def __init__(self, first_stage: FirstStage, statistics: LatentStatistics | None = None) -> None:
        self.first_stage = first_stage
        self.statistics = statistics

    @property
    def spec(self) -> LatentSpec:
        """Channels and factor."""
        return self.first_stage.spec

    @property
    def device(self) -> torch.device:
        """Where the first stage's weights are; the CPU where it has none."""
        return next((p.device for p in self.first_stage.parameters()), torch.device("cpu"))

    @torch.no_grad()
    def encode(self, images: Tensor, tiling: Tiling | None = DEFAULT_TILING) -> Tensor:
        """Pixels in [-1, 1] (B, C, H, W) => z0 (B, c, h, w), the posterior's mode, of about unit variance.

        Images larger than a tile pass through the first stage in pieces, as ``tiling`` says; None: all of them at once.
        """
        posterior = tiling.encode(self.first_stage, images) if tiling else self.first_stage.encode(images)
        latents = posterior.mode()
        return self.statistics.normalise(latents) if self.statistics else latents

    @torch.no_grad()
    def decode(self, z0: Tensor, tiling: Tiling | None = DEFAULT_TILING) -> Tensor:
        """z0 (B, c, h, w) => pixels in [-1, 1] (B, C, H, W), clipped; ``tiling`` as in :meth:`encode`."""
        latents = self.statistics.undo(z0) if self.statistics else z0
        pixels = tiling.decode(self.first_stage, latents) if tiling else self.first_stage.decode(latents)
        return pixels.clamp(-1, 1)

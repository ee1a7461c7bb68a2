"""Editing pictures with any model, without training: where sampling begins, and what it must keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.protocols import Denoise
from ldmkit.values import Levels


@dataclass(frozen=True)
class Original:
    """Pictures to begin with, in place of pure noise.

    ``images`` are pixels in [-1, 1] (B, C, H, W). They are noised to the level from which a share ``strength`` of the
    steps is left, above 0 and at most 1 (Meng et al. 2022, "SDEdit"). ``redraw`` (B, H, W) bool says where they are
    drawn anew; the rest is kept. None: everywhere.
    """

    images: Tensor
    strength: float = 1.0
    redraw: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ConfigError(f"strength must be above 0 and at most 1, got {self.strength}")
        if self.redraw is not None and self.redraw.shape != (len(self.images), *self.images.shape[2:]):
            shape = tuple(self.redraw.shape)
            raise ConfigError(f"the mask {shape} must be (B, H, W) of the images {tuple(self.images.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> Original:
        return Original(self.images[rows], self.strength, None if self.redraw is None else self.redraw[rows])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def fitting(self, asked: tuple[int, int] | None) -> tuple[int, int]:
        """Its size; ConfigError where another one is ``asked`` for."""
        if asked is not None and asked != self.size:
            raise ConfigError(f"the picture to begin with is {self.size[0]}x{self.size[1]}, not {asked[0]}x{asked[1]}")
        return self.size

    def left(self, levels: Levels) -> Levels:
        """The last levels, a share ``strength`` of the steps, but one step at least."""
        steps = max(1, round(self.strength * (len(levels) - 1)))
        return levels[len(levels) - 1 - steps :]

    def kept(self, denoise: Denoise, z0: Tensor, noise: Tensor) -> Denoise:
        """``denoise`` that knows ``z0`` (B, c, h, w) wherever it is not redrawn.

        At each level the known latents are noised anew, by one noise for all levels, and stand in the estimate as they
        are (Avrahami et al. 2023, "Blended latent diffusion"; Lugmayr et al. 2022, "RePaint", without its jumps back).
        A latent is redrawn where any of its pixels is.
        """
        if self.redraw is None:
            return denoise
        redraw = F.adaptive_max_pool2d(self.redraw[:, None].to(z0), z0.shape[2:])

        def known(z: Tensor, level: Levels) -> Tensor:
            z_t = level.alpha * z0 + level.sigma * noise
            return torch.lerp(z0, denoise(torch.lerp(z_t, z, redraw), level), redraw)

        return known

    def paste(self, pixels: Tensor) -> Tensor:
        """Put the pixels that are not redrawn back into decoded ones."""
        if self.redraw is None:
            return pixels
        return torch.where(self.redraw[:, None].to(pixels.device), pixels, self.images.to(pixels))


def invert(denoise: Denoise, z0: Tensor, levels: Levels) -> Tensor:
    """Walk from ``z0`` up to the first of ``levels``: the z there from which DDIM comes back to it.

    Song et al. 2021, "Denoising diffusion implicit models", eq. 14 read from data to noise. At the clean level the
    walk has no direction, (z - alpha x0) / sigma going to 0 with sigma, so z0 itself is taken to the level above.
    """
    alpha, sigma = levels.alpha, levels.sigma
    z = alpha[-2] * z0
    for i in reversed(range(len(levels) - 2)):
        x0 = denoise(z, levels[i + 1])
        eps = (z - alpha[i + 1] * x0) / sigma[i + 1]
        z = alpha[i] * x0 + sigma[i] * eps
    return z


def between(one: Tensor, other: Tensor, shares: Sequence[float]) -> Tensor:
    """Noises on the arc from ``one`` to ``other``, both (c, h, w), at B ``shares`` in [0, 1] of it: (B, c, h, w).

    Spherical interpolation (Shoemake 1985), as noise of many dimensions lies on a sphere: Song et al. 2021, D.5.
    """
    cosine = F.cosine_similarity(one.flatten(), other.flatten(), dim=0).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if angle.sin() < 1e-4:
        return torch.stack([torch.lerp(one, other, share) for share in shares])
    weights = [(((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin()) for share in shares]
    return torch.stack([first * one + second * other for first, second in weights])

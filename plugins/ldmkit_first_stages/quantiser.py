"""What stands between encoder and decoder of a VQ autoencoder: it says latents in a finite number of codes.

Legend: B batch, c latent channels, h w latent grid, q codes for each position.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom


@dataclass(frozen=True)
class Quantised:
    """What training needs of quantised ``latents`` (B, c, h, w), which hand their gradient straight to the encoder's.

    ``penalty`` is the scalar that the quantiser wants small, None where it wants nothing; ``parts`` are detached
    scalars for the log.
    """

    latents: Tensor
    penalty: Tensor | None
    parts: Mapping[str, Tensor]


class Quantiser(nn.Module, ABC):
    """Latents (B, c, h, w) in any number => the same, each position one of finitely many vectors.

    ``size`` is the number of entries of each codebook.
    """

    size: int

    @abstractmethod
    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, c, h, w) => quantised, in their type; the gradient passes as if nothing had been done."""

    @abstractmethod
    def codes(self, latents: Tensor) -> Tensor:
        """Latents (B, c, h, w) => numbers of the codes that stand for them, int64 (B, h, w, q)."""

    @abstractmethod
    def learn(self, latents: Tensor, random: RowRandom) -> Quantised:
        """Quantise and judge latents (B, c, h, w); in training mode, also do what learning does besides gradients."""


def counts(codes: Tensor, size: int) -> Tensor:
    """How often each entry of codebooks of ``size`` occurs in ``codes``, int64 (..., q): int64 (q, size)."""
    return torch.stack([torch.bincount(each, minlength=size) for each in codes.flatten(0, -2).unbind(-1)])

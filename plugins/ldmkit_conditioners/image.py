"""Condition on a reference picture."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Conditioner
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import CondSpec, DataSpec, FieldSpec
from ldmkit.values import Conditioning, Fields, to_pixels
from ldmkit_conditioners.fields import require_field

PICTURE = "image"
"""The field that is the picture itself; any other is one that the data offers."""
GRID = 4


class Image(Conditioner):
    """A picture, brought to ``size`` pixels => a small convolutional encoder, trained with the denoiser.

    Each level halves the sides and doubles the channels until a grid of 4 x 4 is left: its places are the 16 tokens,
    their mean gives the vector. The reference is the picture itself, unless ``field`` names another field of images.
    The null conditioning is learned: a row in place of every token, a row in place of the vector.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``cond=image``."""

        name: str
        field: str
        dropout: float
        size: int
        channels: int
        width: int
        tokens: bool
        vector: bool

        def __post_init__(self) -> None:
            between(0, 1, dropout=self.dropout)
            at_least(1, channels=self.channels, width=self.width)
            if self.size < 2 * GRID or self.size & (self.size - 1):
                raise ValueError(f"size is {self.size} but must be a power of two, {2 * GRID} or more")
            if not (self.tokens or self.vector):
                raise ValueError("tokens and vector are both false but one must be true")

    def __init__(self, config: Config, *, data: DataSpec) -> None:
        super().__init__()
        if config.field != PICTURE:
            require_field(config.name, config.field, "image", data)
        self.config, self.dropout = config, config.dropout
        self.needs = {config.field: "image"}
        self.observed = {PICTURE: FieldSpec("image")} if config.field == PICTURE else {}
        self.spec = CondSpec(tokens=config.width * config.tokens, vector=config.width * config.vector)
        levels = (config.size // GRID).bit_length() - 1
        channels = [config.channels * 2**level for level in range(levels + 1)]
        self.stem = nn.Conv2d(data.channels, channels[0], 3, padding=1)
        self.levels = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(channels))
        self.norm = nn.LayerNorm(channels[-1])
        self.to_tokens = nn.Linear(channels[-1], config.width) if config.tokens else None
        self.to_vector = nn.Linear(channels[-1], config.width) if config.vector else None
        self.positions = _row(GRID**2, config.width) if config.tokens else None
        self.null_token = _row(1, config.width) if config.tokens else None
        self.null_vector = _row(config.width) if config.vector else None

    def observe(self, images: Tensor, random: RowRandom) -> Fields:
        """The pictures as they are."""
        return dict.fromkeys(self.observed, images)

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        images = to_pixels(fields[self.config.field].to(self.stem.weight.device))
        size = (self.config.size, self.config.size)
        features = self.stem(F.interpolate(images, size=size, mode="bilinear", antialias=True))
        for level in self.levels:
            features = level(F.silu(features))
        places = self.norm(features.flatten(2).mT)  # (B, 16, D)
        tokens = vector = None
        if self.to_tokens is not None:
            tokens = self.to_tokens(places) + self.positions
        if self.to_vector is not None:
            vector = self.to_vector(places.mean(1))
        return Conditioning(tokens=tokens, vector=vector)

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        tokens = None if self.null_token is None else self.null_token.expand(batch, GRID**2, -1)
        vector = None if self.null_vector is None else self.null_vector.expand(batch, -1)
        return Conditioning(tokens=tokens, vector=vector)


def _row(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.02 * torch.randn(shape))

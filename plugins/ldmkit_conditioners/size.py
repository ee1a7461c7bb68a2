"""Condition on the size that a photograph had, and on what was cut from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ldmkit.errors import ConfigError
from ldmkit.protocols import Conditioner
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import CondSpec, DataSpec
from ldmkit.values import Conditioning, Fields
from ldmkit_conditioners.fields import require_field
from ldmkit_conditioners.fourier import fourier_features

LONGEST = 10_000
"""Pixels in which the slowest wave turns by about one radian; the fastest does so in one pixel."""


class Size(Conditioner):
    """Numbers in pixels => ``features`` waves of each, side by side, as a vector (Podell et al. 2023, section 2.2).

    Trained so, a model draws sharp, centred pictures when it is told of large originals that nothing was cut from. No
    weights: the denoiser's own layers read the waves. The null conditioning is zeros, which no number gives, since the
    cosine and sine of an angle are never both zero.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``cond=size``."""

        name: str
        fields: list[str]
        dropout: float
        features: int

        def __post_init__(self) -> None:
            between(0, 1, dropout=self.dropout)
            at_least(2, features=self.features)
            if self.features % 2:
                raise ValueError(f"features is {self.features} but must be even, for sines and cosines")
            if not self.fields:
                raise ValueError("fields is [] but must name a field of kind scalar")

    def __init__(self, config: Config, *, data: DataSpec) -> None:
        super().__init__()
        if len(set(config.fields)) < len(config.fields):
            raise ConfigError(f"cond.{config.name}.fields names a field twice: {', '.join(config.fields)}")
        for field in config.fields:
            require_field(config.name, field, "scalar", data, key="fields")
        self.config = config
        self.dropout = config.dropout
        self.needs = dict.fromkeys(config.fields, "scalar")
        self.spec = CondSpec(vector=len(config.fields) * config.features)

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        pixels = torch.stack([torch.as_tensor(fields[name]).float() for name in self.config.fields], dim=1)
        half = self.config.features // 2
        radians = LONGEST ** (-torch.arange(half) / half)
        return Conditioning(vector=fourier_features(pixels, radians / (2 * torch.pi)).flatten(1))

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        return Conditioning(vector=torch.zeros(batch, self.spec.vector))

"""Condition on a map of classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ldmkit.protocols import Conditioner
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import CondSpec, DataSpec
from ldmkit.values import Conditioning, Fields
from ldmkit_conditioners.fields import require_field, require_indices, require_names


class Semantic(Conditioner):
    """One-hot classes => latent size by area => ``channels`` by a learned 1x1 convolution without bias.

    Rombach et al. 2022, section 4.3.2 (182 classes to 3 channels); their bilinear halving is the mean over an area.
    The null conditioning is a map of zeros: what a map without any class gives, and no map with classes does.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``cond=semantic``."""

        name: str
        field: str
        dropout: float
        channels: int

        def __post_init__(self) -> None:
            between(0, 1, dropout=self.dropout)
            at_least(1, channels=self.channels)

    def __init__(self, config: Config, *, data: DataSpec) -> None:
        super().__init__()
        self.field = config.field
        self.classes = require_names(config.name, self.field, require_field(config.name, self.field, "map", data))
        self.dropout = config.dropout
        self.needs = {self.field: "map"}
        self.spec = CondSpec(map=config.channels)
        self.channel_mapper = nn.Conv2d(self.classes, config.channels, 1, bias=False)

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        labels = torch.as_tensor(fields[self.field])
        require_indices(self.field, labels, self.classes)
        weight = self.channel_mapper.weight
        # Mean and 1x1 convolution commute, and of a one-hot vector the convolution is a row of its weight: the one-hot
        # map, 182 channels at 512 x 512 pixels in the paper, is never made.
        mapped = F.embedding(labels.to(weight.device), weight.flatten(1).T)
        return Conditioning(map=F.interpolate(mapped.movedim(-1, 1), size=latent_size, mode="area"))

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        return Conditioning(map=self.channel_mapper.weight.new_zeros(batch, self.spec.map, *latent_size))

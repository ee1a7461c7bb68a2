"""Colours named in a caption, as a vector."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import nn

from ldmkit.errors import ConfigError
from ldmkit.protocols import Conditioner
from ldmkit.specs import CondSpec, DataSpec
from ldmkit.values import Conditioning, Fields


class Palette(Conditioner):
    """How often each colour word stands in a caption, projected to a vector (B, ``width``).

    The null conditioning is that of a caption without any colour.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``cond=palette``."""

        name: str
        field: str
        colours: list[str]
        width: int
        dropout: float

    def __init__(self, config: Config, *, data: DataSpec) -> None:
        super().__init__()
        if config.field not in data.fields:
            there = ", ".join(sorted(data.fields)) or "no field"
            raise ConfigError(f"cond 'palette' reads the field '{config.field}'; the data has {there}")
        self.field, self.colours = config.field, config.colours
        self.needs = {config.field: "text"}
        self.spec = CondSpec(vector=config.width)
        self.dropout = config.dropout
        self.project = nn.Linear(len(config.colours), config.width)

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        """Captions of B rows => vector (B, width)."""
        words = [re.findall(r"\w+", caption.lower()) for caption in fields[self.field]]
        counts = [[float(row.count(colour)) for colour in self.colours] for row in words]
        colours = torch.tensor(counts, device=self.project.weight.device).view(-1, len(self.colours))
        return Conditioning(vector=self.project(colours))

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        """No colour: the bias alone, (batch, width)."""
        return Conditioning(vector=self.project.bias.expand(batch, -1))

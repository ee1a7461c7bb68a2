"""Condition on a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ldmkit.protocols import Conditioner
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import CondSpec, DataSpec
from ldmkit.values import Conditioning, Fields
from ldmkit_conditioners.fields import require_field, require_indices, require_names


class ClassLabel(Conditioner):
    """A learned row for each class, as one token (Rombach et al. 2022, appendix E.2: width 512) or as a vector.

    The null conditioning is one more learned row, behind those of the classes.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``cond=class``."""

        name: str
        field: str
        dropout: float
        form: Literal["tokens", "vector"]
        width: int

        def __post_init__(self) -> None:
            between(0, 1, dropout=self.dropout)
            at_least(1, width=self.width)

    def __init__(self, config: Config, *, data: DataSpec) -> None:
        super().__init__()
        self.field = config.field
        self.classes = require_names(config.name, self.field, require_field(config.name, self.field, "label", data))
        self.dropout = config.dropout
        self.needs = {self.field: "label"}
        self.spec = CondSpec(**{config.form: config.width})
        self.embedding = nn.Embedding(self.classes + 1, config.width)

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        labels = torch.as_tensor(fields[self.field])
        require_indices(self.field, labels, self.classes)
        return self._embed(labels)

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        return self._embed(torch.full((batch,), self.classes))

    def _embed(self, labels: Tensor) -> Conditioning:
        rows = self.embedding(labels.to(self.embedding.weight.device))
        if self.spec.vector:
            return Conditioning(vector=rows)
        return Conditioning(tokens=rows.unsqueeze(1), mask=torch.ones_like(rows[:, :1], dtype=torch.bool))

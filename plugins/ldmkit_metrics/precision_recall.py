"""Precision and recall of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ldmkit.protocols import Better, DataSource, Metric
from ldmkit.registry.ranges import at_least
from ldmkit.values import Fields
from ldmkit_metrics.features import FeaturesConfig, extractor
from ldmkit_metrics.reference import ReferenceConfig, ReferenceSet

ROWS = 1024
"""Rows of the matrix of distances that are held at a time."""


class PrecisionRecall(Metric):
    """Share of samples that lie among the images (precision), and of images that lie among the samples (recall).

    Kynkaanniemi et al. 2019, "Improved precision and recall metric for assessing generative models", equations 1 and
    2: a set covers the balls about its points that reach to their ``neighbours``-th nearest neighbour in the set. With
    random features the names are ``precision_random`` and ``recall_random``.
    """

    on: ClassVar[str] = "samples"
    section: ClassVar[str] = "samples"
    better: ClassVar[Mapping[str, Better]] = {"precision*": "higher", "recall*": "higher"}

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        features: FeaturesConfig
        reference: ReferenceConfig
        neighbours: int

        def __post_init__(self) -> None:
            at_least(1, neighbours=self.neighbours)

    def __init__(self, config: Config, data: DataSource) -> None:
        self.extractor = extractor(config.features, config.name, data)
        self.reference = ReferenceSet(data, config.reference)
        self.neighbours = config.neighbours
        self.samples: list[Tensor] = []

    def to(self, device: torch.device) -> None:
        self.extractor.device = device

    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Take in uint8 samples (B, C, H, W)."""
        self.samples.append(self.extractor(images))

    def compute(self) -> dict[str, float]:
        """Return ``precision``, ``recall`` and the number of samples, or nothing of too few to have ``neighbours``."""
        count = sum(map(len, self.samples))
        if min(count, self.reference.count) <= self.neighbours:
            return {}
        samples = torch.cat(self.samples).double()
        references = torch.cat(list(self.reference.features(self.extractor))).double()
        mark = self.extractor.mark
        return {
            f"precision{mark}": covered(samples, by=references, neighbours=self.neighbours),
            f"recall{mark}": covered(references, by=samples, neighbours=self.neighbours),
            f"precision{mark}_count": count,
            f"recall{mark}_count": self.reference.count,
        }

    def protocol(self) -> Mapping[str, Any]:
        """Reference set, extractor and neighbours."""
        return {
            "reference": self.reference.protocol(),
            "count": sum(map(len, self.samples)),
            **self.extractor.protocol(),
            "neighbours": self.neighbours,
        }


def covered(points: Tensor, *, by: Tensor, neighbours: int) -> float:
    """Share of ``points`` (N, D) within the ball of a row of ``by`` (M, D), whose radius its neighbours in it set."""
    radii = torch.cat([torch.cdist(rows, by).kthvalue(neighbours + 1).values for rows in by.split(ROWS)])  # + itself
    inside = [(torch.cdist(rows, by) <= radii).any(1) for rows in points.split(ROWS)]
    return torch.cat(inside).double().mean().item()

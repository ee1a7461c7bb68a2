"""FID of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ldmkit.protocols import Better, DataSource, Metric
from ldmkit.values import Fields
from ldmkit_metrics.features import FeaturesConfig, extractor
from ldmkit_metrics.frechet import Moments, frechet_distance
from ldmkit_metrics.reference import ReferenceConfig, ReferenceSet


class FID(Metric):
    """Frechet distance between features of samples and of images of the data; 0 is equal, lower is better.

    Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6. It is ``fid`` with the Inception
    network, and ``fid_random`` with random features, whose numbers are on another scale. Its bias falls with the number
    of samples: only numbers of one count can be compared.
    """

    on: ClassVar[str] = "samples"
    section: ClassVar[str] = "samples"
    better: ClassVar[Mapping[str, Better]] = {"fid*": "lower"}

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        features: FeaturesConfig
        reference: ReferenceConfig

    def __init__(self, config: Config, data: DataSource) -> None:
        self.extractor = extractor(config.features, config.name, data)
        self.reference = ReferenceSet(data, config.reference)
        self.samples = Moments()

    def to(self, device: torch.device) -> None:
        self.extractor.device = device

    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Take in uint8 samples (B, C, H, W)."""
        self.samples.update(self.extractor(images))

    def compute(self) -> dict[str, float]:
        """Return ``fid`` and ``fid_count``, the number of samples; nothing of fewer than two."""
        if self.samples.count < 2:
            return {}
        references = Moments()
        for features in self.reference.features(self.extractor):
            references.update(features)
        name = f"fid{self.extractor.mark}"
        return {name: frechet_distance(self.samples, references), f"{name}_count": self.samples.count}

    def protocol(self) -> Mapping[str, Any]:
        """Reference set and extractor."""
        return {
            "reference": self.reference.protocol(),
            "count": self.samples.count,
            **self.extractor.protocol(),
        }

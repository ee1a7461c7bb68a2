"""FID of reconstructions against their originals."""

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


class RFID(Metric):
    """Frechet distance between features of reconstructions and of their originals; 0 is equal, lower is better.

    Heusel et al. 2017, "GANs trained by a two time-scale update rule", with reconstructions in place of samples, as
    first stages are compared by (Rombach et al. 2022, table 8). It is ``rfid`` with the Inception network, and
    ``rfid_random`` with random features, whose numbers are on another scale. Its bias falls with the number of
    pictures: only numbers of one count can be compared.
    """

    on: ClassVar[str] = "reconstructions"
    section: ClassVar[str] = "first_stage"
    better: ClassVar[Mapping[str, Better]] = {"rfid*": "lower"}

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        features: FeaturesConfig

    def __init__(self, config: Config, data: DataSource) -> None:
        self.extractor = extractor(config.features, config.name, data)
        self.originals, self.reconstructions = Moments(), Moments()

    def to(self, device: torch.device) -> None:
        self.extractor.device = device

    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Take in uint8 ``images`` and their ``references``, both (B, C, H, W)."""
        assert references is not None
        self.originals.update(self.extractor(references))
        self.reconstructions.update(self.extractor(images))

    def compute(self) -> dict[str, float]:
        """Return ``rfid`` and ``rfid_count``, the number of pictures; nothing of fewer than two."""
        if self.originals.count < 2:
            return {}
        name = f"rfid{self.extractor.mark}"
        return {
            name: frechet_distance(self.reconstructions, self.originals),
            f"{name}_count": self.originals.count,
        }

    def protocol(self) -> Mapping[str, Any]:
        """Reference set and extractor."""
        return {"reference": "originals", "count": self.originals.count, **self.extractor.protocol()}

"""The images that samples are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ldmkit.protocols import DataSource
from ldmkit.registry.ranges import at_least
from ldmkit_metrics.features import FeatureExtractor

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """The keys ``reference`` of a metric: the first ``count`` images of a ``split``, all where it is null."""

    split: Literal["train", "validation"]
    count: int | None

    def __post_init__(self) -> None:
        at_least(2, count=self.count)


KEPT_BYTES = 2**30
"""Most features that are kept for the next metric of the same reference set."""

_kept: dict[tuple[str, str, int, FeatureExtractor], list[Tensor]] = {}  # those of one set, the last one


class ReferenceSet:
    """Images of a data source, as it reads them, that is in the size that the model is trained on.

    Metrics with the same reference set and extractor read its images once: the features of the last one are kept.
    """

    def __init__(self, data: DataSource, config: ReferenceConfig) -> None:
        self.data, self.split = data, config.split
        there = data.length(config.split)
        self.count = there if config.count is None else min(config.count, there)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield batches, uint8 (B, C, H, W)."""
        for start in range(0, self.count, BATCH):
            yield self.data.read(self.split, range(start, min(start + BATCH, self.count))).images

    def features(self, extractor: FeatureExtractor) -> Iterator[Tensor]:
        """Yield the features of each batch, (B, D); kept ones where another metric has asked for them before."""
        key = (self.data.digest(), self.split, self.count, extractor)
        if key in _kept:
            yield from _kept[key]
            return
        _kept.clear()
        features: list[Tensor] = []
        size = 0
        for images in self:
            rows = extractor(images)
            size += rows.nbytes
            features = [*features, rows] if size <= KEPT_BYTES else []
            yield rows
        if size <= KEPT_BYTES:
            _kept[key] = features

    def protocol(self) -> dict[str, Any]:
        """Which images these are."""
        return {"data": self.data.digest(), "split": self.split, "count": self.count}

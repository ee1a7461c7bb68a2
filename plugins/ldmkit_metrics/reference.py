"""The images that samples are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ldmkit.protocols import DataSource
from ldmkit.registry.ranges import at_least

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """The keys ``reference`` of a metric: the first ``count`` images of a ``split``, all where it is null."""

    split: Literal["train", "validation"]
    count: int | None

    def __post_init__(self) -> None:
        at_least(2, count=self.count)


class ReferenceSet:
    """Images of a data source, as it reads them, that is in the size that the model is trained on."""

    def __init__(self, data: DataSource, config: ReferenceConfig) -> None:
        self.data, self.split = data, config.split
        there = data.length(config.split)
        self.count = there if config.count is None else min(config.count, there)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield batches, uint8 (B, C, H, W)."""
        for start in range(0, self.count, BATCH):
            yield self.data.read(self.split, range(start, min(start + BATCH, self.count))).images

    def protocol(self) -> dict[str, Any]:
        """Which images these are."""
        return {"data": self.data.digest(), "split": self.split, "count": self.count}

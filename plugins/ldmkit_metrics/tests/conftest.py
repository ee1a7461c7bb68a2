"""A data source of noise, to build metrics with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from ldmkit.protocols import DataSource
from ldmkit.specs import DataSpec
from ldmkit.values import Batch


class Noise(DataSource):
    """Image i is noise of seed i; the images of the two splits are different ones."""

    def __init__(self, size: int = 32, channels: int = 3, length: int = 100) -> None:
        self.spec = DataSpec(size=size, channels=channels)
        self._length = length

    def digest(self) -> str:
        return f"{self.spec.channels}x{self.spec.size}"

    def length(self, split: str) -> int:
        return self._length

    def read(self, split: str, indices: Sequence[int]) -> Batch:
        seeds = [index + 1000 * (split == "validation") for index in indices]
        shape = (self.spec.channels, self.spec.size, self.spec.size)
        images = [
            torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
            for seed in seeds
        ]
        return Batch(torch.stack(images), {})


@pytest.fixture
def noise() -> Callable[..., Noise]:
    """Return ``noise(size=32, channels=3, length=100)``, which makes a data source."""
    return Noise

"""Share of samples that obey their prompt, aspect by aspect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ldmkit.protocols import Better, DataSource, Metric
from ldmkit.values import Fields


class Prompt(Metric):
    """Share of samples that show what their fields ask for, by every aspect that :meth:`DataSource.verify` knows.

    For ``shapes`` these are colour, size, position and shape of a caption, ``class``, ``semantic_iou``, ``boxes``,
    whichever the model is told, and ``all`` of them at once. Of a score it is the mean. Data that cannot verify its
    pictures has no such number, and the measurement is empty.
    """

    on: ClassVar[str] = "samples"
    section: ClassVar[str] = "prompt"
    better: ClassVar[Mapping[str, Better]] = {"*": "higher"}

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config: Config, data: DataSource) -> None:
        self.data = data
        self.right: dict[str, float] = defaultdict(float)
        self.count = 0

    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Read uint8 ``images`` (B, C, H, W) back and compare with ``fields``."""
        verdict = self.data.verify(images, fields)
        if verdict is not None:
            for aspect, right in verdict.items():
                self.right[aspect] += float(right.sum())
            self.count += len(images)

    def compute(self) -> dict[str, float]:
        """Return the share by aspect and ``count``, the number of samples read; or nothing."""
        if not self.count:
            return {}
        return {aspect: right / self.count for aspect, right in self.right.items()} | {"count": self.count}

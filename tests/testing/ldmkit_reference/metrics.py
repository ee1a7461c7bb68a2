"""Mean absolute error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ldmkit.protocols import DataSource, Metric
from ldmkit.values import Fields


class Error(Metric):
    """Mean absolute error of reconstructions, divided by ``unit``."""

    on: ClassVar[str] = "reconstructions"
    section: ClassVar[str] = "first_stage"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        unit: float

    def __init__(self, config: Config, data: DataSource) -> None:
        self.unit, self.total, self.count = config.unit, 0.0, 0

    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        assert references is not None
        self.total += (images.double() - references.double()).abs().flatten(1).mean(1).sum().item() / self.unit
        self.count += len(images)

    def compute(self) -> dict[str, float]:
        return {"error": self.total / self.count, "error_count": self.count} if self.count else {}

    def protocol(self) -> Mapping[str, Any]:
        return {"unit": self.unit}

"""Share of reconstructions that the data's verifier still accepts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ldmkit.protocols import Better, DataSource, Metric
from ldmkit.values import Fields


class Verified(Metric):
    """Share of reconstructions out of which :meth:`DataSource.verify` reads everything that their fields say.

    It measures what PSNR does not: whether the content survived. Data that cannot verify its pictures, a folder of
    photographs for instance, has no such number, and the measurement is empty.
    """

    on: ClassVar[str] = "reconstructions"
    section: ClassVar[str] = "first_stage"
    better: ClassVar[Mapping[str, Better]] = {"verified": "higher"}

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config: Config, data: DataSource) -> None:
        self.data = data
        self.right = 0
        self.count = 0

    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Read uint8 ``images`` (B, C, H, W) back and compare with ``fields``."""
        verdict = self.data.verify(images, fields)
        if verdict is not None:
            self.right += int(verdict["all"].sum())
            self.count += len(images)

    def compute(self) -> dict[str, float]:
        """Return ``verified``, a share, and ``verified_count``, the number of pictures read; or nothing."""
        return {"verified": self.right / self.count, "verified_count": self.count} if self.count else {}

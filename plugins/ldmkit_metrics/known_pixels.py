"""How well inpainting leaves alone what is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ldmkit.protocols import Better, DataSource, Metric
from ldmkit.values import Fields


class KnownPixels(Metric):
    """Mean absolute error of known pixels as the model drew them, in levels of 0..255, averaged over the pictures.

    It is measured before known pixels are put back; afterwards it is 0. What is left is the error of the first stage
    and of the denoiser. Pictures of which nothing is known do not count, and a run without masks has no such number.
    """

    on: ClassVar[str] = "drawn"
    section: ClassVar[str] = "inpainting"
    better: ClassVar[Mapping[str, Better]] = {"known_error": "lower"}

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        field: str

    def __init__(self, config: Config, data: DataSource) -> None:
        self.field = config.field
        self.error = self.share = 0.0
        self.count = 0

    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Compare uint8 ``images`` with ``references``, both (B, C, H, W), where the mask (B, H, W) is False."""
        if references is None or self.field not in fields:
            return
        known = ~fields[self.field].flatten(1)
        off = (images.double() - references.double()).abs().mean(1).flatten(1)
        pixels = known.sum(1)
        self.error += float(((off * known).sum(1) / pixels.clamp_min(1)).sum())
        self.share += float(known.double().mean(1).sum())
        self.count += int((pixels > 0).sum())

    def compute(self) -> dict[str, float]:
        """Return ``known_error``, ``known_share`` (of the pixels) and ``known_count``; nothing when there was none."""
        if not self.count:
            return {}
        return {
            "known_error": self.error / self.count,
            "known_share": self.share / self.count,
            "known_count": self.count,
        }

    def protocol(self) -> Mapping[str, Any]:
        """Range, and that nothing was put back."""
        return {"reference": "originals", "range": 255, "pasted": False}

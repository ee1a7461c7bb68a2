"""Peak signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ldmkit.pretrained.torchvision_operators import importing
from ldmkit.protocols import Better, DataSource, Metric
from ldmkit.values import Fields


class PSNR(Metric):
    """10 log10(255^2 / MSE) in dB of each reconstruction, averaged over the pictures; higher is better.

    The mean is over pictures, as papers report it, not over pixels of all pictures at once. A picture without any
    error has infinite PSNR; it counts as ``CEILING``, so that one such picture does not swallow the others and
    ``metrics.json`` stays JSON. A picture with an error lies below it: one level in one of C * H * W values is
    48.1 dB + 10 log10(C * H * W), which passes 100 dB only above 153,787 values.
    """

    on: ClassVar[str] = "reconstructions"
    section: ClassVar[str] = "first_stage"
    better: ClassVar[Mapping[str, Better]] = {"psnr": "higher"}
    CEILING: ClassVar[float] = 100.0

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config: Config, data: DataSource) -> None:
        self.total = 0.0
        self.count = 0

    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Compare uint8 ``images`` with ``references``, both (B, C, H, W)."""
        with importing():
            from torchmetrics.functional.image import peak_signal_noise_ratio

        assert references is not None
        per_picture = peak_signal_noise_ratio(
            images.double(), references.double(), data_range=255.0, reduction="none", dim=(1, 2, 3)
        )
        self.total += per_picture.clamp(max=self.CEILING).sum().item()
        self.count += len(images)

    def compute(self) -> dict[str, float]:
        """Return ``psnr`` in dB and ``psnr_count``, the number of pictures; nothing when there was none."""
        return {"psnr": self.total / self.count, "psnr_count": self.count} if self.count else {}

    def protocol(self) -> Mapping[str, Any]:
        """Range and mean."""
        return {"reference": "originals", "range": 255, "mean": "over pictures", "ceiling": self.CEILING}

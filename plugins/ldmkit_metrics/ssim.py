"""Structural similarity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.pretrained.torchvision_operators import importing
from ldmkit.protocols import Better, DataSource, Metric
from ldmkit.values import Fields


class SSIM(Metric):
    """Structural similarity of each reconstruction, averaged over channels, places and pictures: -1 to 1, 1 is equal.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", equation 13, with
    their constants: Gaussian window of 11 x 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, range 255. Each colour
    channel is taken by itself; the border is mirrored, so that every pixel is the middle of a window.
    """

    on: ClassVar[str] = "reconstructions"
    section: ClassVar[str] = "first_stage"
    better: ClassVar[Mapping[str, Better]] = {"ssim": "higher"}
    WINDOW: ClassVar[int] = 11
    SIGMA: ClassVar[float] = 1.5

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config: Config, data: DataSource) -> None:
        if data.spec.size < self.WINDOW:
            raise ConfigError(
                f"metric 'ssim' needs pictures of {self.WINDOW} pixels or more, and the data's have {data.spec.size}; "
                "leave it out: metric=[psnr]"
            )
        self.total = 0.0
        self.count = 0

    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Compare uint8 ``images`` with ``references``, both (B, C, H, W)."""
        with importing():
            from torchmetrics.functional.image import structural_similarity_index_measure

        assert references is not None
        per_picture = structural_similarity_index_measure(
            images.double(),
            references.double(),
            gaussian_kernel=True,
            sigma=self.SIGMA,
            kernel_size=self.WINDOW,
            data_range=255.0,
            reduction="none",
        )
        assert isinstance(per_picture, Tensor)
        self.total += per_picture.sum().item()
        self.count += len(images)

    def compute(self) -> dict[str, float]:
        """Return ``ssim`` and ``ssim_count``, the number of pictures; nothing when there was none."""
        return {"ssim": self.total / self.count, "ssim_count": self.count} if self.count else {}

    def protocol(self) -> Mapping[str, Any]:
        """Window, range and mean."""
        return {
            "reference": "originals",
            "window": f"Gaussian {self.WINDOW} x {self.WINDOW}, sigma {self.SIGMA}",
            "range": 255,
            "mean": "over channels, places and pictures",
        }

"""What super-resolution gains over enlarging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ldmkit.pretrained.lpips import Backbone
from ldmkit.protocols import Better, DataSource, Metric
from ldmkit.values import Fields, to_pixels, to_uint8
from ldmkit_metrics.lpips import LPIPS
from ldmkit_metrics.psnr import PSNR


class SuperResolution(Metric):
    """PSNR and LPIPS of samples and of bicubic enlargements of what the model was given, both against the originals.

    The measures of Rombach et al. 2022, table 5, and the baseline that any model has to beat. Samples of a run that was
    given no low-resolution pictures have no such numbers, and the measurement is empty.
    """

    on: ClassVar[str] = "samples"
    section: ClassVar[str] = "super_resolution"
    better: ClassVar[Mapping[str, Better]] = {"psnr": "higher", "lpips*": "lower"}

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        field: str
        network: Backbone
        backbone: Literal["pretrained", "random"]
        weights: str | None

    def __init__(self, config: Config, data: DataSource) -> None:
        self.field = config.field
        distance = LPIPS.Config(
            name=config.name, network=config.network, backbone=config.backbone, weights=config.weights
        )
        self.measures: dict[str, list[Metric]] = {
            prefix: [PSNR(PSNR.Config(name=config.name), data), LPIPS(distance, data)] for prefix in ("", "bicubic_")
        }

    def to(self, device: torch.device) -> None:
        for metrics in self.measures.values():
            for metric in metrics:
                metric.to(device)

    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Compare uint8 ``images`` and the enlarged field with ``references``, both (B, C, H, W)."""
        if references is None or self.field not in fields:
            return
        enlarged = F.interpolate(to_pixels(fields[self.field]), size=references.shape[-2:], mode="bicubic")
        for prefix, pictures in (("", images), ("bicubic_", to_uint8(enlarged))):
            for metric in self.measures[prefix]:
                metric.update(pictures, references, fields)

    def compute(self) -> dict[str, float]:
        """Return ``psnr`` in dB, ``lpips`` or ``lpips_random``, the same as ``bicubic_...``, and their counts."""
        return {
            f"{prefix}{name}": value
            for prefix, metrics in self.measures.items()
            for metric in metrics
            for name, value in metric.compute().items()
        }

    def protocol(self) -> Mapping[str, Any]:
        """How PSNR and LPIPS were measured."""
        psnr, lpips = self.measures[""]
        return {"field": self.field, "psnr": dict(psnr.protocol()), "lpips": dict(lpips.protocol())}

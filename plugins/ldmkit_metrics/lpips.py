"""Learned perceptual distance of reconstructions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.pretrained.lpips import RANDOM_VERSION, SMALLEST, Backbone, PerceptualDistance, find_backbone, pretrained
from ldmkit.pretrained.weights import sha256
from ldmkit.protocols import Better, DataSource, Metric
from ldmkit.values import Fields, to_pixels


class LPIPS(Metric):
    """Distance of deep features of a reconstruction and its original, averaged over the pictures; 0 is equal.

    Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric", equation 1, by the
    lpips package with its heads of version 0.1. The backbone has the weights of torchvision, or fixed random ones,
    which need no file; the number is then called ``lpips_random``, and is on another scale.
    """

    on: ClassVar[str] = "reconstructions"
    section: ClassVar[str] = "first_stage"
    better: ClassVar[Mapping[str, Better]] = {"lpips*": "lower"}

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        network: Backbone
        backbone: Literal["pretrained", "random"]
        weights: str | None

    def __init__(self, config: Config, data: DataSource) -> None:
        where = f"metric '{config.name}'"
        if data.spec.channels not in (1, 3):
            raise ConfigError(f"{where} takes pictures of 1 or 3 channels, and the data's have {data.spec.channels}")
        if data.spec.size < SMALLEST[config.network]:
            raise ConfigError(
                f"{where} with network={config.network} needs pictures of {SMALLEST[config.network]} pixels or more, "
                f"and the data's have {data.spec.size}; leave it out: metric=[psnr]"
            )
        self.config, self.file = config, None
        if config.backbone == "pretrained":
            key = f"metric.{config.name}"
            self.file = find_backbone(
                config.network,
                config.weights,
                for_what=where,
                key=f"{key}.weights",
                instead=f"{key}.backbone=random",
            )
        distance(config.network, self.file)  # a file that holds something else is told now
        self.device = torch.device("cpu")
        self.total, self.count = 0.0, 0

    def to(self, device: torch.device) -> None:
        self.device = device

    @torch.no_grad()
    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Compare uint8 ``images`` with ``references``, both (B, 1 or 3, H, W); grey is taken as RGB."""
        assert references is not None
        network = distance(self.config.network, self.file).to(self.device)
        pair = [to_pixels(each.to(self.device)) for each in (images, references)]
        self.total += network(*pair).double().sum().item()
        self.count += len(images)

    def compute(self) -> dict[str, float]:
        """Return ``lpips`` or ``lpips_random``, and the number of pictures; nothing when there was none."""
        name = "lpips_random" if self.file is None else "lpips"
        return {name: self.total / self.count, f"{name}_count": self.count} if self.count else {}

    def protocol(self) -> Mapping[str, Any]:
        """Network and weights."""
        backbone = f"random, version {RANDOM_VERSION}" if self.file is None else f"sha256 {sha256(self.file)}"
        return {"reference": "originals", "network": self.config.network, "weights": backbone, "heads": "lpips 0.1"}


@cache
def distance(network: Backbone, file: Path | None) -> PerceptualDistance:
    """One network for all metrics of a process: on the weights of ``file``, random ones where it is None."""
    return PerceptualDistance(network, None) if file is None else pretrained(network, file)

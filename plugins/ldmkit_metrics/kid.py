"""KID of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ldmkit.protocols import Better, DataSource, Metric
from ldmkit.values import Fields
from ldmkit_metrics.features import FeaturesConfig, extractor
from ldmkit_metrics.reference import ReferenceConfig, ReferenceSet

ROWS = 1024
"""Rows of the kernel matrix that are held at a time."""


class KID(Metric):
    """Squared maximum mean discrepancy between features of samples and of images; 0 in the mean where they are alike.

    Binkowski et al. 2018, "Demystifying MMD GANs", section 4, with their kernel (x y / D + 1)^3 and the unbiased
    estimator over all pairs, which is what the mean over random subsets estimates. Unbiased, so numbers of different
    counts can be compared, and one of few samples may be below 0. It is ``kid`` with the Inception network, and
    ``kid_random`` with random features, whose numbers are on another scale.
    """

    on: ClassVar[str] = "samples"
    section: ClassVar[str] = "samples"
    better: ClassVar[Mapping[str, Better]] = {"kid*": "lower"}

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        features: FeaturesConfig
        reference: ReferenceConfig

    def __init__(self, config: Config, data: DataSource) -> None:
        self.extractor = extractor(config.features, config.name, data)
        self.reference = ReferenceSet(data, config.reference)
        self.samples: list[Tensor] = []

    def to(self, device: torch.device) -> None:
        self.extractor.device = device

    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Take in uint8 samples (B, C, H, W)."""
        self.samples.append(self.extractor(images))

    def compute(self) -> dict[str, float]:
        """Return ``kid`` and ``kid_count``, the number of samples; nothing of fewer than two."""
        count = sum(map(len, self.samples))
        if count < 2:
            return {}
        references = torch.cat(list(self.reference.features(self.extractor)))
        name = f"kid{self.extractor.mark}"
        return {name: squared_mmd(torch.cat(self.samples), references), f"{name}_count": count}

    def protocol(self) -> Mapping[str, Any]:
        """Reference set, extractor and kernel."""
        return {
            "reference": self.reference.protocol(),
            "count": sum(map(len, self.samples)),
            **self.extractor.protocol(),
            "kernel": "(x y / D + 1)^3, all pairs",
        }


def squared_mmd(one: Tensor, other: Tensor) -> float:
    """Unbiased estimate of the squared MMD between features (N, D) and (M, D), N and M 2 or more.

    Gretton et al. 2012, "A kernel two-sample test", equation 3; in float64.
    """
    one, other = one.double(), other.double()
    n, m = len(one), len(other)
    within_one = (_kernel_sum(one, one) - _diagonal_sum(one)) / (n * (n - 1))
    within_other = (_kernel_sum(other, other) - _diagonal_sum(other)) / (m * (m - 1))
    return within_one + within_other - 2 * _kernel_sum(one, other) / (n * m)


def _kernel_sum(one: Tensor, other: Tensor) -> float:
    width = one.shape[1]
    return sum((rows @ other.T / width + 1).pow(3).sum().item() for rows in one.split(ROWS))


def _diagonal_sum(features: Tensor) -> float:
    return (features.square().mean(1) + 1).pow(3).sum().item()

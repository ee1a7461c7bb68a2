"""Features of pictures, in which sets of pictures are compared: what an extractor is, and extractors by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ldmkit.errors import ConfigError
from ldmkit.protocols import DataSource


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """The keys ``features`` of a metric: the ``extractor`` by name, and a file of ``weights`` (null: torch's cache)."""

    extractor: Literal["inception", "random"]
    weights: str | None


class FeatureExtractor(ABC):
    """Maps pictures to features.

    ``mark`` is put behind the names of the numbers, so that those of an unusual extractor cannot be taken for others.
    """

    mark: ClassVar[str] = ""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    @abstractmethod
    def network(self) -> nn.Module:
        """Make the network: uint8 (B, 3, H, W) => float32 (B, D), frozen and in eval mode."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """What determines the features: ``extractor``, ``weights``, ``resize``."""

    def ready(self) -> None:
        """Make the network now."""
        _ = self._network

    @cached_property
    def _network(self) -> nn.Module:
        return self.network()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 pictures (B, 1 or 3, H, W) => features float32 (B, D), on the CPU; grey is taken as RGB."""
        rgb = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        features: Tensor = self._network.to(self.device)(rgb.to(self.device))
        return features.float().cpu()


_made: dict[FeaturesConfig, FeatureExtractor] = {}


def extractor(config: FeaturesConfig, metric: str, data: DataSource) -> FeatureExtractor:
    """Return the extractor of ``config`` for the ``metric`` of that name; one network serves all metrics of a process.

    Its network is made here, before anything is trained. Raises ConfigError where weights or packages are missing, or
    the pictures of ``data`` are neither grey nor RGB; CheckpointError where a file holds other weights.
    """
    if data.spec.channels not in (1, 3):
        raise ConfigError(
            f"metric '{metric}' takes pictures of 1 or 3 channels, and the data's have {data.spec.channels}"
        )
    if config not in _made:
        made = _extractor(config, metric)
        made.ready()
        _made[config] = made
    return _made[config]


def _extractor(config: FeaturesConfig, metric: str) -> FeatureExtractor:
    if config.extractor == "random":
        from ldmkit_metrics.random_features import RandomFeatures

        return RandomFeatures()
    from ldmkit_metrics.inception import InceptionFeatures

    return InceptionFeatures(config.weights, metric)

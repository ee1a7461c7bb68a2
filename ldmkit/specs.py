"""What parts tell each other about themselves before anything runs. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Spacing = Literal["trailing", "leading", "linspace", "karras", "exponential", "uniform-log-snr", "beta", "compvis"]
"""How the levels of a sampling run are placed among those of training; ``ldmkit.diffusion.spacing`` defines each."""

FIELD_KINDS = ("text", "label", "map", "boxes", "image", "mask", "scalar")


@dataclass(frozen=True, kw_only=True)
class LatentSpec:
    """The latent grid of a first stage: ``channels`` x (H / ``factor``) x (W / ``factor``).

    ``predictions`` is how many numbers a denoiser gives for each number of a latent; its objective says so.
    """

    channels: int
    factor: int
    predictions: int = 1

    @property
    def outputs(self) -> int:
        """Channels that a denoiser gives."""
        return self.channels * self.predictions


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far a first stage looks, in positions of the latent grid, in each of the four directions.

    A latent depends on no pixel more than ``encode`` positions away, a pixel on no latent more than ``decode`` away.
    """

    encode: int
    decode: int


@dataclass(frozen=True, kw_only=True)
class CondSpec:
    """Widths of the three forms that conditioning takes; 0 says that a form is absent.

    ``tokens`` is the width D of a sequence (B, M, D), ``vector`` the width E of (B, E), ``map`` the channels K of
    (B, K, h, w) at latent size.
    """

    tokens: int = 0
    vector: int = 0
    map: int = 0

    @property
    def forms(self) -> frozenset[str]:
        """Names of the forms that are present."""
        return frozenset(name for name in ("tokens", "vector", "map") if getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """AdamW without weight decay: its peak learning rate ``lr``, its two ``betas`` in [0, 1)."""

    lr: float
    betas: tuple[float, float]


@dataclass(frozen=True)
class FieldSpec:
    """One field of the data beside the image.

    ``kind`` is one of ``FIELD_KINDS`` and says what a batch holds: text, a list of B strings; label, int64 (B,);
    map, int64 (B, H, W) of class indices; boxes, a list of B tensors (N, 5); scalar, float32 (B,); image, uint8
    (B, C, H, W); mask, bool (B, H, W), True where pixels are missing; more in ``ldmkit.values``. ``names`` are the
    classes of a label, map or boxes, by index. The sides of an image or mask are those of the picture divided by
    ``factor``; 0: it may have any size.
    """

    kind: str
    names: tuple[str, ...] = ()
    factor: int = 0


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What a data source delivers: square images of ``size`` pixels with ``channels`` channels, and named fields."""

    size: int
    channels: int
    fields: Mapping[str, FieldSpec] = field(default_factory=dict)

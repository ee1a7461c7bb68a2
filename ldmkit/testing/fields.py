"""Made-up data for parts that read fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from ldmkit.artifacts.random import generator
from ldmkit.protocols import FirstStage
from ldmkit.specs import DataSpec, FieldSpec, LatentSpec
from ldmkit.values import Posterior

DATA = DataSpec(
    size=32,
    channels=3,
    fields={
        "caption": FieldSpec(kind="text"),
        "class": FieldSpec(kind="label", names=("ant", "bee", "cat", "dog", "elk")),
        "semantic": FieldSpec(kind="map", names=("sky", "sea", "sand", "rock")),
        "weight": FieldSpec(kind="scalar"),
        "boxes": FieldSpec(kind="boxes", names=("ant", "bee", "cat", "dog", "elk")),
        **{name: FieldSpec(kind="scalar") for name in ("original_height", "original_width", "crop_top", "crop_left")},
    },
)
"""Fields of the kinds that data sources have, under the names that they mostly have."""

WORDS = [
    "a",
    "small",
    "large",
    "red",
    "green",
    "blue",
    "circle",
    "square",
    "star",
    "left",
    "right",
    "of",
    "above",
    "and",
]

STRANGE_TEXTS = (
    "",
    " ",
    "\n\t\u0000\u200f",
    "\N{UNICORN FACE}" * 200 + "\U0001f469\u200d\U0001f680",
    "\u05e9\u05dc\u05d5\u05dd \u4f60\u597d \u0645\u0631\u062d\u0628\u0627",
    "a red circle " * 769 + "end",
    "x" * 10_000,
)
"""Text as people write it: nothing, controls, emoji, other scripts, 10,000 characters with spaces and without."""


def _boxes(numbers: Generator, count: int, classes: int) -> Tensor:
    corners = numbers.random((2, count, 2))
    labels = numbers.integers(classes, size=(count, 1))
    return torch.from_numpy(np.concatenate([corners.min(0), corners.max(0), labels], axis=1).astype("float32"))


def made_up(spec: DataSpec, count: int) -> dict[str, Any]:
    """``count`` rows of every field of ``spec``."""
    rows: dict[str, Any] = {}
    for name, field in spec.fields.items():
        numbers = generator("testing", name)
        if field.kind == "text":
            rows[name] = [" ".join(numbers.choice(WORDS, 3 + row % 5)) for row in range(count)]
        elif field.kind == "label":
            rows[name] = torch.arange(count) % len(field.names)
        elif field.kind == "map":
            rows[name] = torch.from_numpy(numbers.integers(len(field.names), size=(count, spec.size, spec.size)))
        elif field.kind == "scalar":
            rows[name] = torch.from_numpy(numbers.standard_normal(count, "float32"))
        elif field.kind == "boxes":
            rows[name] = [_boxes(numbers, row % 4, len(field.names)) for row in range(1, count + 1)]
        elif field.kind in ("image", "mask"):
            side = spec.size // max(field.factor, 1)
            images = pictures(count, spec.channels, side, side)
            rows[name] = images if field.kind == "image" else images[:, 0] > 127
    return rows


def pictures(*shape: int) -> Tensor:
    """Pictures of noise, uint8, ``shape`` being (B, C, H, W)."""
    return torch.from_numpy(generator("testing", "pictures").integers(256, size=shape, dtype="uint8"))


class Averages(FirstStage):
    """A first stage without weights, for conditioners that work in latents: mean colours of 8 x 8 pixels."""

    spec = LatentSpec(channels=4, factor=8)

    def encode(self, images: Tensor) -> Posterior:
        colours = F.avg_pool2d(images, self.spec.factor)
        mean = torch.cat([colours, colours.mean(1, keepdim=True).expand(-1, 3, -1, -1)], dim=1)[:, : self.spec.channels]
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, latents: Tensor) -> Tensor:
        colours = latents[:, :3].repeat_interleave(self.spec.factor, 2)
        return colours.repeat_interleave(self.spec.factor, 3)

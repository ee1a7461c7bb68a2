"""Pictures of random dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from ldmkit.artifacts.random import generator
from ldmkit.protocols import DataSource
from ldmkit.specs import DataSpec, FieldSpec
from ldmkit.values import Batch, Fields


class Dots(DataSource):
    """Noise in one of two brightnesses, which the label names."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        size: int
        train: int
        seed: int
        threads: int

    def __init__(self, config: Config) -> None:
        self.config = config
        fields = {"class": FieldSpec(kind="label", names=("dark", "bright")), "caption": FieldSpec(kind="text")}
        self.spec = DataSpec(size=config.size, channels=3, fields=fields)

    def digest(self) -> str:
        keys = {key: value for key, value in asdict(self.config).items() if key != "threads"}
        return generator(repr(keys)).bytes(8).hex()

    def length(self, split: str) -> int:
        return {"train": self.config.train, "validation": 12}[split]

    def read(self, split: str, indices: Sequence[int]) -> Batch:
        images = np.zeros((len(indices), 3, self.config.size, self.config.size), np.uint8)
        for image, index in zip(images, indices, strict=True):
            low = 128 * (index % 2)
            image[:] = generator(self.config.seed, split, index).integers(low, low + 128, image.shape)
        labels = torch.tensor([index % 2 for index in indices], dtype=torch.int64)
        captions = [self.spec.fields["class"].names[label] for label in labels]
        return Batch(torch.from_numpy(images), {"class": labels, "caption": captions})

    def verify(self, images: Tensor, fields: Fields) -> Mapping[str, Tensor]:
        bright = images.float().mean((1, 2, 3)) > 127
        return {"all": bright == fields["class"].bool()}

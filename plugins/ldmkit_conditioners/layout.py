"""Condition on boxes with labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldmkit.errors import ConfigError, DataError
from ldmkit.registry.ranges import at_least
from ldmkit.specs import DataSpec
from ldmkit.values import Conditioning, Fields
from ldmkit_conditioners.fields import require_field, require_names
from ldmkit_conditioners.fourier import fourier_features
from ldmkit_conditioners.sequence import SequenceConditioner, SequenceConfig

START, NULL, SPECIAL = 1, 2, 3
"""Numbers of the token before the boxes and of the one that says that nothing is told; classes begin at ``SPECIAL``."""

PER_BOX = 3


class Layout(SequenceConditioner):
    """Boxes as tokens, three each: top left corner, bottom right corner, class (Rombach et al. 2022, section 4.3.1).

    Corners are the points of a square grid, the finest for which ``vocabulary`` has numbers left beside the classes.
    Boxes come in the order of their area, the largest first, whatever order they are given in. Where there are more
    than (``length`` - 1) / 3, the smallest are left out, which is said with their number: of the data once, then each
    time that boxes are left out. The null conditioning is a token of its own; a picture without boxes is not null.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SequenceConfig):
        """Keys of ``cond=layout``."""

        def __post_init__(self) -> None:
            at_least(1 + PER_BOX, length=self.length)
            super().__post_init__()

    def __init__(self, config: Config, *, data: DataSpec) -> None:
        classes = require_names(config.name, config.field, require_field(config.name, config.field, "boxes", data))
        grid = math.isqrt(max(0, config.vocabulary - SPECIAL - classes))
        if grid < 2:
            raise ConfigError(
                f"cond.{config.name}.vocabulary is {config.vocabulary}, but {classes} classes and a grid of corners "
                f"need {SPECIAL + classes + 4} or more, and {SPECIAL + classes + 32**2} for a grid of 32 x 32"
            )
        super().__init__(config)
        self.config = config
        self.needs = {config.field: "boxes"}
        self.classes, self.grid = classes, grid
        self.most = (config.length - 1) // PER_BOX
        self._begin()

    def fit(self, fields: Fields, directory: Path) -> None:
        """Say how many training pictures have more boxes than fit. Nothing is learned."""
        self._fitting(fields[self.config.field], "training pictures")

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        boxes = [torch.as_tensor(one, dtype=torch.float32, device="cpu") for one in fields[self.config.field]]
        self._check(boxes)
        return self.encode([self._numbers(one) for one in self._fitting(boxes, "pictures of a batch")])

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        return self.encode_null([NULL], batch)

    def _begin(self) -> None:
        """Begin with corners that are alike where they are near, and with a place in the row that is hard to miss.

        A corner is met too rarely to be learned on its own, and means another thing as the first of a box than as the
        second.
        """
        axis = torch.arange(self.grid) / (self.grid - 1)
        points = torch.stack([axis.repeat(self.grid), axis.repeat_interleave(self.grid)], dim=1)  # (x, y) row by row
        frequencies = 0.5 * (self.grid / 2) ** torch.linspace(0, 1, self.spec.tokens // 4)  # cycles in a picture
        features = math.sqrt(2) * fourier_features(points, frequencies).flatten(1)
        first = SPECIAL + self.classes
        with torch.no_grad():
            self.transformer.token_emb.weight[first : first + len(points), : features.shape[1]] = features
            self.transformer.pos_emb.emb.weight.normal_()

    def _fitting(self, boxes: Sequence[Tensor], what: str) -> list[Tensor]:
        """Sort each picture's boxes (N, 5), and leave the smallest out where there are too many."""
        name, counts = self.config.name, [len(one) for one in boxes]
        crowded = [row for row, count in enumerate(counts) if count > self.most]
        if crowded:
            worst = max(crowded, key=lambda row: counts[row])
            self.warn_of_loss(
                f"{what} {[boxes[row].tolist() for row in crowded]}",
                f"cond '{name}': {len(crowded)} of {len(boxes)} {what} have more than {self.most} boxes and lose the "
                f"smallest, number {worst} has the most ({counts[worst]}); raise cond.{name}.length to "
                f"{1 + PER_BOX * counts[worst]}",
            )
        return [one[_by_area(one)][: self.most] for one in boxes]

    def _numbers(self, boxes: Tensor) -> list[int]:
        """Boxes (N, 5) of one picture => numbers of their tokens, behind the start."""
        steps = (boxes[:, :4] * (self.grid - 1)).round().long()
        corners = SPECIAL + self.classes + steps[:, 1::2] * self.grid + steps[:, ::2]  # (N, 2)
        return [START, *torch.cat([corners, SPECIAL + boxes[:, 4:].long()], dim=1).flatten().tolist()]

    def _check(self, boxes: Sequence[Tensor]) -> None:
        """Raise :class:`DataError` unless all boxes are corners in [0, 1] with a class that there is."""
        for row, one in enumerate(boxes):
            if one.ndim != 2 or one.shape[1] != 5:
                raise DataError(
                    f"field '{self.config.field}': the boxes of picture {row} are {tuple(one.shape)}; expected (N, 5)"
                )
        together = torch.cat([torch.zeros(0, 5), *boxes])
        inside = ((together[:, :4] >= 0) & (together[:, :4] <= 1)).all(1)
        known = (together[:, 4] >= 0) & (together[:, 4] < self.classes)
        if not (inside & known).all():
            wrong = together[~(inside & known)][0].tolist()
            raise DataError(
                f"field '{self.config.field}' holds the box {wrong}; expected left, top, right, bottom as fractions of "
                f"the picture, and a class from 0 to {self.classes - 1}"
            )


def _by_area(boxes: Tensor) -> list[int]:
    """Order by area, the largest first; of equal ones by their numbers."""
    rows = boxes.tolist()
    areas = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).tolist()
    return sorted(range(len(rows)), key=lambda index: (-areas[index], rows[index]))

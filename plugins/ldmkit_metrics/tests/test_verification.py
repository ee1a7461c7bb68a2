"""Shares of right pictures, for data that can tell and for data that cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from ldmkit_metrics.prompt import Prompt
from ldmkit_metrics.verified import Verified

from ldmkit.protocols import DataSource
from ldmkit.specs import DataSpec
from ldmkit.values import Batch, Fields


class Brightness(DataSource):
    """A picture is as bright as its field ``level`` says; it is ``large`` when it is wider than high."""

    def __init__(self) -> None:
        self.spec = DataSpec(size=4, channels=1)

    def digest(self) -> str:
        return ""

    def length(self, split: str) -> int:
        return 0

    def read(self, split: str, indices: Sequence[int]) -> Batch:
        raise NotImplementedError

    def verify(self, images: torch.Tensor, fields: Fields) -> Mapping[str, torch.Tensor] | None:
        colour = images.float().mean((1, 2, 3)) == torch.tensor(fields["level"])
        size = torch.tensor(fields["wide"])
        return {"colour": colour, "size": size, "all": colour & size}


class Photographs(Brightness):
    def verify(self, images: torch.Tensor, fields: Fields) -> None:
        return None


IMAGES = torch.tensor([1, 2, 3, 4], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 4, 4)
FIELDS = {"level": [1, 2, 3, 0], "wide": [True, False, True, True]}


def fed(metric: Prompt | Verified) -> Prompt | Verified:
    for rows in (slice(0, 3), slice(3, 4)):
        metric.update(IMAGES[rows], IMAGES[rows], {name: values[rows] for name, values in FIELDS.items()})
    return metric


def test_prompt_gives_the_share_of_each_aspect_over_all_batches() -> None:
    metric = fed(Prompt(Prompt.Config(name="prompt"), data=Brightness()))
    assert metric.compute() == {"colour": 0.75, "size": 0.75, "all": 0.5, "count": 4}


def test_verified_gives_the_share_that_is_right_in_everything() -> None:
    metric = fed(Verified(Verified.Config(name="verified"), data=Brightness()))
    assert metric.compute() == {"verified": 0.5, "verified_count": 4}


@pytest.mark.parametrize("part", [Prompt, Verified])
def test_data_that_cannot_verify_leaves_the_measurement_empty(part: type[Prompt] | type[Verified]) -> None:
    assert fed(part(part.Config(name="x"), data=Photographs())).compute() == {}


def test_an_aspect_that_is_never_right_is_zero_and_not_missing() -> None:
    metric = Prompt(Prompt.Config(name="prompt"), data=Brightness())
    metric.update(IMAGES, None, {"level": [0] * 4, "wide": [False] * 4})
    assert metric.compute() == {"colour": 0.0, "size": 0.0, "all": 0.0, "count": 4}


def test_prompt_gives_the_mean_of_a_score() -> None:
    class Graded(Brightness):
        def verify(self, images: torch.Tensor, fields: Fields) -> Mapping[str, torch.Tensor] | None:
            score = images.double().mean((1, 2, 3)) / 4
            return {"iou": score, "all": score >= 0.8}

    metric = fed(Prompt(Prompt.Config(name="prompt"), data=Graded()))
    assert metric.compute() == {"iou": 0.625, "all": 0.25, "count": 4}

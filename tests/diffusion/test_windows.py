"""Windows: the denoiser sees a large grid piece by piece, and no more than one piece at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ldmkit
from ldmkit.diffusion.windows import Windows
from ldmkit.values import Conditioning, Levels

LEVEL = Levels(torch.tensor(0.6), torch.tensor(0.8), torch.tensor(500.0))


class PointWise:
    """An estimate that looks at one place at a time, and remembers how much it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, ...]] = []
        self.prepared = 0

    def prepare(self, conditioning: Conditioning) -> Any:
        self.prepared += 1
        return conditioning

    def __call__(self, z: Tensor, level: Levels, prepared: Any) -> Tensor:
        self.shown.append(tuple(z.shape))
        return z.tanh() * level.alpha + (0 if prepared.map is None else prepared.map)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("height", "width", "side"), [(8, 24, 8), (19, 33, 8), (24, 7, 16), (9, 9, 1)])
def test_what_looks_at_one_place_sees_no_difference(height: int, width: int, side: int) -> None:
    z, conditioning = noise(2, 4, height, width), Conditioning(map=noise(2, 4, height, width))
    whole, estimate = PointWise(), PointWise()
    windowed = Windows(side).over(estimate, (height, width))
    got = windowed(z, LEVEL, windowed.prepare(conditioning))
    torch.testing.assert_close(got, whole(z, LEVEL, conditioning), atol=1e-6, rtol=0)
    assert max(max(shape[2:]) for shape in estimate.shown) <= side


def test_neighbours_share_half_a_window() -> None:
    estimate = PointWise()
    windowed = Windows(8).over(estimate, (8, 32))
    windowed(noise(1, 1, 8, 32), LEVEL, windowed.prepare(Conditioning()))
    assert len(estimate.shown) == 7
    assert estimate.prepared == 1  # there is no map that differs


def test_a_grid_that_fits_is_left_alone() -> None:
    estimate = PointWise()
    assert Windows(8).over(estimate, (8, 5)) is estimate


def test_disagreeing_windows_pass_into_each_other_without_a_seam() -> None:
    class Numbered(PointWise):
        def __call__(self, z: Tensor, level: Levels, prepared: Any) -> Tensor:
            super().__call__(z, level, prepared)
            return torch.full_like(z, float(len(self.shown)))

    windowed = Windows(16).over(Numbered(), (16, 32))
    row = windowed(noise(1, 1, 16, 32), LEVEL, windowed.prepare(Conditioning()))[0, 0, 0]
    assert row[0] == 1
    assert row[-1] == 3
    assert (row.diff() >= 0).all()
    assert row.diff().max() < 0.6  # of 1 between two windows


@pytest.fixture(scope="module")
def model() -> Any:
    model = ldmkit.build(ldmkit.compose(["scale=smoke", "cond=[low-res]", "sampler.steps=3"]))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    return model


def test_a_window_of_the_whole_picture_changes_nothing(model: Any) -> None:
    fields = {"low_res": torch.randint(256, (2, 3, 8, 16), dtype=torch.uint8)}
    assert torch.equal(model.sample(fields, window=64), model.sample(fields))


def test_a_picture_of_another_shape_is_drawn_window_by_window(model: Any) -> None:
    fields = {"low_res": torch.randint(256, (1, 3, 8, 24), dtype=torch.uint8)}
    drawn = model.sample(fields, window=32)
    assert drawn.shape == (1, 3, 32, 96)
    assert drawn.isfinite().all()
    assert not torch.equal(drawn, model.sample(fields))


@pytest.mark.parametrize(("window", "near"), [(3, 16), (24, 32), (50, 48)])
def test_a_window_that_the_denoiser_cannot_take_is_refused_in_pixels(model: Any, window: int, near: int) -> None:
    message = f"a window of {window} pixels cannot be: .* multiples of 16 .* the nearest that can is {near}$"
    with pytest.raises(ldmkit.ConfigError, match=message):
        model.sample({"low_res": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, window=window)


def test_a_window_of_nothing_is_refused(model: Any) -> None:
    with pytest.raises(ldmkit.ConfigError, match="window must be 1 or more, got 0"):
        model.sample({"low_res": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, window=0)

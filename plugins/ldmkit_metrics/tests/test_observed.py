"""Super-resolution against its baseline, and known pixels against themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ldmkit_metrics.known_pixels import KnownPixels
from ldmkit_metrics.super_resolution import SuperResolution
from torch import Tensor

from ldmkit.protocols import DataSource
from ldmkit.values import to_pixels, to_uint8


def images(count: int = 4) -> Tensor:
    coarse = torch.randint(256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    return F.interpolate(coarse, size=(32, 32), mode="bilinear").round().to(torch.uint8)


def small() -> Tensor:
    return images()[:, :, 1::4, 1::4]


def enlarged() -> Tensor:
    return to_uint8(F.interpolate(to_pixels(small()), size=(32, 32), mode="bicubic"))


@pytest.fixture
def super_resolution(noise: Callable[..., DataSource]) -> SuperResolution:
    config = SuperResolution.Config(
        name="super-resolution", field="low_res", network="squeeze", backbone="random", weights=None
    )
    return SuperResolution(config, noise())


@pytest.fixture
def known_pixels(noise: Callable[..., DataSource]) -> KnownPixels:
    return KnownPixels(KnownPixels.Config(name="known-pixels", field="mask"), noise())


def test_bicubic_enlargement_is_as_good_as_itself(super_resolution: SuperResolution) -> None:
    super_resolution.update(enlarged(), images(), {"low_res": small()})
    found = super_resolution.compute()
    assert found["psnr"] == pytest.approx(found["bicubic_psnr"])
    assert found["lpips_random"] == pytest.approx(found["bicubic_lpips_random"])
    error = (enlarged().double() - images().double()).square().mean((1, 2, 3))
    assert found["bicubic_psnr"] == pytest.approx((10 * torch.log10(255**2 / error)).mean().item(), rel=1e-6)


def test_a_better_picture_has_more_psnr_and_less_distance(super_resolution: SuperResolution) -> None:
    better = (0.9 * images().float() + 0.1 * enlarged().float()).round().to(torch.uint8)
    super_resolution.update(better, images(), {"low_res": small()})
    found = super_resolution.compute()
    assert found["psnr"] > found["bicubic_psnr"] + 10
    assert found["lpips_random"] < found["bicubic_lpips_random"]


@pytest.mark.parametrize(("references", "fields"), [(None, {"low_res": small()}), (images(), {})])
def test_runs_without_low_resolution_pictures_have_no_such_number(
    super_resolution: SuperResolution, references: Tensor | None, fields: dict[str, Any]
) -> None:
    super_resolution.update(images(), references, fields)
    assert super_resolution.compute() == {}


def test_errors_count_where_pixels_are_known_and_nowhere_else(known_pixels: KnownPixels) -> None:
    mask = torch.zeros(4, 32, 32, dtype=torch.bool)
    mask[:, :, :8] = True
    drawn = images().clamp(10, 200)
    off = drawn.clone()
    off[..., :8] += 50  # missing
    off[0, :, :, 8:] += 6  # known, in one picture of four
    known_pixels.update(off, drawn, {"mask": mask})
    assert known_pixels.compute() == {"known_error": 6 / 4, "known_share": 0.75, "known_count": 4}


def test_a_picture_of_which_nothing_is_known_does_not_count(known_pixels: KnownPixels) -> None:
    mask = torch.ones(4, 32, 32, dtype=torch.bool)
    mask[0, 0, 0] = False
    known_pixels.update(images().clamp(max=250) + 2, images().clamp(max=250), {"mask": mask})
    assert known_pixels.compute()["known_count"] == 1
    assert known_pixels.compute()["known_error"] == 2


def test_runs_without_masks_have_no_such_number(known_pixels: KnownPixels) -> None:
    known_pixels.update(images(), None, {})
    assert known_pixels.compute() == {}

"""PSNR and SSIM are what their definitions say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ldmkit_metrics.psnr import PSNR
from ldmkit_metrics.ssim import SSIM
from numpy.lib.stride_tricks import sliding_window_view

from ldmkit.errors import ConfigError
from ldmkit.protocols import DataSource
from ldmkit.specs import DataSpec
from ldmkit.values import Batch


class Pictures(DataSource):
    def __init__(self, size: int = 16) -> None:
        self.spec = DataSpec(size=size, channels=3)

    def digest(self) -> str:
        return ""

    def length(self, split: str) -> int:
        return 0

    def read(self, split: str, indices: object) -> Batch:
        raise NotImplementedError


def psnr() -> PSNR:
    return PSNR(PSNR.Config(name="psnr"), data=Pictures())


def ssim() -> SSIM:
    return SSIM(SSIM.Config(name="ssim"), data=Pictures())


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("error", [1, 5, 255])
def test_psnr_of_a_constant_error_is_twenty_log_of_255_over_it(error: int) -> None:
    metric = psnr()
    metric.update(torch.full((2, 3, 8, 8), error, dtype=torch.uint8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8), {})
    assert metric.compute() == pytest.approx({"psnr": 20 * math.log10(255 / error), "psnr_count": 2}, abs=1e-5)


def test_psnr_is_the_mean_over_pictures_whatever_the_batches() -> None:
    originals = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    errors = torch.tensor([1, 10, 100], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    metric = psnr()
    metric.update(errors[:2], originals[:2], {})
    metric.update(errors[2:], originals[2:], {})
    assert metric.compute()["psnr"] == pytest.approx(20 * math.log10(255 / 10))


def test_psnr_sees_one_level_in_one_value() -> None:
    original = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    image = original.clone()
    image[0, 0, 0, 0] = 1
    metric = psnr()
    metric.update(image, original, {})
    assert metric.compute()["psnr"] == pytest.approx(20 * math.log10(255) + 10 * math.log10(3 * 64 * 64))


def test_a_picture_without_error_counts_as_the_ceiling() -> None:
    images = noise(2, 3, 16, 16)
    metric = psnr()
    metric.update(images, images, {})
    assert metric.compute() == {"psnr": 100.0, "psnr_count": 2}


def wang(image: np.ndarray, original: np.ndarray) -> float:
    """SSIM of two planes (H, W) by its definition, window after window, the border mirrored."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    planes = [np.pad(plane.astype(np.float64), 5, mode="reflect") for plane in (image, original)]
    a, b = (sliding_window_view(plane, (11, 11)) for plane in planes)

    def mean(values: np.ndarray) -> np.ndarray:
        return (values * window).sum((2, 3))

    mean_a, mean_b = mean(a), mean(b)
    centred_a, centred_b = a - mean_a[:, :, None, None], b - mean_b[:, :, None, None]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * mean(centred_a * centred_b) + c2) / (mean(centred_a**2) + mean(centred_b**2) + c2)
    return float((luminance * structure).mean())


def test_ssim_is_wangs_definition_averaged_over_channels_and_pictures() -> None:
    originals = noise(2, 3, 16, 16)
    images = (originals.int() + noise(2, 3, 16, 16, seed=1).int() % 40 - 20).clamp(0, 255).to(torch.uint8)
    expected = np.mean(
        [
            [wang(*planes) for planes in zip(*pair, strict=True)]
            for pair in zip(images.numpy(), originals.numpy(), strict=True)
        ]
    )
    metric = ssim()
    metric.update(images[:1], originals[:1], {})
    metric.update(images[1:], originals[1:], {})
    assert metric.compute() == pytest.approx({"ssim": expected, "ssim_count": 2}, abs=1e-9)


def test_ssim_of_flat_pictures_is_its_luminance_term() -> None:
    metric = ssim()
    metric.update(
        torch.full((1, 3, 16, 16), 100, dtype=torch.uint8), torch.full((1, 3, 16, 16), 150, dtype=torch.uint8), {}
    )
    c1 = (0.01 * 255) ** 2
    assert metric.compute()["ssim"] == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1))


def test_ssim_of_equal_pictures_is_one() -> None:
    images = noise(2, 1, 16, 16)
    metric = ssim()
    metric.update(images, images, {})
    assert metric.compute()["ssim"] == pytest.approx(1.0)


def test_ssim_refuses_pictures_smaller_than_its_window() -> None:
    with pytest.raises(ConfigError, match="11 pixels or more, and the data's have 8"):
        SSIM(SSIM.Config(name="ssim"), data=Pictures(size=8))


@pytest.mark.parametrize("metric", [psnr(), ssim()])
def test_nothing_measured_is_nothing_said(metric: PSNR | SSIM) -> None:
    assert metric.compute() == {}

"""Metrics that compare sets of pictures: what they are fed, what they say, and how it was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from ldmkit_metrics.features import FeaturesConfig
from ldmkit_metrics.fid import FID
from ldmkit_metrics.kid import KID
from ldmkit_metrics.precision_recall import PrecisionRecall
from ldmkit_metrics.reference import ReferenceConfig, ReferenceSet
from ldmkit_metrics.rfid import RFID

from ldmkit.protocols import DataSource

Source = Callable[..., DataSource]
FEATURES = FeaturesConfig(extractor="random", weights=None)


def on_samples(part: type[Any], data: DataSource, count: int | None = None, **more: Any) -> Any:
    reference = ReferenceConfig(split="train", count=count)
    return part(part.Config(name="x", features=FEATURES, reference=reference, **more), data=data)


def rfid(data: DataSource) -> RFID:
    return RFID(RFID.Config(name="rfid", features=FEATURES), data=data)


def smooth(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(images.float(), 3, 1, 1).to(torch.uint8)


def test_the_reference_set_read_as_samples_is_perfect(noise: Source) -> None:
    data = noise(length=80)
    images = data.read("train", range(80)).images
    fid, kid = on_samples(FID, data), on_samples(KID, data)
    both = on_samples(PrecisionRecall, data, neighbours=3)
    for metric in (fid, kid, both):
        metric.update(images, None, {})
    assert fid.compute() == {"fid_random": pytest.approx(0, abs=1e-8), "fid_random_count": 80}
    assert kid.compute()["kid_random"] < 0  # an image is its own neighbour, which the unbiased estimate leaves out
    found = both.compute()
    assert (found["precision_random"], found["recall_random"]) == (1, 1)


def test_smoothed_pictures_are_farther_away_than_new_ones(noise: Source) -> None:
    data = noise(length=80)
    other = data.read("validation", range(80)).images
    for part, name in ((FID, "fid_random"), (KID, "kid_random")):
        found = []
        for images in (other, smooth(other)):
            metric = on_samples(part, data)
            metric.update(images, None, {})
            found.append(metric.compute()[name])
        assert found[1] > 10 * abs(found[0])


def test_rfid_is_between_originals_and_reconstructions(noise: Source) -> None:
    data = noise()
    images = data.read("train", range(40)).images
    same, blurred = rfid(data), rfid(data)
    same.update(images, images, {})
    blurred.update(smooth(images), images, {})
    assert same.compute() == {"rfid_random": pytest.approx(0, abs=1e-8), "rfid_random_count": 40}
    assert blurred.compute()["rfid_random"] > 1e-3


def test_the_reference_set_is_the_beginning_of_its_split(noise: Source) -> None:
    data = noise(length=150)
    part = ReferenceSet(data, ReferenceConfig(split="validation", count=100))
    batches = list(part)
    assert torch.equal(torch.cat(batches), data.read("validation", range(100)).images)
    assert len(batches) > 1
    assert part.protocol() == {"data": "3x32", "split": "validation", "count": 100}
    assert ReferenceSet(data, ReferenceConfig(split="train", count=1000)).count == 150


@pytest.mark.parametrize(("part", "more"), [(FID, {}), (KID, {}), (PrecisionRecall, {"neighbours": 3})])
def test_the_protocol_names_reference_count_and_extractor(part: Any, more: Any, noise: Source) -> None:
    metric = on_samples(part, noise(), count=50, **more)
    metric.update(noise().read("validation", range(10)).images, None, {})
    metric.compute()
    protocol = metric.protocol()
    assert protocol["reference"] == {"data": "3x32", "split": "train", "count": 50}
    assert (protocol["count"], protocol["extractor"], protocol["resize"]) == (10, "random", "none")


@pytest.mark.parametrize(("part", "more"), [(FID, {}), (KID, {}), (PrecisionRecall, {"neighbours": 3})])
def test_too_few_samples_have_no_number(part: Any, more: Any, noise: Source) -> None:
    metric = on_samples(part, noise(), **more)
    assert metric.compute() == {}
    metric.update(noise().read("validation", range(1)).images, None, {})
    assert metric.compute() == {}


def test_metrics_of_one_reference_set_read_it_once_and_find_what_each_alone_would(
    noise: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(length=80)
    images = data.read("validation", range(20)).images
    found = []
    for kept in (0, 2**30):
        monkeypatch.setattr("ldmkit_metrics.reference.KEPT_BYTES", kept)
        metrics = [on_samples(FID, data), on_samples(KID, data), on_samples(PrecisionRecall, data, neighbours=3)]
        with mock.patch.object(data, "read", wraps=data.read) as read:
            for metric in metrics:
                metric.update(images, None, {})
            found.append([metric.compute() for metric in metrics])
        assert read.call_count == (2 if kept else 6)
    assert found[0] == found[1]
    other = on_samples(FID, data, count=10)
    other.update(images, None, {})
    assert other.compute() != found[0][0]


def test_a_reference_set_of_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="count is 1 but must be 2 or more"):
        ReferenceConfig(split="train", count=1)

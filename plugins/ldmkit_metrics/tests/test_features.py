"""Extractors give the features they say, and say in time what they lack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ldmkit_metrics import features, inception
from ldmkit_metrics.features import FeaturesConfig, extractor
from ldmkit_metrics.random_features import RandomFeatures
from safetensors.torch import save_file
from torch.nn import functional as F

from ldmkit.artifacts.random import generator
from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.protocols import DataSource

Source = Callable[..., DataSource]
INCEPTION = FeaturesConfig(extractor="inception", weights=None)
RANDOM = FeaturesConfig(extractor="random", weights=None)


@pytest.fixture(autouse=True)
def forget() -> Any:
    features._made.clear()
    yield
    features._made.clear()


def test_random_features_are_means_of_random_convolutions(noise: Source) -> None:
    images = noise(size=16).read("train", range(2)).images
    x, expected = images.double() / 127.5 - 1, []
    for level, (width, wider) in enumerate([(3, 32), (32, 64), (64, 128)]):
        draw = generator("ldmkit_metrics.random_features", 1, level)
        weight = torch.from_numpy(draw.standard_normal((wider, 9 * width), "float32")).double() * (2 / 9 / width) ** 0.5
        bias = torch.from_numpy(0.1 * draw.standard_normal(wider))
        side = x.shape[-1] // 2
        x = (weight @ F.unfold(x, 3, padding=1, stride=2) + bias[:, None]).relu().unflatten(2, (side, side))
        expected.append(x.mean((2, 3)))
    torch.testing.assert_close(RandomFeatures()(images).double(), torch.cat(expected, 1), rtol=1e-5, atol=1e-5)


def test_grey_pictures_have_the_features_of_their_rgb(noise: Source) -> None:
    images = noise(channels=1).read("train", range(2)).images
    random = RandomFeatures()
    assert torch.equal(random(images), random(images.expand(-1, 3, -1, -1)))


def test_random_numbers_are_named_so() -> None:
    assert RandomFeatures.mark == "_random"
    assert RandomFeatures().protocol()["extractor"] == "random"


def test_pictures_of_other_channels_are_refused(noise: Source) -> None:
    with pytest.raises(ConfigError, match="metric 'fid' takes pictures of 1 or 3 channels, and the data's have 4"):
        extractor(RANDOM, "fid", noise(channels=4))


def test_missing_inception_weights_are_named_with_their_source_and_the_ways_out(
    noise: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConfigError) as raised:
        extractor(INCEPTION, "fid", noise())
    message = str(raised.value)
    assert "\n" not in message
    for part in (
        "metric 'fid' needs weights-inception-2015-12-05-6726825d.pth (sha256 6726825d...) from https://github.com/",
        str(tmp_path / "checkpoints"),
        "metric.fid.features.weights=FILE",
        "metric.fid.features.extractor=random",
    ):
        assert part in message


def test_a_missing_package_is_named_with_what_to_type(noise: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldmkit_metrics.extras.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package torch_fidelity; type pip install 'ldmkit\[metrics\]'"):
        extractor(INCEPTION, "kid", noise())


def test_a_file_that_is_not_there_is_named(noise: Source) -> None:
    with pytest.raises(ConfigError, match=r"there is no file 'no/such\.pth' \(metric\.fid\.features\.weights=no/such"):
        extractor(FeaturesConfig(extractor="inception", weights="no/such.pth"), "fid", noise())


def random_inception() -> dict[str, torch.Tensor]:
    """Weights of the shapes of the Inception-v3 of FID, which has the names of torchvision's."""
    from torchvision.models import Inception3

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    return network.state_dict()


def test_inception_is_torch_fidelitys_with_the_weights_of_the_file(noise: Source, tmp_path: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    weights = random_inception()
    torch.save(weights, tmp_path / "w.pth")
    save_file({name: value.clone() for name, value in weights.items()}, tmp_path / "w.safetensors")
    images = noise().read("train", range(1)).images
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(tmp_path / "w.pth"))
    for file in ("w.pth", "w.safetensors"):
        ours = extractor(FeaturesConfig(extractor="inception", weights=str(tmp_path / file)), "fid", noise())
        found = ours(images)
        assert found.shape == (1, 2048)
        assert torch.equal(found, theirs(images)[0])
        assert ours.protocol().keys() == {"extractor", "weights", "resize"}
        assert inception.weights.sha256(tmp_path / file) in ours.protocol()["weights"]


def test_weights_of_something_else_are_refused_before_any_picture_is_seen(noise: Source, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="does not hold the weights of torch-fidelity's Inception-v3"):
        extractor(FeaturesConfig(extractor="inception", weights=str(tmp_path / "w.safetensors")), "fid", noise())


def test_one_network_serves_all_metrics(noise: Source) -> None:
    assert extractor(RANDOM, "fid", noise()) is extractor(RANDOM, "kid", noise())

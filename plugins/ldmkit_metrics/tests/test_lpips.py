"""LPIPS is the number of the lpips package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ldmkit_metrics.lpips import LPIPS
from safetensors.torch import save_file

from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.pretrained.lpips import SMALLEST, Backbone, PerceptualDistance
from ldmkit.protocols import DataSource
from ldmkit.values import to_pixels

Source = Callable[..., DataSource]


def metric(data: DataSource, **changes: Any) -> LPIPS:
    keys = {"name": "lpips", "network": "alex", "backbone": "random", "weights": None, **changes}
    return LPIPS(LPIPS.Config(**keys), data=data)


def pair(data: DataSource) -> tuple[torch.Tensor, torch.Tensor]:
    return data.read("train", range(3)).images, data.read("validation", range(3)).images


@pytest.mark.parametrize("network", ["vgg", "alex", "squeeze"])
def test_it_is_the_mean_of_the_distances(network: Backbone, noise: Source) -> None:
    images, originals = pair(noise())
    part = metric(noise(), network=network)
    part.update(images[:1], originals[:1], {})
    part.update(images[1:], originals[1:], {})
    expected = PerceptualDistance(network, None)(to_pixels(images), to_pixels(originals)).mean().item()
    assert part.compute() == {"lpips_random": pytest.approx(expected, rel=1e-5), "lpips_random_count": 3}


def test_equal_pictures_are_at_distance_nothing(noise: Source) -> None:
    images, _ = pair(noise())
    part = metric(noise())
    part.update(images, images, {})
    assert part.compute()["lpips_random"] == 0


@pytest.mark.parametrize(("network", "name"), [("alex", "alexnet"), ("squeeze", "squeezenet1_1")])
def test_a_backbone_comes_from_a_file_of_torchvision(
    network: Backbone, name: str, noise: Source, tmp_path: Path
) -> None:
    import torchvision

    weights = getattr(torchvision.models, name)(weights=None).state_dict()
    file = tmp_path / "backbone.safetensors"
    save_file({key: value.clone() for key, value in weights.items()}, file)
    images, originals = pair(noise())
    part = metric(noise(), network=network, backbone="pretrained", weights=str(file))
    part.update(images, originals, {})
    expected = PerceptualDistance(network, weights)(to_pixels(images), to_pixels(originals)).mean().item()
    assert part.compute() == {"lpips": pytest.approx(expected, rel=1e-5), "lpips_count": 3}
    assert part.protocol()["weights"].startswith("sha256 ")


def test_a_file_of_another_network_is_refused_before_any_picture_is_seen(noise: Source, tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="does not hold the weights of the network asked for"):
        metric(noise(), backbone="pretrained", weights=str(tmp_path / "w.safetensors"))


def test_missing_weights_are_named_before_anything_is_measured(
    noise: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs vgg16-397923af\.pth \(sha256 397923af\.\.\.\) from https://download"):
        metric(noise(), network="vgg", backbone="pretrained")


@pytest.mark.parametrize("network", ["vgg", "alex", "squeeze"])
def test_the_smallest_picture_is_measured_and_a_smaller_one_refused(network: str, noise: Source) -> None:
    size = SMALLEST[network]
    part = metric(noise(size=size), network=network)
    part.update(*pair(noise(size=size)), {})
    assert part.compute()["lpips_random"] > 0
    with pytest.raises(ConfigError, match=f"pictures of {size} pixels or more, and the data's have {size - 1}"):
        metric(noise(size=size - 1), network=network)


def test_pictures_of_other_channels_are_refused(noise: Source) -> None:
    with pytest.raises(ConfigError, match="1 or 3 channels, and the data's have 2"):
        metric(noise(channels=2))

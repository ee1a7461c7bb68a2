"""Where VGG16's weights come from, and what is said when they do not."""

import hashlib
from pathlib import Path

import ldmkit_first_stages.vgg16 as source
import pytest
import torch
from ldmkit_first_stages.vgg16 import vgg16_features

from ldmkit.errors import ConfigError


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for the real one: convolutions and a classifier, its checksum expected."""
    path = tmp_path / "elsewhere.pth"
    torch.save({"features.0.weight": torch.ones(2), "classifier.0.weight": torch.zeros(3)}, path)
    monkeypatch.setattr(source, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    return path


def test_the_convolutions_of_a_named_file_are_read(weights: Path) -> None:
    features = vgg16_features(weights, loss="kl")
    assert features.keys() == {"features.0.weight"}
    assert torch.equal(features["features.0.weight"], torch.ones(2))


def test_without_a_name_it_is_the_file_in_torchs_cache(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    weights.rename(tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth")
    assert vgg16_features(None, loss="kl").keys() == {"features.0.weight"}


@pytest.mark.parametrize("named", [True, False])
def test_a_missing_file_is_one_line_with_its_name_checksum_and_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(ConfigError) as caught:
        vgg16_features(tmp_path / "mine.pth" if named else None, loss="kl")
    message = str(caught.value)
    assert "\n" not in message
    place = tmp_path / "mine.pth" if named else tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    for text in (str(place), "https://download.pytorch.org/models/vgg16-397923af.pth", "SHA-256 397923af"):
        assert text in message
    assert "loss.perceptual=random" in message


def test_another_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "vgg16-397923af.pth"
    path.write_bytes(b"no weights")
    with pytest.raises(ConfigError, match=r"is not vgg16-397923af.pth: its SHA-256 is [0-9a-f]{8}\.\.\."):
        vgg16_features(path, loss="kl")

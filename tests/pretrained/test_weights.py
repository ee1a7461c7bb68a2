"""Files of weights are found, verified and read, and nothing in them is executed."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch

from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.pretrained.weights import Published, find, read


class Touch:
    """Pickles to a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def found(published: Published, given: str | None = None) -> Path:
    return find(published, given, for_what="metric 'x'", key="metric.x.weights", instead="metric.x.backbone=random")


def test_the_file_of_the_cache_must_have_the_checksum_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    content = b"weights"
    good = Published(f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth", "https://example.org/net")
    bad = Published("net-00000000.pth", "https://example.org/net")
    for published in (good, bad):
        published.cached.parent.mkdir(exist_ok=True)
        published.cached.write_bytes(content)
    assert found(good) == good.cached
    with pytest.raises(CheckpointError, match="is damaged: its sha256 does not begin with 00000000"):
        found(bad)


def test_a_file_that_is_given_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.touch()
    assert found(Published("net-00000000.pth", ""), str(file)) == file
    with pytest.raises(ConfigError, match="there is no file"):
        found(Published("net-00000000.pth", ""), str(tmp_path / "other"))


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    victim, file = tmp_path / "victim", tmp_path / "evil.pth"
    torch.save({"a": Touch(victim)}, file)
    with pytest.raises(CheckpointError, match="cannot read"):
        read(file)
    file.write_bytes(pickle.dumps(Touch(victim)))
    with pytest.raises(CheckpointError, match="cannot read"):
        read(file)
    assert not victim.exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 torn"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, ending: str) -> None:
    file = tmp_path / f"torn{ending}"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"cannot read .*torn{ending}") as raised:
        read(file)
    assert "\n" not in str(raised.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="something else than named tensors"):
        read(tmp_path / "list.pth")

"""Committed directories: whole or absent, verified before they are believed."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ldmkit.artifacts import checkpoint
from ldmkit.artifacts.checkpoint import (
    commit,
    newest,
    prune,
    read_tensors,
    step_directory,
    verify,
    write_json,
    write_tensors,
)
from ldmkit.errors import CheckpointError


def write(directory: Path, value: float = 1.0) -> None:
    (directory / "text").mkdir()
    (directory / "text" / "tokenizer.model").write_bytes(b"pieces")
    write_tensors(directory / "weights.safetensors", {"w": torch.full((4, 3), value)})
    write_json(directory / "state.json", {"value": value})


def test_a_committed_directory_verifies_and_reads_back(tmp_path: Path) -> None:
    digest = commit(tmp_path / "ckpt", write)
    assert verify(tmp_path / "ckpt") == digest
    assert torch.equal(read_tensors(tmp_path / "ckpt" / "weights.safetensors")["w"], torch.ones(4, 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt"]


def test_equal_content_has_an_equal_digest_and_other_content_another(tmp_path: Path) -> None:
    one, two = commit(tmp_path / "one", write), commit(tmp_path / "two", write)
    assert one == two != commit(tmp_path / "three", lambda directory: write(directory, 2.0))


def test_files_have_the_mode_that_the_umask_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        commit(tmp_path / "ckpt", write)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "ckpt").rglob("*") if path.is_file()} == {0o640}


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    commit(tmp_path / "ckpt", write)
    for file in [path for path in sorted((tmp_path / "ckpt").rglob("*")) if path.is_file()]:
        content = file.read_bytes()
        for place in range(0, len(content), max(1, len(content) // 25)):
            file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            with pytest.raises(CheckpointError):
                assert verify(tmp_path / "ckpt") is None, f"{file.name} at {place}"
        file.write_bytes(content)
    verify(tmp_path / "ckpt")


def test_a_changed_manifest_has_a_changed_digest(tmp_path: Path) -> None:
    digest = commit(tmp_path / "ckpt", write)
    manifest = tmp_path / "ckpt" / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    assert verify(tmp_path / "ckpt") != digest


@pytest.mark.parametrize("length", [0, 4, 8, 40, -1])
def test_a_truncated_file_is_named(tmp_path: Path, length: int) -> None:
    commit(tmp_path / "ckpt", write)
    file = tmp_path / "ckpt" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors' is damaged"):
        verify(tmp_path / "ckpt")
    with pytest.raises(CheckpointError, match="cannot read"):
        read_tensors(file)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: (path / "state.json").unlink(), r"state\.json' is missing"),
        (lambda path: (path / "extra").write_text(""), "extra' is not in the manifest"),
        (lambda path: (path / "manifest.json").unlink(), "not a complete checkpoint"),
        (lambda path: (path / "manifest.json").write_text("{"), "cannot read"),
        (lambda path: (path / "manifest.json").write_text("[]"), "damaged"),
        (
            lambda path: (path / "manifest.json").write_text(
                json.dumps(json.loads((path / "manifest.json").read_text()) | {"format": 2})
            ),
            "has checkpoint format 2; this ldmkit reads 1",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, harm: Callable[[Path], Any], message: str) -> None:
    commit(tmp_path / "ckpt", write)
    harm(tmp_path / "ckpt")
    with pytest.raises(CheckpointError, match=message):
        verify(tmp_path / "ckpt")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    digest = commit(tmp_path / "ckpt", write)

    def full_disk(directory: Path) -> None:
        write(directory, 2.0)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        commit(tmp_path / "ckpt", full_disk)
    assert verify(tmp_path / "ckpt") == digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt"]


class Crash(BaseException):
    """The process ends here."""


def test_a_crash_at_any_operation_leaves_a_directory_that_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends the process at the k-th flush or rename of a save, for every k: the newest checkpoint always loads."""
    steps, k = tmp_path / "steps", 0
    commit(step_directory(steps, 1), write)
    while True:
        calls = iter(range(1000))

        def crash(real: Callable[..., Any], calls: Any = calls, at: int = k) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                if next(calls) == at:
                    raise Crash
                return real(*args)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.os, "fsync", crash(os.fsync))
            patch.setattr(Path, "replace", crash(Path.replace))
            patch.setattr(checkpoint.shutil, "rmtree", lambda *args, **kwargs: None)  # a dead process tidies nothing
            try:
                commit(step_directory(steps, 2), lambda directory: write(directory, 2.0))
            except Crash:
                found = newest(steps)
                assert found is not None
                verify(found)
            else:
                break
        k += 1
    assert k > 6
    assert newest(steps) == step_directory(steps, 2)
    prune(steps, keep=1)
    assert sorted(path.name for path in steps.iterdir()) == ["step-00000002"]


def test_everything_is_flushed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(checkpoint, "_flush", lambda path: log.append(path.name))
    real = Path.replace

    def replace(source: Path, target: Path) -> Path:
        if source.is_dir():  # single files are written whole in the same way, within the draft
            log.append("rename")
        return real(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    commit(tmp_path / "ckpt", write)
    before = log[: log.index("rename")]
    assert {"weights.safetensors", "state.json", "tokenizer.model", "manifest.json", "text"} <= set(before)
    assert any(name.startswith(".tmp-ckpt") for name in before)
    assert log[-1] == tmp_path.name


def test_the_newest_is_by_step_not_by_time(tmp_path: Path) -> None:
    for step in (10, 9, 2):
        commit(step_directory(tmp_path, step), write)
    assert newest(tmp_path) == step_directory(tmp_path, 10)
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000009", "step-00000010"]


def test_nothing_that_executes_code_is_ever_read() -> None:
    source = Path(checkpoint.__file__).parents[1]
    own_processes = {  # what they tell each other, through pipes and a temporary directory of their own
        source / "processes.py": ["pickle.loads(returned.read_bytes())", "pickle.loads(Path(given).read_bytes())"],
        source / "testing" / "child.py": ["pickle.load(self._process.stdout)", "pickle.load(sys.stdin.buffer)"],
    }
    for path in source.rglob("*.py"):
        text = path.read_text()
        if path in own_processes:
            assert re.findall(r"pickle\.loads?\(.*\)", text) == own_processes[path]
            assert "torch.load(" not in text, path
        elif path.parts[-2:] == ("pretrained", "weights.py"):  # reads what the user names: .pth, tensors alone
            assert all("weights_only=True" in call for call in re.findall(r"torch\.load\(.*", text)), path
            assert "pickle.load" not in text, path
        else:
            assert "torch.load(" not in text, path
            assert "import pickle" not in text, path

"""Directories that exist whole or not at all, and are verified before they are believed.

A committed directory holds safetensors, JSON and files of the parts, and ``manifest.json`` with the size and sha256 of
each. It is written beside its place, flushed to the disk, and renamed into place; a crash or a full disk at any moment
leaves the previous state. Nothing that can execute code is ever read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ldmkit.artifacts.whole import write_whole
from ldmkit.errors import CheckpointError

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, keys as they come, in one step."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; CheckpointError names the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read '{path}': {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write ``tensors`` as safetensors with the file mode that the umask asks for (the library leaves 0600)."""
    # clone, since safetensors refuses tensors that share memory, as tied weights do
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors; CheckpointError names the file when it is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read '{path}': {error}") from error


def commit(path: Path, write: Callable[[Path], None]) -> str:
    """Let ``write`` fill a directory, then put it at ``path`` in one step; return its digest.

    What stood at ``path`` before is replaced; a crash between the two renames of that leaves both, whole, under names
    that begin with ``.tmp-``. When ``write`` raises, nothing has changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".tmp-{path.name}-{os.getpid()}-{secrets.token_hex(4)}"
    draft.mkdir()
    try:
        write(draft)
        files = {name: _fingerprint(draft / name) for name in _files(draft)}
        write_json(draft / MANIFEST, {"format": FORMAT, "files": files})
        for name in [*files, MANIFEST]:
            _flush(draft / name)
        for folder in {draft, *(draft / name for name in files)}:
            _flush(folder if folder.is_dir() else folder.parent)
        if path.exists():
            path.replace(draft.with_name(draft.name + "-old"))
        draft.replace(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(draft.with_name(draft.name + "-old"), ignore_errors=True)
    return verify(path)


def verify(path: Path) -> str:
    """Check every file of a committed directory against its manifest and return the directory's digest.

    Raises CheckpointError that names the file and what is wrong with it.
    """
    manifest_file = path / MANIFEST
    if not manifest_file.is_file():
        raise CheckpointError(f"'{path}' is not a complete checkpoint: it has no {MANIFEST}")
    manifest = read_json(manifest_file)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise CheckpointError(f"'{manifest_file}' is damaged")
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"'{path}' has checkpoint format {manifest.get('format')}; this ldmkit reads {FORMAT}")
    found, named = set(_files(path)) - {MANIFEST}, set(manifest["files"])
    for name in sorted(found ^ named):
        raise CheckpointError(f"'{path / name}' is {'missing' if name in named else 'not in the manifest'}")
    for name, expected in manifest["files"].items():
        if _fingerprint(path / name) != expected:
            raise CheckpointError(f"'{path / name}' is damaged: its size or sha256 is not the manifest's")
    return hashlib.sha256(manifest_file.read_bytes()).hexdigest()


def link(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, or a copy of it where the file system cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def link_all(source: Path, target: Path) -> None:
    """:func:`link` every file below ``source``, if that is there, but the manifest of ``source`` itself."""
    for file in sorted(source.rglob("*")):
        if file.is_file() and file != source / MANIFEST:
            link(file, target / file.relative_to(source))


def step_directory(directory: Path, step: int) -> Path:
    """Where the checkpoint of ``step`` lies."""
    return directory / f"step-{step:08d}"


def newest(directory: Path) -> Path | None:
    """Return the newest checkpoint of ``directory`` that verifies, by step number; skip and name damaged ones."""
    for path in sorted(directory.glob("step-*"), reverse=True):
        try:
            verify(path)
        except CheckpointError as error:
            logger.warning("%s; trying the one before", error)
        else:
            return path
    return None


def prune(directory: Path, keep: int) -> None:
    """Delete all but the ``keep`` newest checkpoints, and drafts that a crash left behind."""
    for path in sorted(directory.glob("step-*"))[:-keep]:
        shutil.rmtree(path, ignore_errors=True)
    for path in directory.glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def _files(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files of pretrained weights: found before a run, never downloaded, and read without executing anything."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ldmkit.artifacts.checkpoint import read_tensors
from ldmkit.errors import CheckpointError, ConfigError


@dataclass(frozen=True)
class Published:
    """A published file of weights; its name ends in the first digits of its sha256, as torch.hub has it."""

    file: str
    url: str

    @property
    def checksum(self) -> str:
        """The first hexadecimal digits of the sha256 that the file must have."""
        return Path(self.file).stem.rpartition("-")[2]

    @property
    def cached(self) -> Path:
        """Where torch.hub keeps it."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.file


def find(published: Published, given: str | Path | None, *, for_what: str, key: str, instead: str) -> Path:
    """Return the file that the config's ``key`` names, or that of torch's cache where ``given`` is None.

    Raises ConfigError that says which file is missing, where it comes from and what to type ``instead``, and
    CheckpointError where the file of the cache is not the published one.
    """
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise ConfigError(f"{for_what}: there is no file '{path}' ({key}={given})")
        return path
    if not published.cached.is_file():
        raise ConfigError(
            f"{for_what} needs {published.file} (sha256 {published.checksum}...) from {published.url}, which is not at "
            f"'{published.cached}'; put it there or type {key}=FILE, or type {instead}"
        )
    if not sha256(published.cached).startswith(published.checksum):
        raise CheckpointError(f"'{published.cached}' is damaged: its sha256 does not begin with {published.checksum}")
    return published.cached


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file; one that has not changed since is not read again."""
    seen = path.stat()
    return _sha256(path, seen.st_size, seen.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> dict[str, Tensor]:
    """Read tensors by name: safetensors, or the format of ``torch.save`` with nothing but tensors in it.

    Raises CheckpointError for a file that is damaged or holds anything else; nothing in it is ever executed.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about pickles that it then refuses
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"cannot read '{path}' as weights: {_first_line(error)}") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"'{path}' holds something else than named tensors")
    return found


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)

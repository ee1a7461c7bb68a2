"""The store: results of stages, addressed by a hash of all that determines them, made once and shared by all runs."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ldmkit.artifacts.checkpoint import commit, read_json, verify, write_json
from ldmkit.errors import CheckpointError

logger = logging.getLogger(__name__)

INPUTS = "inputs.json"


def digest_of(value: Any) -> str:
    """Hexadecimal sha256 of ``value`` as canonical JSON: equal values, whatever the order of keys, equal digests."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(before: Any, now: Any, where: str = "") -> list[str]:
    """Say where two values of plain data differ, ``cond.text.code was 'a' and is 'b'``; nothing where they do not."""
    if digest_of(before) == digest_of(now):
        return []
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys([*before, *now])
        below = [(before.get(key), now.get(key), f"{where}.{key}" if where else str(key)) for key in keys]
        return [line for values in below for line in differences(*values)]
    return [f"{where or 'it'} was {_shown(before)} and is {_shown(now)}"]


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:37]}..."


@dataclass(frozen=True)
class Artifact:
    """A stage's committed result: its directory, the digest of its content, and whether it was there before."""

    path: Path
    digest: str
    reused: bool


@dataclass(frozen=True)
class Store:
    """A directory of artifacts, ``root/<stage>/<hash>``, safe to share between processes."""

    root: Path

    def find(self, stage: str, inputs: Mapping[str, Any]) -> Artifact | None:
        """Return the verified artifact of ``stage`` made from ``inputs``, or None; a damaged one is as none."""
        path = self._place(stage, inputs)
        if not path.is_dir():
            return None
        try:
            return Artifact(path, verify(path), reused=True)
        except CheckpointError as error:
            logger.warning("%s; stage %s is made again", error, stage)
            return None

    def obtain(
        self,
        stage: str,
        inputs: Mapping[str, Any],
        make: Callable[[Path], None],
        waiting: Callable[[str], None] = lambda message: None,
    ) -> Artifact:
        """Return the artifact of ``stage`` for ``inputs``; let ``make`` write it into a directory if it is not there.

        Two processes that want the same one make it once: the second waits, and is told so through ``waiting``.
        """
        place = self._place(stage, inputs)
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting(f"another run is making the same {stage}; waiting for it")
            lock.acquire()
        try:
            if found := self.find(stage, inputs):
                return found
            for draft in place.parent.glob(f".tmp-{place.name}-*"):  # of a process that was killed: we hold the lock
                shutil.rmtree(draft, ignore_errors=True)

            def write(directory: Path) -> None:
                write_json(directory / INPUTS, inputs)
                make(directory)

            return Artifact(place, commit(place, write), reused=False)
        finally:
            lock.release()

    def _place(self, stage: str, inputs: Mapping[str, Any]) -> Path:
        return self.root / stage / digest_of(inputs)[:20]


def inputs_of(artifact: Path) -> dict[str, Any]:
    """What an artifact was made from."""
    inputs: dict[str, Any] = read_json(artifact / INPUTS)
    return inputs

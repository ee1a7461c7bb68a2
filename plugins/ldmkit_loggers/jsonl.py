"""Every record of a run, a line of JSON each."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldmkit.registry.hooks import hookimpl

if TYPE_CHECKING:
    from io import FileIO

    from torch import Tensor

FILE = "metrics.jsonl"


class JSONL:
    """Appends to ``metrics.jsonl`` in the run's directory; a resumed run goes on with the same file.

    Each line is an object with ``time`` (UTC, ISO 8601), ``event`` (start, stage, step, sample, metrics, checkpoint or
    end) and what the event brings; measured numbers lie in ``metrics``. Numbers that JSON lacks are the strings
    ``"nan"``, ``"inf"`` and ``"-inf"``, which Python's ``float`` reads. A run that was killed and resumed repeats the
    steps after its last checkpoint: of two records of one stage and step the later one counts.

    A record is written whole at once and reaches the operating system before the training goes on; checkpoints and the
    end also force it to the disk. A half-written last line, left by a crash, is cut off when the file is opened again.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config: Config) -> None:
        self._file: FileIO | None = None

    @hookimpl
    def on_start(self, config: Mapping[str, Any], directory: Path) -> None:
        """Open the file, mending its end. Raises OSError where it cannot be written."""
        self._close()
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / FILE).open("a+b", buffering=0)
        mend_last_line(self._file)
        self._write("start")

    @hookimpl
    def on_stage(self, stage: str, steps: int, reused: bool) -> None:
        """Record that a stage begins."""
        self._write("stage", stage=stage, steps=steps, reused=reused)

    @hookimpl
    def on_step(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Record a step."""
        self._write("step", stage=stage, step=step, metrics=_as_json(metrics))

    @hookimpl
    def on_sample(self, stage: str, step: int, images: Tensor, captions: list[str], path: Path) -> None:
        """Record that pictures were made, and of what."""
        self._write("sample", stage=stage, step=step, count=len(images), captions=captions, path=str(path))

    @hookimpl
    def on_metrics(self, section: str, metrics: Mapping[str, float]) -> None:
        """Record a measurement."""
        self._write("metrics", section=section, metrics=_as_json(metrics))

    @hookimpl
    def on_checkpoint(self, stage: str, step: int, path: Path) -> None:
        """Record a checkpoint, and force all records to the disk with it."""
        self._write("checkpoint", stage=stage, step=step, path=str(path))
        self._sync()

    @hookimpl
    def on_end(self, error: BaseException | None) -> None:
        """Record how the run ended, and close the file."""
        self._write("end", error=None if error is None else type(error).__name__)
        self._sync()
        self._close()

    def _write(self, event: str, **values: Any) -> None:
        if self._file is None:
            return
        record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **values}
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(f"wrote {written} of {len(line)} bytes to '{self._file.name}'; is the disk full?")
        except OSError:
            self._file.truncate(end)
            raise

    def _sync(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def mend_last_line(file: FileIO) -> None:
    """Leave ``file`` with whole lines only: end its last line where that is a record, else cut it off."""
    end = file.seek(0, os.SEEK_END)
    start, tail = end, b""
    while start > 0 and b"\n" not in tail:
        block = min(start, 4096)
        start -= block
        file.seek(start)
        tail = file.read(block) + tail
    last = tail.rpartition(b"\n")[2]
    if not last:
        return
    try:
        whole = isinstance(json.loads(last), dict)
    except (ValueError, RecursionError):
        whole = False
    if whole:
        file.write(b"\n")
    else:
        file.truncate(end - len(last))


def _as_json(metrics: Mapping[str, float]) -> dict[str, int | float | str]:
    numbers = {name: value if isinstance(value, int) else float(value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}

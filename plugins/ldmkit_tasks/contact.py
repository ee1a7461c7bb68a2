"""The contact sheet of a sweep: rows the jobs, columns the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ldmkit.errors import DataError
from ldmkit.pictures import read_metadata
from ldmkit_tasks.rows import Row
from ldmkit_tasks.sheet import Strip
from ldmkit_tasks.summary import reconstruction_pairs

COLUMNS = 8
"""Pictures in a row of the sheet."""

Asked = tuple[str, int | None]
"""What a picture was asked to be: its prompt, and its seed."""


def strips(rows: Sequence[Row]) -> list[Strip]:
    """The rows of the sheet: originals, above the reconstructions of all runs that had them, then samples.

    What several runs have in common, such as reconstructions by one first stage, is shown once.
    """
    found: list[Strip] = []
    shown: set[tuple[bytes, ...]] = set()
    for row in rows:
        pairs = reconstruction_pairs(row.run)[:COLUMNS]
        for name, pictures in (
            ("originals", [original for original, _ in pairs]),
            (f"{row.label}: reconstructions", [reconstruction for _, reconstruction in pairs]),
        ):
            contents = tuple(path.read_bytes() for path in pictures)
            if contents and contents not in shown:
                found.append(Strip(name, pictures))
                shown.add(contents)
    return found + [Strip(row.label, samples) for row in rows if (samples := _samples(row.run))]


def columns(rows: Sequence[Row]) -> tuple[list[Asked], list[str]]:
    """What the samples of each column were asked to be, and the names of the rows in which that is something else."""
    asked = [(row.label, [_asked(path) for path in samples]) for row in rows if (samples := _samples(row.run))]
    first = max((each for _, each in asked), key=len, default=[])
    return first, [label for label, each in asked if each != first[: len(each)]]


def _samples(run: Path) -> list[Path]:
    return sorted((run / "samples").glob("[0-9]*.png"))[:COLUMNS]


def _asked(path: Path) -> Asked:
    try:
        record = read_metadata(path)
    except DataError:
        record = {}
    return str(record.get("prompt", "")), record.get("seed")

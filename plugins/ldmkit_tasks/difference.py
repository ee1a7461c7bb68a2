"""Two runs side by side: what they differ in, and the pictures that they made of the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldmkit.artifacts.whole import write_whole
from ldmkit.differences import FIRST, SECOND, Difference
from ldmkit.errors import DataError
from ldmkit.pictures import read_metadata
from ldmkit.records import RunRecord
from ldmkit_tasks import page
from ldmkit_tasks.page import Picture
from ldmkit_tasks.summary import reconstruction_pairs

MOST = 24
"""Pairs of samples on the page."""


@dataclass(frozen=True)
class Beside:
    """Pictures that belong together, each under its name, and what is said of them."""

    caption: str
    note: str
    pictures: Mapping[str, Picture]


def write_difference(found: Difference, path: Path) -> Path:
    """Write the page on ``found`` to ``path``; return it."""
    samples = list(_samples(found.first, found.second))
    return write_whole(
        path,
        page.render(
            "difference.html.jinja",
            difference=found,
            runs={FIRST: found.first, SECOND: found.second},
            samples=samples[:MOST],
            of=len(samples),
            reconstructions=list(_reconstructions(found.first, found.second)),
        ),
    )


def _samples(first: RunRecord, second: RunRecord) -> Iterator[Beside]:
    """Samples of one prompt and seed; of one prompt, where the runs have other seeds."""
    ours, theirs = _asked(first.directory), _asked(second.directory)
    by_prompt = {prompt: (seed, path) for (prompt, seed), path in theirs.items() if prompt}
    for (prompt, seed), path in ours.items():
        if ours.keys() & theirs.keys():
            other = (seed, theirs.get((prompt, seed)))
        else:
            other = by_prompt.get(prompt, (seed, None))
        if other[1] is not None and (pictures := _read({FIRST: path, SECOND: other[1]})):
            yield Beside(prompt, f"seed {seed}" if other[0] == seed else f"seeds {seed} and {other[0]}", pictures)


def _asked(directory: Path) -> dict[tuple[str, Any], Path]:
    """The samples of a run by prompt and seed."""
    found: dict[tuple[str, Any], Path] = {}
    for path in sorted((directory / "samples").glob("[0-9]*.png")):
        with suppress(DataError):
            record = read_metadata(path)
            found[str(record.get("prompt", "")), record.get("seed")] = path
    return found


def _reconstructions(first: RunRecord, second: RunRecord) -> Iterator[Beside]:
    """What both made of the same originals."""
    pairs = zip(reconstruction_pairs(first.directory), reconstruction_pairs(second.directory), strict=False)
    for (original, ours), (other, theirs) in pairs:
        same = original.read_bytes() == other.read_bytes()
        if same and (pictures := _read({"original": original, FIRST: ours, SECOND: theirs})):
            yield Beside("", "", pictures)


def _read(files: Mapping[str, Path]) -> dict[str, Picture]:
    """The pictures under their names; none where one of them cannot be read."""
    found = {name: page.picture(path) for name, path in files.items()}
    return {} if None in found.values() else {name: shown for name, shown in found.items() if shown is not None}

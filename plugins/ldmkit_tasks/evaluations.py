"""What the runs of a sweep make of their network evaluations: error and quality, one line for each sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from PIL import Image

from ldmkit.artifacts.checkpoint import read_json
from ldmkit.models import build_part
from ldmkit.run import CONFIG
from ldmkit_tasks.plots import Point, Series, line_chart
from ldmkit_tasks.report_numbers import is_share

if TYPE_CHECKING:
    from ldmkit.protocols import Sampler
    from ldmkit_tasks.comparison import Row

EVALUATIONS, ERROR = "samples evaluations", "samples error"
"""Columns of the table: evaluations for one picture, and how far samples are from those with the most of them."""


def with_errors(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Add to ``rows`` how far their samples are from the best there are, and say in notes which these are.

    Rows are compared that differ in the sampler alone, so that pictures of the same name have the same prompt and seed
    and, but for the steps taken, are the same solution. Left out are samplers that add fresh noise, which have no
    solution to come near to.
    """
    orders = {row.run: order for row in rows if EVALUATIONS in row.numbers and (order := _order(row.run))}
    errors: dict[Path, float] = {}
    best: list[str] = []
    for group in _grouped((row for row in rows if row.run in orders), lambda key: key.partition(".")[0] == "sampler"):
        reference = max(group, key=lambda row: (row.numbers[EVALUATIONS], orders[row.run]))
        found = {row.run: rms(row.run, reference.run) for row in group if row is not reference}
        if (
            any(row.numbers[EVALUATIONS] < reference.numbers[EVALUATIONS] for row in group)
            and None not in found.values()
        ):
            errors.update({run: error for run, error in found.items() if error is not None})
            best.append(reference.label)
    notes = (
        [
            f"{ERROR} is the root mean square over pixels in [-1, 1] to the samples with the most evaluations "
            f"({'; '.join(best)}), same prompts and seeds; samplers that add fresh noise have none"
        ]
        if best
        else []
    )
    return [
        replace(row, numbers={**row.numbers, ERROR: errors[row.run]}) if row.run in errors else row for row in rows
    ], notes


def charts(rows: Sequence[Row]) -> list[tuple[str, Markup]]:
    """Draw error and each measured number of samples over the evaluations: (name, chart), where steps were swept."""
    lines = _grouped((row for row in rows if EVALUATIONS in row.numbers), lambda key: key == "sampler.steps")
    measured = dict.fromkeys(
        name for row in rows for name in row.numbers if name.partition(" ")[2] and name not in (EVALUATIONS, ERROR)
    )
    drawn = []
    for name in [ERROR, *measured]:
        series = [Series(_name(line[0]), points) for line in lines if (points := _points(line, name))]
        if any(len(line.points) > 1 for line in series):
            title = f"{name}, %" if _share(name) else name
            drawn.append((title, line_chart(series, title=f"{title} over evaluations", x_label="evaluations")))
    return drawn


def rms(run: Path, other: Path) -> float | None:
    """Root mean square over pixels in [-1, 1] between the samples of two runs; None where these are not comparable."""
    ours, others = (sorted((each / "samples").glob("[0-9]*.png")) for each in (run, other))
    if not ours or [path.name for path in ours] != [path.name for path in others]:
        return None
    total, count = 0.0, 0
    for pair in zip(ours, others, strict=True):
        one, two = (_pixels(path) for path in pair)
        if one.shape != two.shape:
            return None
        total, count = total + float(np.square(one - two).sum()), count + one.size
    return math.sqrt(total / count)


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path, formats=["PNG"]) as picture:
        return np.asarray(picture, np.float64) / 127.5 - 1


def _order(run: Path) -> int | None:
    """Of the run's sampler; None where it adds fresh noise, or nothing is known of it."""
    if not (run / CONFIG).is_file():
        return None
    sampler: Sampler = build_part("sampler", read_json(run / CONFIG)["sampler"])
    return sampler.order


def _grouped(rows: Iterable[Row], apart: Callable[[str], bool]) -> list[list[Row]]:
    """Rows for which the same was chosen, leaving out the keys that are ``apart``."""
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        same = tuple((key, value) for key, value in row.chosen.items() if not apart(key))
        groups.setdefault(same, []).append(row)
    return list(groups.values())


def _name(row: Row) -> str:
    return ", ".join(value for key, value in row.chosen.items() if value and key != "sampler.steps") or "samples"


def _share(name: str) -> bool:
    section, _, last = name.partition(" ")
    return is_share(section, last)


def _points(line: Sequence[Row], name: str) -> list[Point]:
    factor = 100 if _share(name) else 1
    return sorted((row.numbers[EVALUATIONS], factor * row.numbers[name]) for row in line if name in row.numbers)

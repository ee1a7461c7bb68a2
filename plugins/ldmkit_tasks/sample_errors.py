"""How far the samples of a sweep are from the best that its samplers come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ldmkit.artifacts.checkpoint import read_json
from ldmkit.models import build_part
from ldmkit.run import CONFIG
from ldmkit_tasks.rows import ERROR, EVALUATIONS, Row, same_but

if TYPE_CHECKING:
    from ldmkit.protocols import Sampler


def with_errors(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Add to ``rows`` how far their samples are from the best there are, and say in notes which these are.

    Rows are compared that differ in the sampler alone, so that pictures of the same name have the same prompt and seed
    and, but for the steps taken, are the same solution. Left out are samplers that add fresh noise, which have no
    solution to come near to.
    """
    orders = {row.run: order for row in rows if EVALUATIONS in row.numbers and (order := _order(row.run))}
    errors: dict[Path, float] = {}
    best: list[str] = []
    for group in same_but((row for row in rows if row.run in orders), lambda key: key.partition(".")[0] == "sampler"):
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

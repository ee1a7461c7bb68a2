"""What runs cost: evaluations of the network, seconds for a picture, seconds of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ldmkit_tasks.rows import EVALUATIONS, Row

SAMPLING = frozenset({"sampler", "guidance", "samples", "seed"})
"""Groups that change how pictures are drawn, and not with which network, so that evaluations of it are one cost."""


def costs(rows: Sequence[Row]) -> dict[str, dict[Path, float]]:
    """Return the costs by which ``rows`` are to be compared, of each run for which it is known.

    Where only sampling was swept these are evaluations; where networks are others, an evaluation is another cost too,
    and seconds count.
    """
    if {key.partition(".")[0] for row in rows for key in row.chosen} <= SAMPLING:
        return {"evaluations": {row.run: row.numbers[EVALUATIONS] for row in rows if EVALUATIONS in row.numbers}}
    return {"seconds per picture": _seconds_per_picture(rows), "seconds of training": _seconds_of_training(rows)}


def _seconds_per_picture(rows: Sequence[Row]) -> dict[Path, float]:
    """Time of the stage ``samples``, which every run does itself, by pictures."""
    found = {}
    for row in rows:
        seconds = sum(stage.seconds for stage in row.stages if stage.name == "samples")
        pictures = len(list((row.run / "samples").glob("[0-9]*.png")))
        if seconds and pictures:
            found[row.run] = seconds / pictures
    return found


def _seconds_of_training(rows: Sequence[Row]) -> dict[Path, float]:
    """Time of all stages that are kept in the store; of one that was reused, the time of the run that made it.

    Runs with a stage that none of ``rows`` made are left out.
    """
    made = {stage.digest: stage.seconds for row in rows for stage in row.stages if stage.digest and not stage.reused}
    found = {}
    for row in rows:
        stored = [stage.digest for stage in row.stages if stage.digest]
        if stored and all(digest in made for digest in stored):
            found[row.run] = sum(made[digest] for digest in stored)
    return found

"""The jobs of a sweep as rows: what was chosen for each and not for all, and what it measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ldmkit.artifacts.checkpoint import read_json
from ldmkit.errors import LdmkitError
from ldmkit.protocols import Better
from ldmkit.registry.discovery import registry
from ldmkit.run import CONFIG, StageRecord
from ldmkit.sweep import Job
from ldmkit_tasks.report_numbers import is_count, is_share
from ldmkit_tasks.summary import METRICS, read_stages

EVALUATIONS, ERROR = "samples evaluations", "samples error"
"""Columns: evaluations for one picture, and how far samples are from those with the most of them."""
UNNAMED = frozenset({"first_stage", "model"})
"""Sections whose numbers stand in the table without the section's name."""

OURS: Mapping[str, Better] = {EVALUATIONS: "lower", ERROR: "lower", "codebook_usage": "higher"}
"""The good end of columns that no metric measures."""


@dataclass(frozen=True)
class Row:
    """One finished run: its directory, what was chosen for it, its numbers, how they were measured, its stages."""

    run: Path
    chosen: Mapping[str, str]
    numbers: Mapping[str, float]
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stages: Sequence[StageRecord] = ()

    @property
    def label(self) -> str:
        """What charts and sheets call it: the values in which it differs from the others."""
        return ", ".join(filter(None, self.chosen.values())) or self.run.name


def choices(jobs: Sequence[Job]) -> dict[str, dict[str, str]]:
    """What was chosen for each job, by its id, and is not the same for all of them."""
    each = {job.id: dict(_key_and_value(line) for line in job.overrides) for job in jobs}
    keys = dict.fromkeys(key for chosen in each.values() for key in chosen)
    varying = [key for key in keys if len({chosen.get(key) for chosen in each.values()}) > 1]
    return {job: {key: chosen.get(key, "") for key in varying} for job, chosen in each.items()}


def read_rows(jobs: Sequence[Job]) -> list[Row]:
    """Read what the finished ``jobs`` measured; those without a ``metrics.json`` are left out."""
    chosen, rows = choices(jobs), []
    for job in jobs:
        if job.state == "finished" and job.run is not None and (job.run / METRICS).is_file():
            metrics = read_json(job.run / METRICS)
            protocols = metrics.get("protocol", {})
            rows.append(Row(job.run, chosen[job.id], dict(numbers(metrics)), protocols, read_stages(job.run)))
    return rows


def _key_and_value(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    return key.lstrip("+"), value if equals else "yes"


def numbers(metrics: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    """Yield the measurements of a ``metrics.json``, without counts, by the names of their columns."""
    for section, values in metrics.items():
        if section in ("protocol", "reused") or not isinstance(values, Mapping):
            continue
        if section == "seconds":
            yield "seconds", values.get("total", 0.0)
            continue
        for name, value in values.items():
            if not is_count(name):
                yield column(section, name), value


def column(section: str, name: str) -> str:
    """The name of the column of a number."""
    return name if section in UNNAMED else f"{section} {name}"


def is_percent(name: str) -> bool:
    """Whether the numbers of a column are shares."""
    section, _, last = name.rpartition(" ")
    return is_share(section, last)


def better_ends(rows: Sequence[Row]) -> dict[str, Better]:
    """Which end of a column is the good one, as the metrics of the runs say; absent where nobody says."""
    found = dict(OURS)
    columns = dict.fromkeys(name for row in rows for name in row.numbers)
    for kind in {node["name"] for row in rows for node in _metrics(row.run)}:
        try:
            part = registry().part("metric", kind)
        except LdmkitError:  # the numbers are there, the package is not any more
            continue
        for pattern, end in part.better.items():
            matching = column(part.section, pattern)
            alike = [name for name in columns if (" " in name) == (" " in matching)]
            found |= {name: end for name in alike if fnmatchcase(name, matching)}
    return found


def _metrics(run: Path) -> Iterable[Mapping[str, Any]]:
    return (read_json(run / CONFIG).get("metric") or {}).values() if (run / CONFIG).is_file() else ()


def same_but(rows: Iterable[Row], apart: Callable[[str], bool]) -> list[list[Row]]:
    """Rows for which the same was chosen, leaving out the keys that are ``apart``."""
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        same = tuple((key, value) for key, value in row.chosen.items() if not apart(key))
        groups.setdefault(same, []).append(row)
    return list(groups.values())

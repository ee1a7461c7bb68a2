"""The jobs of a sweep side by side: a table, charts chosen from what was swept, a sheet of pictures, in one page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ldmkit.artifacts.checkpoint import write_json
from ldmkit.artifacts.whole import write_whole
from ldmkit.protocols import Better
from ldmkit.sweep import Job, Sweep
from ldmkit_tasks import page
from ldmkit_tasks.contact import columns, strips
from ldmkit_tasks.report_numbers import percent, plain
from ldmkit_tasks.rows import Row, better_ends, choices, is_percent, read_rows
from ldmkit_tasks.sample_errors import with_errors
from ldmkit_tasks.sheet import save_sheet
from ldmkit_tasks.sweep_charts import figures
from ldmkit_tasks.tables import write_csv, write_parquet

SHEET_SIZE = 1168
"""Pixels of the page to which a small sheet is enlarged, by whole factors."""
MAY_DIFFER = frozenset({"seed", "run", "sampler", "steps", "guidance"})
"""What runs of a sweep are meant to differ in, of the protocol of a metric."""
ARROWS: Mapping[Better, str] = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}


@dataclass(frozen=True)
class Cell:
    """A cell of the page's table: its text, by what it is sorted, and whether it is the best of its column."""

    text: str
    value: str
    best: bool = False


@dataclass(frozen=True)
class Unfinished:
    """A job without numbers: what was chosen for it, its state, and why."""

    chosen: Sequence[str]
    state: str
    why: str


def compare_jobs(sweep: Sweep) -> str:
    """Write tables, ``sheet.png`` and ``report.html`` into the sweep's directory; return the table as text.

    Nothing is written before a run has numbers. Jobs that have none stand below the table, with the reason.
    """
    rows = read_rows(sweep.jobs)
    if not rows:
        return ""
    rows, notes = with_errors(rows)
    notes += different_protocols(rows)
    measured = {row.run for row in rows}
    left = [job for job in sweep.jobs if job.run not in measured]
    write_tables(sweep, rows)
    sheet = save_sheet(strips(rows), sweep.directory / "sheet.png")
    heads, other_prompts = columns(rows)
    better = better_ends(rows)
    names = list(dict.fromkeys(name for row in rows for name in row.numbers))
    path = write_whole(
        sweep.directory / "report.html",
        page.render(
            "comparison.html.jinja",
            sweep=sweep.directory.name,
            command=sweep.command,
            total=len(sweep.jobs),
            chosen=list(rows[0].chosen),
            names=[(name, ARROWS[better[name]] if name in better else "") for name in names],
            rows=[(cells(row, names, rows, better), row.run.name, link(row.run, sweep.directory)) for row in rows],
            left=unfinished(sweep, left),
            notes=notes,
            figures=figures(rows, better),
            sheet=page.picture(sheet, SHEET_SIZE) if sheet else None,
            prompts=heads,
            other_prompts=other_prompts,
        ),
    )
    table = aligned(text_table(rows, names), left=len(rows[0].chosen))
    said = f"{len(left)} of {len(sweep.jobs)} jobs have no numbers" if left else ""
    return "\n".join([*table, *notes, *filter(None, [said]), str(path)]) + "\n"


def write_tables(sweep: Sweep, rows: Sequence[Row]) -> None:
    """Write all jobs as ``table.json``, ``table.csv`` and, where pyarrow is there, ``table.parquet``."""
    found, chosen = {row.run: row for row in rows}, choices(sweep.jobs)
    table = [
        {
            "run": job.run.name if job.run else "",
            "state": job.state,
            **chosen[job.id],
            **(found[job.run].numbers if job.run in found else {}),
        }
        for job in sweep.jobs
    ]
    write_json(sweep.directory / "table.json", table)
    write_csv(sweep.directory / "table.csv", table)
    write_parquet(sweep.directory / "table.parquet", table)


def different_protocols(rows: Sequence[Row]) -> list[str]:
    """Say which metrics were not measured alike in all rows, and in what they differ."""
    notes = []
    for metric in dict.fromkeys(name for row in rows for name in row.protocols):
        protocols = [row.protocols[metric] for row in rows if metric in row.protocols]
        keys = dict.fromkeys(key for each in protocols for key in each if key not in MAY_DIFFER)
        differing = [key for key in keys if any(each.get(key) != protocols[0].get(key) for each in protocols)]
        if differing:
            notes.append(f"{metric} was not measured alike in all runs: {', '.join(differing)} differ")
    return notes


def cells(row: Row, names: Sequence[str], rows: Sequence[Row], better: Mapping[str, Better]) -> list[Cell]:
    """The cells of a row of the page's table: what was chosen, then its numbers."""
    found = [Cell(value, value) for value in row.chosen.values()]
    for name in names:
        if name not in row.numbers:
            found.append(Cell("", ""))
            continue
        value, others = row.numbers[name], [each.numbers[name] for each in rows if name in each.numbers]
        end = (max if better.get(name) == "higher" else min)(others)
        best = name in better and value == end and len(set(others)) > 1
        found.append(Cell(_written(name, value), repr(value), best))
    return found


def unfinished(sweep: Sweep, jobs: Sequence[Job]) -> list[Unfinished]:
    """What stands below the table."""
    chosen, left = choices(sweep.jobs), []
    for job in jobs:
        why = f"exit {job.code}: {job.error}" if job.error else "no numbers" if job.state == "finished" else ""
        left.append(Unfinished(list(chosen[job.id].values()), job.state, why))
    return left


def text_table(rows: Sequence[Row], names: Sequence[str]) -> list[list[str]]:
    """Return the cells of the table as text, with the names of the columns above."""
    lines = [
        [*row.chosen.values(), *(_written(name, row.numbers[name]) if name in row.numbers else "" for name in names)]
        for row in rows
    ]
    return [[*rows[0].chosen, *names], *lines]


def _written(name: str, value: float) -> str:
    return f"{percent(value)}%" if is_percent(name) else plain(value)


def aligned(table: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Lay a table out in columns of equal width: the first ``left`` of them to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if index < left else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def link(run: Path, directory: Path) -> str:
    """The way from the page to the report of ``run``."""
    return Path(os.path.relpath(run / "report.html", directory)).as_posix()

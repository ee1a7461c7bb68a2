"""The runs of a sweep side by side: a table of numbers, charts over evaluations, a sheet of pictures, one page."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldmkit.artifacts.checkpoint import read_json, write_json
from ldmkit.run import RECORD, SWEEP
from ldmkit_tasks import page
from ldmkit_tasks.evaluations import charts, with_errors
from ldmkit_tasks.report_numbers import is_count, is_share, percent, plain
from ldmkit_tasks.sheet import Strip, save_sheet
from ldmkit_tasks.summary import reconstruction_pairs

COLUMNS = 8
"""Pictures in a row of the sheet."""
SHEET_SIZE = 1168
"""Pixels of the page to which a small sheet is enlarged, by whole factors."""
UNNAMED = frozenset({"first_stage", "model"})
"""Sections whose numbers stand in the table without the section's name."""
MAY_DIFFER = frozenset({"seed", "run", "sampler", "steps", "guidance"})
"""What runs of a sweep are meant to differ in, of the protocol of a metric."""


@dataclass(frozen=True)
class Row:
    """One run: its directory, what was chosen for it and not for all, its numbers, and how they were measured."""

    run: Path
    chosen: Mapping[str, str]
    numbers: Mapping[str, float]
    protocols: Mapping[str, Mapping[str, Any]]

    @property
    def label(self) -> str:
        """What the sheet calls it: the values in which it differs from the others."""
        return ", ".join(filter(None, self.chosen.values())) or self.run.name


def compare_runs(runs: Sequence[Path], directory: Path) -> str:
    """Write ``table.json``, ``sheet.png`` and ``index.html`` into ``directory``; return the table as text.

    Runs that have no ``metrics.json`` are left out.
    """
    rows = read_rows([run for run in runs if (run / "metrics.json").is_file()])
    if not rows:
        return ""
    rows, notes = with_errors(rows)
    notes += different_protocols(rows)
    write_json(directory / "table.json", [{"run": row.run.name, **row.chosen, **row.numbers} for row in rows])
    sheet = save_sheet(strips(rows), directory / "sheet.png")
    table = text_table(rows)
    page.write_whole(
        directory / "index.html",
        page.render(
            "comparison.html.jinja",
            sweep=directory.name,
            command=read_json(directory / SWEEP)["command"] if (directory / SWEEP).is_file() else "",
            head=table[0],
            rows=[(cells, row.run.name, link(row.run, directory)) for cells, row in zip(table[1:], rows, strict=True)],
            chosen=len(rows[0].chosen),
            notes=notes,
            charts=charts(rows),
            sheet=page.picture(sheet, SHEET_SIZE) if sheet else None,
        ),
    )
    return "\n".join([*aligned(table, left=len(rows[0].chosen)), *notes, str(directory / "index.html")]) + "\n"


def read_rows(runs: Sequence[Path]) -> list[Row]:
    """Read what was chosen for each run and what it measured."""
    overrides = [dict(_key_and_value(line) for line in read_json(run / RECORD)["overrides"]) for run in runs]
    keys = dict.fromkeys(key for each in overrides for key in each)
    varying = [key for key in keys if len({each.get(key) for each in overrides}) > 1]
    rows = []
    for run, each in zip(runs, overrides, strict=True):
        metrics = read_json(run / "metrics.json")
        chosen = {key: each.get(key, "") for key in varying}
        rows.append(Row(run, chosen, dict(numbers(metrics)), metrics.get("protocol", {})))
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
                yield name if section in UNNAMED else f"{section} {name}", value


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


def text_table(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the table as text, with the names of the columns above."""
    names = list(dict.fromkeys(name for row in rows for name in row.numbers))
    cells = [
        [*row.chosen.values(), *(_cell(name, row.numbers[name]) if name in row.numbers else "" for name in names)]
        for row in rows
    ]
    return [[*rows[0].chosen, *names], *cells]


def _cell(name: str, value: float) -> str:
    section, _, last = name.rpartition(" ")
    return f"{percent(value)}%" if is_share(section, last) else plain(value)


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


def strips(rows: Sequence[Row]) -> list[Strip]:
    """The rows of the sheet: originals, above the reconstructions of all runs that had them, then samples."""
    found: list[Strip] = []
    shown: list[bytes] = []
    for row in rows:
        pairs = reconstruction_pairs(row.run)[:COLUMNS]
        contents = [original.read_bytes() for original, _ in pairs]
        if contents != shown and pairs:
            found.append(Strip("originals", [original for original, _ in pairs]))
            shown = contents
        if pairs:
            found.append(Strip(row.label, [reconstruction for _, reconstruction in pairs]))
    for row in rows:
        if samples := sorted((row.run / "samples").glob("[0-9]*.png"))[:COLUMNS]:
            found.append(Strip(f"{row.label}: samples", samples))
    return found


def link(run: Path, directory: Path) -> str:
    """The way from the page to the report of ``run``."""
    return Path(os.path.relpath(run / "report.html", directory)).as_posix()

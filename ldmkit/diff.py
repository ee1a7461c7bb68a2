"""``ldmkit diff RUN RUN``: two runs beside each other, in a table on the terminal and on a page with their pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ldmkit.differences import FIRST, SECOND, Difference, Sides, difference
from ldmkit.errors import LdmkitError
from ldmkit.exits import Arguments
from ldmkit.records import RUNS, RunRecord, find_run, missing_run, read_run


def main(argv: Sequence[str]) -> int:
    """Carry out `ldmkit diff` with the arguments behind the verb."""
    asked = _parser().parse_args(argv)
    found = difference(_run(asked.first), _run(asked.second))
    if asked.json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
        return 0
    print("\n".join(text(found)), flush=True)
    path = asked.out or found.first.directory.parents[1] / "diffs" / f"{found.first.id}-{found.second.id}.html"
    page = _page(found, path)
    if page is not None:
        print(page)
    return 0


def text(found: Difference) -> Iterator[str]:
    """What the terminal shows."""
    runs = (found.first, found.second)
    yield from aligned([["", *(run.id for run in runs)], ["state", *(run.state for run in runs)]])
    yield from _section("config", found.config)
    yield from _section("versions", found.versions)
    if found.stages:
        shared = [name for name, sides in found.stages.items() if sides["shared"]]
        apart = [name for name in found.stages if name not in shared]
        yield f"stages shared: {', '.join(shared) or 'none'}; not shared: {', '.join(apart) or 'none'}"
    rows = [
        [name, *(number(sides.get(side)) for side in (FIRST, SECOND)), signed(sides.get("change"))]
        for name, sides in found.metrics.items()
    ]
    if rows:
        yield from ["", *aligned([["metrics", *(run.id for run in runs), "change"], *rows], right=True)]


def aligned(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """Lay ``rows`` out in columns of equal width; all but the first to the right where that is asked for."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if right and index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def written(sides: Sides, side: str) -> str:
    """A value of a config as an override would have it; a mark where this run lacks the key."""
    if side not in sides:
        return "-"
    value = sides[side]
    return value if isinstance(value, str) else json.dumps(value)


def number(value: float | None) -> str:
    """A number with four digits, nothing where there is none."""
    return "" if value is None else f"{value:.4g}"


def signed(value: float | None) -> str:
    """A change, with its sign; nothing where there is none, or no number to change."""
    return "" if value is None else f"{value:+.4g}" if value else "0"


def _section(name: str, values: Mapping[str, Sides]) -> list[str]:
    if not values:
        return [f"{name}: the same"]
    return [
        "",
        *aligned([[name, "", ""], *([key, written(s, FIRST), written(s, SECOND)] for key, s in values.items())]),
    ]


def _run(named: str) -> RunRecord:
    found = find_run(named)
    if found is None:
        raise missing_run(named)
    return read_run(found.resolve())


def _page(found: Difference, path: Path) -> Path | None:
    """The page that the task of the first run makes; None, and the reason, where that cannot be had."""
    from ldmkit.models import build_part

    node: Any = found.first.config.get("task")
    try:
        page: Path | None = build_part("task", node).diff(found, path)
    except LdmkitError as error:  # the package of the task is gone
        print(f"ldmkit: no page: {error}", file=sys.stderr)
        return None
    return page


def _parser() -> Arguments:
    parser = Arguments(prog="ldmkit diff", description="Show what two runs differ in, and their pictures side by side.")
    for name in ("first", "second"):
        parser.add_argument(name, metavar="RUN", help=f"id under {RUNS}, its beginning, or a run directory")
    parser.add_argument("--json", action="store_true", help="for programs; no page is made")
    parser.add_argument("--out", metavar="FILE", type=Path, help="the page (outputs/diffs/RUN-RUN.html)")
    return parser

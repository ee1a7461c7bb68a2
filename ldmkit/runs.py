"""``ldmkit runs``: the runs of a directory in a table, chosen by overrides, state and metrics; imports no torch."""

from __future__ import annotations

import json
import math
import operator
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from ldmkit.errors import CheckpointError, ConfigError, did_you_mean
from ldmkit.exits import Arguments
from ldmkit.records import RunRecord, State, read_run

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
LEAST = 24
"""Characters that overrides have at least where a table has to fit; metrics that leave less room are not shown."""
GAP = 2
"""Blanks between columns."""


@dataclass(frozen=True)
class Chosen:
    """A filter by override: runs in which ``key`` is ``value``."""

    key: str
    value: str

    def fits(self, run: RunRecord) -> bool:
        """What was typed for the key decides; without that, the config's value, a part being known by its name."""
        for line in run.overrides:
            key, _, typed = line.lstrip("+").partition("=")
            if key == self.key:
                return _plain(typed) == _plain(self.value)
        node: Any = run.config
        for step in self.key.split("."):
            node = node.get(step) if isinstance(node, dict) else None
        return node is not None and _plain(_written(node)) == _plain(self.value)


@dataclass(frozen=True)
class Measured:
    """A filter by metric: runs in which the number ``name`` compares with ``bound`` as it is to."""

    name: str
    compares: Callable[[float, float], bool]
    bound: float

    def fits(self, run: RunRecord) -> bool:
        """Runs without that number do not."""
        return self.name in run.numbers and self.compares(run.numbers[self.name], self.bound)


def main(argv: Sequence[str]) -> int:
    """Carry out `ldmkit runs` with the arguments behind the verb; damaged runs are told on stderr."""
    asked = _parser().parse_intermixed_args(argv)
    directory = asked.outputs / "runs"
    found, damaged = read_runs(directory)
    names = list(dict.fromkeys(name for run in found for name in run.numbers))
    sort = _metric(asked.sort, names) if asked.sort and found else None
    filters = [_filter(text, names) for text in asked.filters] if found else []
    shown = [_metric(name, names) for name in asked.metric] if found else []
    kept = [run for run in found if asked.state in (None, run.state) and all(each.fits(run) for each in filters)]
    if sort is not None:
        kept.sort(key=lambda run: run.numbers.get(sort, -math.inf))
    kept = kept[-asked.limit :] if asked.limit else kept
    if asked.json:
        print(json.dumps([as_json(run) for run in kept], indent=2, ensure_ascii=False))
    else:
        first = [*shown, *([sort] if sort else []), *(each.name for each in filters if isinstance(each, Measured))]
        measured = [name for name in reversed(names) if any(name in run.numbers for run in kept)]
        rest = [] if shown else sorted(measured, key="seconds".__eq__)  # the last measured first, the time at the end
        columns = list(dict.fromkeys([*first, *rest]))
        print("\n".join(table(kept, columns, _width())) if kept else _none(found, directory))
    for error in damaged:
        print(f"ldmkit: {error}", file=sys.stderr)
    return 0


def read_runs(directory: Path) -> tuple[list[RunRecord], list[CheckpointError]]:
    """The runs in ``directory``, the newest last, and what is wrong with those that cannot be read."""
    found, damaged = [], []
    for path in sorted(path for path in directory.glob("*") if path.is_dir()):
        try:
            found.append(read_run(path))
        except CheckpointError as error:
            damaged.append(error)
    return found, damaged


def as_json(run: RunRecord) -> dict[str, Any]:
    """What programs are told of a run: all that it keeps but its config, which is in its directory."""
    return {
        "id": run.id,
        "state": run.state,
        "error": run.error,
        "started": run.started.isoformat() if run.started else None,
        "directory": str(run.directory),
        **run.record,
        "metrics": run.numbers,
    }


def table(runs: Sequence[RunRecord], metrics: Sequence[str], width: int | None) -> list[str]:
    """Lay ``runs`` out in lines of at most ``width`` characters: as many ``metrics`` as fit, overrides cut.

    Overrides in which the runs differ come first.
    Without a width nothing is cut and every metric shown.
    """
    now = datetime.now()
    columns = [
        ["run", *(run.id for run in runs)],
        ["state", *(run.state for run in runs)],
        ["started", *(_ago(run.started, now) for run in runs)],
    ]
    common = set.intersection(*(set(run.overrides) for run in runs))
    overrides = ["overrides", *(" ".join(sorted(run.overrides, key=common.__contains__)) for run in runs)]
    longest = max(map(len, overrides))
    numbers: list[list[str]] = []
    for name in metrics:
        column = [name, *(_number(run.numbers.get(name)) for run in runs)]
        taken = sum(max(map(len, each)) + GAP for each in [*columns, *numbers, column])
        if width is not None and width - taken < min(longest, LEAST):
            break
        numbers.append([cell.rjust(max(map(len, column))) for cell in column])
    if width is not None:
        taken = sum(max(map(len, each)) + GAP for each in [*columns, *numbers])
        overrides = [_cut(text, max(width - taken, len("overrides"))) for text in overrides]
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in [*columns, *numbers, overrides]]
    return [(" " * GAP).join(cells).rstrip() for cells in zip(*padded, strict=True)]


def _filter(text: str, names: Sequence[str]) -> Chosen | Measured:
    parts = re.fullmatch(r"\s*\+?([^\s=<>!]+)\s*(>=|<=|=|>|<)\s*(.*)", text)
    if parts is None:
        raise ConfigError(f"runs: '{text}' is no filter; type KEY=VALUE, as model=kl-f8, or METRIC>NUMBER in quotes")
    name, sign, value = parts.groups()
    if sign == "=":
        return Chosen(name, value)
    try:
        return Measured(_metric(name, names), COMPARISONS[sign], float(value))
    except ValueError:
        raise ConfigError(f"runs: '{text}' compares with '{value}', which is no number") from None


def _metric(name: str, names: Sequence[str]) -> str:
    """The metric that ``name`` means: its whole name, or its last part where only one metric has it."""
    found = [each for each in names if each == name] or [each for each in names if each.rpartition(".")[2] == name]
    if not found:
        raise ConfigError(f"runs: no run has the metric '{name}'{did_you_mean(name, names)}")
    if len(found) > 1:
        raise ConfigError(f"runs: '{name}' may be {' or '.join(found)}; type one of them")
    return found[0]


def _plain(text: str) -> str:
    """A value without what two ways of writing it differ in: blanks, quotes, brackets around a list."""
    return re.sub(r"[\s\"']", "", text).removeprefix("[").removesuffix("]")


def _written(node: Any) -> str:
    """A value of a config as an override would have it; a part by its name, several parts by theirs."""
    if isinstance(node, dict):
        return str(node["name"]) if "name" in node else ",".join(node)
    if isinstance(node, str):
        return node
    return json.dumps(node)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _ago(started: datetime | None, now: datetime) -> str:
    if started is None:
        return ""
    seconds = max(0.0, (now - started).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _width() -> int | None:
    """Columns of the terminal; None where the output goes elsewhere, and nobody has set COLUMNS."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def _none(found: Sequence[RunRecord], directory: Path) -> str:
    return f"none of the {len(found)} runs fits" if found else f"there is no run in {directory}"


def _parser() -> Arguments:
    parser = Arguments(prog="ldmkit runs", description="List runs, the newest last.")
    parser.add_argument(
        "filters", metavar="FILTER", nargs="*", default=[], help="KEY=VALUE, as model=kl-f8, or 'METRIC>NUMBER'"
    )
    parser.add_argument("--state", choices=get_args(State), help="only runs with which it stands so")
    parser.add_argument("--sort", metavar="METRIC", help="by a metric, the largest last")
    parser.add_argument("--metric", metavar="METRIC", action="append", default=[], help="show it; several may be named")
    parser.add_argument("--limit", metavar="N", type=int, default=0, help="only the last N")
    parser.add_argument("--json", action="store_true", help="for programs, with stages and versions")
    parser.add_argument("--outputs", metavar="DIR", type=Path, default=Path("outputs"), help="outputs= of the runs")
    return parser

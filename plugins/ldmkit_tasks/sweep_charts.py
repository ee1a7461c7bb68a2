"""What a sweep draws, chosen from what was swept: numbers over what was turned, and quality against cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from markupsafe import Markup

from ldmkit.protocols import Better
from ldmkit_tasks.axes import Point, wants_log
from ldmkit_tasks.costs import costs
from ldmkit_tasks.parallel import Axis, parallel_chart
from ldmkit_tasks.pareto import Trial, pareto_chart
from ldmkit_tasks.plots import Series, line_chart
from ldmkit_tasks.report_numbers import LABELS
from ldmkit_tasks.rows import ERROR, EVALUATIONS, Row, column, is_percent, same_but

REPEATS = "seed"
"""What is swept to repeat a run, not to change it: lines are means over it."""
MOST_AXES = 2
"""Numbers that are swept at once of which each has charts of its own."""


@dataclass(frozen=True)
class Figures:
    """Charts under one heading: (name, chart) each."""

    heading: str
    lead: str
    charts: Sequence[tuple[str, Markup]]
    wide: bool = False


def figures(rows: Sequence[Row], better: Mapping[str, Better]) -> list[Figures]:
    """Return all that is to be drawn of ``rows``; ``better`` says of a column which end of it is the good one."""
    quality = quality_column(rows, better)
    turned = numeric(rows)
    lines = over_swept(rows, better, turned) if len(turned) <= MOST_AXES else []
    spread = len(turned) > MOST_AXES or (len(turned) == MOST_AXES and not lines)
    found = [
        Figures(
            "Quality against cost",
            "Each point is a run; the line is the frontier, which no run is above. The pointer shows each name.",
            against_cost(rows, quality, better) if quality else [],
        ),
        Figures(
            "Over network evaluations",
            "Evaluations of the denoiser for one picture, counted while it was drawn: each estimate that the guidance "
            "asks for is one, the null one too.",
            over_evaluations(rows),
        ),
        Figures("Over what was swept", "Means over seeds, where several were run.", lines),
        Figures(
            "All numbers at once",
            "A line for each run through what was chosen for it and what came of it; the best stands out.",
            [(f"best by {quality}", parallel(rows, turned, quality, better))] if spread and quality else [],
            wide=True,
        ),
    ]
    return [each for each in found if each.charts]


def numeric(rows: Sequence[Row]) -> list[str]:
    """What was swept over several numbers, repeats left out."""
    keys = rows[0].chosen if rows else {}
    return [
        key
        for key in keys
        if key != REPEATS
        and all(_is_number(row.chosen[key]) for row in rows)
        and len({float(row.chosen[key]) for row in rows}) > 1
    ]


def quality_column(rows: Sequence[Row], better: Mapping[str, Better]) -> str | None:
    """The column that says most about what the runs are for, of those that differ: of samples before first stages."""
    named = [column(section, name) for section, name in LABELS if section != "first_stage"]
    named += [column(section, name) for section, name in LABELS if section == "first_stage"]
    others = [name for row in rows for name in row.numbers if name not in (EVALUATIONS, ERROR, "seconds")]
    return next((name for name in [*named, *others] if name in better and _differs(rows, name)), None)


def against_cost(rows: Sequence[Row], quality: str, better: Mapping[str, Better]) -> list[tuple[str, Markup]]:
    """A chart of ``quality`` against each cost in which the runs differ."""
    drawn = []
    for cost, values in costs(rows).items():
        trials = [
            Trial(row.label, values[row.run], _shown(quality, row.numbers[quality]))
            for row in rows
            if row.run in values and quality in row.numbers
        ]
        if len({trial.cost for trial in trials}) > 1:
            name = f"{_title(quality)} against {cost}"
            higher = better[quality] == "higher"
            drawn.append((name, pareto_chart(trials, higher=higher, title=name, x_label=cost)))
    return drawn


def over_evaluations(rows: Sequence[Row]) -> list[tuple[str, Markup]]:
    """Error and each measured number of samples over the evaluations, where steps were swept."""
    measured = dict.fromkeys(
        name for row in rows for name in row.numbers if " " in name and name not in (EVALUATIONS, ERROR)
    )
    counted = [row for row in rows if EVALUATIONS in row.numbers]
    lines = same_but(counted, lambda key: key in ("sampler.steps", REPEATS))
    return _line_charts(lines, [ERROR, *measured], lambda row: row.numbers[EVALUATIONS], "evaluations", "sampler.steps")


def over_swept(rows: Sequence[Row], better: Mapping[str, Better], turned: Sequence[str]) -> list[tuple[str, Markup]]:
    """Each number with a good end over each number that was swept, with a line for each choice of the others."""
    names = dict.fromkeys(name for row in rows for name in row.numbers if name in better and name != EVALUATIONS)
    names = dict.fromkeys(name for name in names if _differs(rows, name))
    drawn = []
    for key in turned:
        if key == "sampler.steps" and _differs(rows, EVALUATIONS):
            continue  # drawn over evaluations
        lines = same_but(rows, lambda other, key=key: other in (key, REPEATS))  # type: ignore[misc]
        drawn += _line_charts(lines, list(names), lambda row, key=key: float(row.chosen[key]), key, key)  # type: ignore[misc]
    return drawn


def parallel(rows: Sequence[Row], turned: Sequence[str], quality: str, better: Mapping[str, Better]) -> Markup:
    """All of ``turned`` and ``quality``, with a line for each run that has it."""
    measured = [row for row in rows if quality in row.numbers]
    axes = [Axis(key, [float(row.chosen[key]) for row in measured]) for key in turned]
    values = [_shown(quality, row.numbers[quality]) for row in measured]
    end = max if better[quality] == "higher" else min
    return parallel_chart(
        [row.label for row in measured],
        [*axes, Axis(_title(quality), values)],
        best=values.index(end(values)),
        title=f"{_title(quality)} and what was swept",
    )


def _line_charts(
    lines: Sequence[Sequence[Row]], names: Iterable[str], x_of: Callable[[Row], float], x_label: str, over: str
) -> list[tuple[str, Markup]]:
    """A chart of each of ``names`` in which a line has more than one point; ``over`` is the key that x stands for."""
    drawn = []
    log_x = x_label == over and wants_log(x_of(row) for line in lines for row in line)
    for name in names:
        series = [Series(_line_name(line[0], over), points) for line in lines if (points := _points(line, name, x_of))]
        if any(len(line.points) > 1 for line in series):
            title = f"{_title(name)} over {x_label}"
            drawn.append((title, line_chart(series, title=title, x_label=x_label, log_x=log_x)))
    return drawn


def _points(line: Sequence[Row], name: str, x_of: Callable[[Row], float]) -> list[Point]:
    """Means of ``name`` by x, of repeats for instance."""
    found: dict[float, list[float]] = {}
    for row in line:
        if name in row.numbers:
            found.setdefault(x_of(row), []).append(_shown(name, row.numbers[name]))
    return sorted((x, mean(values)) for x, values in found.items())


def _line_name(row: Row, over: str) -> str:
    chosen = (value for key, value in row.chosen.items() if value and key not in (over, REPEATS))
    return ", ".join(chosen) or "samples"


def _differs(rows: Sequence[Row], name: str) -> bool:
    return len({row.numbers[name] for row in rows if name in row.numbers}) > 1


def _shown(name: str, value: float) -> float:
    return 100 * value if is_percent(name) else value


def _title(name: str) -> str:
    return f"{name}, %" if is_percent(name) else name


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

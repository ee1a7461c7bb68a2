"""Parallel coordinates: an upright axis for each number that was swept or measured, a line across them for each run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ldmkit_tasks.axes import Scale, limits, log_ticks, scale, svg, text, tick_labels, ticks, wants_log

TOP, BOTTOM, SIDE = 34, 14, 52
"""Room above the axes for their names, below them, and to both sides."""


@dataclass(frozen=True)
class Axis:
    """One number of every run: its name, and the values in the order of the runs."""

    name: str
    values: Sequence[float]


def parallel_chart(
    names: Sequence[str],
    axes: Sequence[Axis],
    *,
    best: int | None,
    title: str,
    width: float = 1120,
    height: float = 300,
) -> Markup:
    """Draw a line through the values of each run; the ``best`` one, if that is known, stands out.

    Runs with a value that is not finite are left out; with fewer than two axes the chart is empty text. An axis whose
    values are positive and span more than a factor of 10 has a log scale.
    """
    drawn = [run for run in range(len(names)) if all(math.isfinite(axis.values[run]) for axis in axes)]
    if len(axes) < 2 or not drawn:
        return Markup("")
    step = (width - 2 * SIDE) / (len(axes) - 1)
    places = [(SIDE + index * step, axis, *_upright(axis, drawn, height)) for index, axis in enumerate(axes)]
    parts = [part for x, axis, y_at, marks in places for part in _axis(x, axis.name, y_at, marks, height)]
    for run in sorted(drawn, key=lambda run: run == best):  # the best last, above the others
        points = " ".join(f"{x:.1f},{y_at(axis.values[run]):.1f}" for x, axis, y_at, _ in places)
        kind = "series series-0" if run == best else "series faint"
        line = Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>')
        parts.append(line.format(kind, points, names[run]))
    return svg(width, height, parts, title)


def _upright(axis: Axis, drawn: Sequence[int], height: float) -> tuple[Scale, list[float]]:
    """Where the values of an axis lie, and its ticks."""
    values = [axis.values[run] for run in drawn]
    log = wants_log(values)
    low, high = limits(values)
    marks = (log_ticks if log else ticks)(low, high, 5)
    return scale(min(low, *marks), max(high, *marks), height - BOTTOM, TOP, log=log), marks


def _axis(x: float, name: str, y_at: Scale, marks: Sequence[float], height: float) -> list[Markup]:
    line = Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
    return [
        line.format(x, x, TOP, height - BOTTOM),
        text(x, TOP - 18, name, "middle", "label"),
        *(text(x - 6, y_at(mark) + 4, label, "end") for mark, label in zip(marks, tick_labels(marks), strict=True)),
    ]

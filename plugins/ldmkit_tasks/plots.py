"""Line charts as SVG, small enough to be ours: axes, ticks, a log scale, a legend; no script, no colour of their own.

The n-th series has the class ``series-n``, one in the background ``faint``; the rest is as in :mod:`ldmkit_tasks.axes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ldmkit_tasks.axes import Frame, Point, frame, text, wants_log

MOST_POINTS = 400
"""Points a drawn line has at most; longer series are drawn as the means of equal stretches."""
LETTER = 7.2
"""Width of a character of a name in the legend, whose type is larger."""
KEY = 34
"""Width of what stands before a name in the legend."""
MARGINS = 72
"""Width to the left and right that a legend leaves free."""
LINE = 16
"""Height of a row of the legend."""


@dataclass(frozen=True)
class Series:
    """A line: its name for the legend, points (x, y) with growing x, and whether it stays in the background."""

    name: str
    points: Sequence[Point]
    faint: bool = False


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "",
    log_x: bool = False,
    log_y: bool | None = None,
    width: int = 560,
    height: int = 240,
) -> Markup:
    """Draw ``series`` into a chart of ``width`` x ``height`` units that scales with the page.

    ``log_y`` None takes a log scale where all values are positive and span more than a factor of 10. Values that are
    not finite are left out, and on a log scale those below or at zero. Without any value the chart is empty text.
    """
    log_y = wants_log(y for line in series for _, y in line.points) if log_y is None else log_y
    drawn = [Series(line.name, thinned(usable(line.points, log_y)), line.faint) for line in series]
    drawn = [line for line in drawn if line.points]
    if not drawn:
        return Markup("")
    names = _legend_rows(drawn, width - MARGINS) if len(drawn) > 1 else []
    above = LINE * len(names)
    points = [point for line in drawn for point in line.points]
    within = frame(points, x_label=x_label, log_x=log_x, log_y=log_y, width=width, height=height, above=above)
    lines = (_line(line, kind, within) for line, kind in zip(drawn, _kinds(drawn), strict=True))
    return within.svg([*lines, *_legend(names, within.right, 12)], title)


def smooth(points: Sequence[Point], share: float = 0.04) -> list[Point]:
    """Mean over the neighbours of each point, about ``share`` of all points; as many before it as after, so no lag."""
    reach = round(share * len(points) / 2)
    averaged = []
    for index, (x, _) in enumerate(points):
        near = min(reach, index, len(points) - 1 - index)
        window = points[index - near : index + near + 1]
        averaged.append((x, sum(y for _, y in window) / len(window)))
    return averaged


def usable(points: Iterable[Point], log_y: bool) -> list[Point]:
    """Return the points that have a place in the chart."""
    return [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not log_y)]


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most ``most`` points, each the mean of an equal stretch of ``points``."""
    size = math.ceil(len(points) / most) or 1
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in stretches]


def _kinds(drawn: Sequence[Series]) -> list[str]:
    """The class of each series; those in the background do not count in the numbering."""
    kinds, number = [], 0
    for line in drawn:
        kinds.append("series faint" if line.faint else f"series series-{number}")
        number += not line.faint
    return kinds


def _line(series: Series, kind: str, within: Frame) -> Markup:
    places = [(within.x_at(x), within.y_at(y)) for x, y in series.points]
    if len(places) == 1:
        return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="2"/>').format(kind, *places[0])
    return Markup('<polyline class="{}" points="{}"/>').format(kind, " ".join(f"{x:.1f},{y:.1f}" for x, y in places))


def _legend_rows(drawn: Sequence[Series], room: float) -> list[list[tuple[Series, str]]]:
    """The series with their kinds, in as few rows of the legend as ``room`` lets them have, in their order."""
    rows: list[list[tuple[Series, str]]] = [[]]
    left = room
    for line, kind in zip(drawn, _kinds(drawn), strict=True):
        wanted = LETTER * len(line.name) + KEY
        if rows[-1] and wanted > left:
            rows.append([])
            left = room
        rows[-1].append((line, kind))
        left -= wanted
    return rows


def _legend(rows: Sequence[Sequence[tuple[Series, str]]], right: float, top: float) -> list[Markup]:
    """Name the series in rows that end at ``right``, the first of them at ``top``."""
    parts = []
    stroke = Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
    for number, row in enumerate(rows):
        end, y = right, top + number * LINE
        for line, kind in reversed(row):
            start = end - LETTER * len(line.name)
            parts.append(text(start, y + 4, line.name, "start", "label"))
            parts.append(stroke.format(kind, start - 20, start - 6, y, y))
            end = start - KEY
    return parts

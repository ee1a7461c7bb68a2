"""Line charts as SVG, small enough to be ours: axes, ticks, a log scale, a legend; no script, no colour of their own.

A chart takes its colours from the page, and so follows it into the dark: text has the class ``tick`` or ``label``, grid
lines ``grid``, the n-th series ``series-n``, and a series in the background ``faint``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]

MOST_POINTS = 400
"""Points a drawn line has at most; longer series are drawn as the means of equal stretches."""
CHARACTER = 6.4
"""Width of a character of a label, in units of the chart."""
LETTER = 7.2
"""Width of a character of a name in the legend, whose type is larger."""
KEY = 34
"""Width of what stands before a name in the legend."""
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
    points = [point for line in drawn for point in line.points]
    y_low, y_high = _range(y for _, y in points)
    y_ticks = (log_ticks if log_y else ticks)(y_low, y_high, max(3, height // 48))
    labels = tick_labels(y_ticks)
    left, right, bottom = 12 + CHARACTER * max(map(len, labels)), 14, 34 if x_label else 24
    legend = _legend_rows(drawn, width - right - left) if len(drawn) > 1 else []
    above = LINE * (len(legend) - 1) if len(legend) > 1 else 0
    top, height = 12 + above, height + above
    x_low, x_high = _range(x for x, _ in points)
    x_at = _scale(x_low, x_high, left, width - right)
    y_at = _scale(min(y_low, *y_ticks), max(y_high, *y_ticks), height - bottom, top, log=log_y)
    parts = [
        *(_grid_line(y_at(tick), label, left, width - right) for tick, label in zip(y_ticks, labels, strict=True)),
        *_x_axis(ticks(x_low, x_high, max(2, width // 90)), x_at, height - bottom),
        *(_line(line, kind, x_at, y_at) for line, kind in zip(drawn, _kinds(drawn), strict=True)),
    ]
    if x_label:
        parts.append(_text((left + width - right) / 2, height - 4, x_label, "middle", "label"))
    parts += _legend(legend, width - right, 12)
    body = Markup("").join(parts)
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" preserveAspectRatio="xMidYMid meet">{}</svg>'
    ).format(width, height, title, body)


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


def wants_log(values: Iterable[float]) -> bool:
    """Whether values are all positive and span more than a factor of 10."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > 10 * min(finite)


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most ``most`` points, each the mean of an equal stretch of ``points``."""
    size = math.ceil(len(points) / most) or 1
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in stretches]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart), ``most`` at most, between ``low`` and ``high``."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return ticks for a log scale: 1, 2, 5 of each decade, or decades alone, ``most`` at most where that can be."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors, stride in [((1, 2, 5), 1), ((1, 3), 1), *[((1,), stride) for stride in (1, 2, 5, 10, 50, 200)]]:
        found = [factor * 10.0**decade for decade in decades if decade % stride == 0 for factor in factors]
        found = [tick for tick in found if low * 0.999 <= tick <= high * 1.001]
        if len(found) <= most:
            break
    return found or [low, high]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Write ticks with as many digits as it takes to tell them apart; thousands as k."""
    for digits in range(1, 8):
        labels = [_short(value, digits) for value in values]
        if len(set(labels)) == len(values) and all(
            math.isclose(_read(label), value, rel_tol=0.02, abs_tol=1e-12)
            for label, value in zip(labels, values, strict=True)
        ):
            break
    return labels


def _short(value: float, digits: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size <= abs(value) < 1e12:
            return f"{float(f'{value / size:.{digits}g}'):g}{unit}"
    return f"{float(f'{value:.{digits}g}'):g}"


def _read(label: str) -> float:
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    return float(label[:-1]) * units[label[-1]] if label[-1] in units else float(label)


def _range(values: Iterable[float]) -> tuple[float, float]:
    """Smallest and largest value, a little apart even where they are equal."""
    found = list(values)
    low, high = min(found), max(found)
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    return (low * 0.9, low * 1.1) if low > 0 else (low - 0.5 - abs(low) / 10, low + 0.5 + abs(low) / 10)


def _scale(low: float, high: float, start: float, end: float, *, log: bool = False) -> Callable[[float], float]:
    shape: Callable[[float], float] = math.log10 if log else float
    return lambda value: start + (shape(value) - shape(low)) / (shape(high) - shape(low)) * (end - start)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, escape(text)
    )


def _grid_line(y: float, label: str, left: float, right: float) -> Markup:
    line = Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(left, right, y, y)
    return line + _text(left - 6, y + 4, label, "end")


def _x_axis(values: Sequence[float], x_at: Callable[[float], float], y: float) -> list[Markup]:
    labels = tick_labels(values)
    return [_text(x_at(value), y + 16, label, "middle") for value, label in zip(values, labels, strict=True)]


def _kinds(drawn: Sequence[Series]) -> list[str]:
    """The class of each series; those in the background do not count in the numbering."""
    kinds, number = [], 0
    for line in drawn:
        kinds.append("series faint" if line.faint else f"series series-{number}")
        number += not line.faint
    return kinds


def _line(series: Series, kind: str, x_at: Callable[[float], float], y_at: Callable[[float], float]) -> Markup:
    places = [(x_at(x), y_at(y)) for x, y in series.points]
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
            parts.append(_text(start, y + 4, line.name, "start", "label"))
            parts.append(stroke.format(kind, start - 20, start - 6, y, y))
            end = start - KEY
    return parts

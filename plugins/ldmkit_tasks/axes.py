"""The frame of a chart as SVG: its size, its scales, its ticks; the chart itself draws inside.

A chart takes its colours from the page, and so follows it into the dark: text has the class ``tick`` or ``label``, grid
lines ``grid``. What is written into it is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]
Scale = Callable[[float], float]

CHARACTER = 6.4
"""Width of a character of a label, in units of the chart."""


@dataclass(frozen=True)
class Frame:
    """A chart's frame: where values of x and y lie in it, and what is drawn of the axes."""

    width: float
    height: float
    left: float
    right: float
    x_at: Scale
    y_at: Scale
    parts: Sequence[Markup]

    def svg(self, parts: Iterable[Markup], title: str) -> Markup:
        """The whole chart, with ``parts`` inside the frame, and ``title`` for those who cannot see it."""
        return svg(self.width, self.height, [*self.parts, *parts], title)


def svg(width: float, height: float, parts: Iterable[Markup], title: str) -> Markup:
    """A chart of ``width`` x ``height`` units that scales with the page; ``title`` for those who cannot see it."""
    head = Markup('<svg class="chart" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">').format(width, height, title)
    return Markup("").join([head, *parts, Markup("</svg>")])


def frame(
    points: Sequence[Point],
    *,
    x_label: str = "",
    log_x: bool = False,
    log_y: bool = False,
    width: float = 560,
    height: float = 240,
    above: float = 0,
) -> Frame:
    """Lay out axes in which all ``points`` have their place, of ``width`` x ``height`` units that scale with the page.

    ``above`` is how much higher it is for what stands above the axes, such as a legend.
    """
    y_low, y_high = limits(y for _, y in points)
    y_ticks = (log_ticks if log_y else ticks)(y_low, y_high, max(3, int(height // 48)))
    labels = tick_labels(y_ticks)
    left, right, bottom = 12 + CHARACTER * max(map(len, labels)), width - 14, 34 if x_label else 24
    height += above
    x_low, x_high = limits(x for x, _ in points)
    x_ticks = (log_ticks if log_x else ticks)(x_low, x_high, max(2, int(width // 90)))
    x_at = scale(x_low, x_high, left, right, log=log_x)
    y_at = scale(min(y_low, *y_ticks), max(y_high, *y_ticks), height - bottom, 12 + above, log=log_y)
    parts = [
        *(_grid_line(y_at(tick), label, left, right) for tick, label in zip(y_ticks, labels, strict=True)),
        *(
            text(x_at(tick), height - bottom + 16, label, "middle")
            for tick, label in zip(x_ticks, tick_labels(x_ticks), strict=True)
        ),
    ]
    if x_label:
        parts.append(text((left + right) / 2, height - 4, x_label, "middle", "label"))
    return Frame(width, height, left, right, x_at, y_at, parts)


def wants_log(values: Iterable[float]) -> bool:
    """Whether values are all positive and span more than a factor of 10."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > 10 * min(finite)


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


def limits(values: Iterable[float]) -> tuple[float, float]:
    """Smallest and largest value, a little apart even where they are equal."""
    found = list(values)
    low, high = min(found), max(found)
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    return (low * 0.9, low * 1.1) if low > 0 else (low - 0.5 - abs(low) / 10, low + 0.5 + abs(low) / 10)


def scale(low: float, high: float, start: float, end: float, *, log: bool = False) -> Callable[[float], float]:
    """Return where a value lies, from ``low`` at ``start`` to ``high`` at ``end``."""
    shape: Callable[[float], float] = math.log10 if log else float
    return lambda value: start + (shape(value) - shape(low)) / (shape(high) - shape(low)) * (end - start)


def text(x: float, y: float, words: str, anchor: str, kind: str = "tick") -> Markup:
    """Write ``words`` at a place; ``anchor`` as SVG has it."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, escape(words)
    )


def _grid_line(y: float, label: str, left: float, right: float) -> Markup:
    line = Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(left, right, y, y)
    return line + text(left - 6, y + 4, label, "end")

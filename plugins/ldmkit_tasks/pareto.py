"""Quality against cost: one point for each run, and the frontier of those that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from ldmkit_tasks.axes import CHARACTER, Frame, frame, text, wants_log

MOST_NAMES = 12
"""Points of the frontier that are named in the chart; every point says its name where the pointer rests."""


@dataclass(frozen=True)
class Trial:
    """What one run cost and how good it is."""

    name: str
    cost: float
    quality: float


def frontier(trials: Sequence[Trial], *, higher: bool) -> list[Trial]:
    """The trials, by growing cost, to which no other is at least as good for at most the cost.

    ``higher`` says whether more quality is better. Of equal trials the first is kept.
    """
    best: list[Trial] = []
    sign = 1 if higher else -1
    for trial in sorted(trials, key=lambda each: (each.cost, -sign * each.quality)):
        if not best or sign * trial.quality > sign * best[-1].quality:
            best.append(trial)
    return best


def pareto_chart(
    trials: Sequence[Trial], *, higher: bool, title: str, x_label: str, width: float = 560, height: float = 300
) -> Markup:
    """Draw ``trials``, cost to the right, quality upwards, and their frontier; empty text where there are none.

    An axis whose values are positive and span more than a factor of 10 has a log scale; what is not finite is left out.
    """
    usable = [each for each in trials if math.isfinite(each.cost) and math.isfinite(each.quality)]
    if not usable:
        return Markup("")
    points = [(each.cost, each.quality) for each in usable]
    log_x, log_y = (wants_log(values) for values in zip(*points, strict=True))
    within = frame(points, x_label=x_label, log_x=log_x, log_y=log_y, width=width, height=height)
    best = frontier(usable, higher=higher)
    parts = [_steps(best, within)] if len(best) > 1 else []
    parts += [_point(each, each in best, within) for each in usable]
    parts += [_name(each, within) for each in best[:MOST_NAMES]]
    return within.svg(parts, title)


def _steps(best: Sequence[Trial], within: Frame) -> Markup:
    """What the frontier buys at each cost: as much as its last trial that costs no more."""
    places = [(within.x_at(each.cost), within.y_at(each.quality)) for each in best]
    corners = [places[0]]
    for (_, y), (x_next, y_next) in pairwise(places):
        corners += [(x_next, y), (x_next, y_next)]
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return Markup('<polyline class="series series-0" points="{}"/>').format(drawn)


def _point(trial: Trial, best: bool, within: Frame) -> Markup:
    said = f"{trial.name}: {trial.quality:.4g} for {trial.cost:.4g}"
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3.5"><title>{}</title></circle>').format(
        "point best" if best else "point", within.x_at(trial.cost), within.y_at(trial.quality), said
    )


def _name(trial: Trial, within: Frame) -> Markup:
    """The name beside the point, on the side where there is room."""
    x, y = within.x_at(trial.cost), within.y_at(trial.quality)
    fits = x + 7 + CHARACTER * len(trial.name) < within.width
    return text(x + 7 if fits else x - 7, y + 13 if fits else y - 8, trial.name, "start" if fits else "end")

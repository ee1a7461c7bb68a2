"""The curves of a run, read back from its ``metrics.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markupsafe import Markup

from ldmkit_tasks.plots import Point, Series, line_chart, smooth, usable

Curves = dict[str, dict[str, list[Point]]]
"""Points (step, value) by stage and metric."""

COUNTERS = frozenset({"images", "seconds"})
"""Metrics that only count up; their quotient, the speed, is drawn in their place."""


@dataclass(frozen=True)
class StageCurves:
    """The charts of one stage: the loss, and smaller ones (name, last value, chart) of everything else."""

    stage: str
    loss: Markup
    others: list[tuple[str, float, Markup]]


def read_curves(path: Path) -> Curves:
    """Read the step records of ``metrics.jsonl``; of two records of one stage and step the later one counts.

    Lines that are no record are passed over, and a missing file has no curves: a report must not fail on them.
    """
    values: dict[str, dict[str, dict[int, float]]] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            record = json.loads(line)
            if record["event"] == "step":
                for name, value in record["metrics"].items():
                    values.setdefault(record["stage"], {}).setdefault(name, {})[int(record["step"])] = float(value)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return {
        stage: {name: sorted(points.items()) for name, points in metrics.items()} for stage, metrics in values.items()
    }


def stage_curves(curves: Curves) -> list[StageCurves]:
    """Draw every stage that has a curve of at least two points."""
    drawn = []
    for stage, metrics in curves.items():
        loss = loss_chart(stage, metrics.get("loss", []))
        rates = {"images/s": speed(metrics.get("images", []), metrics.get("seconds", []))}
        rest = {name: points for name, points in metrics.items() if name != "loss" and name not in COUNTERS} | rates
        others = [
            (name, points[-1][1], small_chart(stage, name, points)) for name, points in rest.items() if len(points) > 1
        ]
        if loss or others:
            drawn.append(StageCurves(stage, loss, others))
    return drawn


def loss_chart(stage: str, points: list[Point]) -> Markup:
    """Draw the loss as it was logged, and its moving average."""
    points = usable(points, log_y=False)
    if len(points) < 2:
        return Markup("")
    series = [Series("logged", points, faint=True), Series("smoothed", smooth(points))]
    return line_chart(series, title=f"loss of {stage} over its steps", x_label="step")


def small_chart(stage: str, name: str, points: list[Point]) -> Markup:
    """Draw a metric beside the loss; learning rates and speeds on a linear scale."""
    log_y = False if name in {"lr", "images/s"} else None
    return line_chart([Series(name, points)], title=f"{name} of {stage}", log_y=log_y, width=280, height=110)


def speed(images: list[Point], seconds: list[Point]) -> list[Point]:
    """Images a second between one record and the next, from the two counters."""
    passed: Mapping[float, float] = dict(seconds)
    both = [(step, count, passed[step]) for step, count in images if step in passed]
    return [
        (step, (count - before) / (now - then))
        for (_, before, then), (step, count, now) in pairwise(both)
        if now > then
    ]

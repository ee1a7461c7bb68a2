"""What a sweep draws is chosen from what was swept, and lies where its numbers say."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ldmkit_tasks.costs import costs
from ldmkit_tasks.parallel import Axis, parallel_chart
from ldmkit_tasks.pareto import Trial, frontier, pareto_chart
from ldmkit_tasks.rows import EVALUATIONS, Row
from ldmkit_tasks.sweep_charts import figures, numeric, quality_column

from ldmkit.protocols import Better
from ldmkit.run import StageRecord

BETTER: dict[str, Better] = {"prompt all": "higher", "samples fid": "lower", "psnr": "higher", EVALUATIONS: "lower"}


def row(chosen: dict[str, str], stages: list[StageRecord] | None = None, **numbers: float) -> Row:
    """A run whose numbers are named with underscores for spaces."""
    named = {name.replace("_", " "): value for name, value in numbers.items()}
    return Row(Path("runs", *chosen.values()), chosen, named, {}, stages or [])


def elements(chart: str, tag: str) -> list[ElementTree.Element]:
    return [element for element in ElementTree.fromstring(chart).iter() if element.tag == tag]


def drawn(rows: list[Row]) -> dict[str, list[str]]:
    """The names of the charts, by heading."""
    return {each.heading: [name for name, _ in each.charts] for each in figures(rows, BETTER)}


# The frontier


def test_the_frontier_holds_what_no_other_beats_in_both() -> None:
    trials = [Trial(*each) for each in (("a", 1, 1), ("b", 2, 3), ("c", 2, 2), ("d", 3, 3), ("e", 4, 5), ("f", 9, 4))]
    assert [trial.name for trial in frontier(trials, higher=True)] == ["a", "b", "e"]
    assert [trial.name for trial in frontier(trials, higher=False)] == ["a"]


def test_the_chart_draws_a_point_for_each_run_and_marks_the_frontier() -> None:
    chart = pareto_chart(
        [Trial("cheap <b>", 1, 10), Trial("dear", 4, 30), Trial("beaten", 5, 20), Trial("lost", math.nan, 1)],
        higher=True,
        title="t",
        x_label="cost",
    )
    points = {point[0].text: point for point in elements(chart, "circle")}
    assert set(points) == {"cheap <b>: 10 for 1", "dear: 30 for 4", "beaten: 20 for 5"}
    assert [name for name, point in points.items() if point.get("class") == "point best"] == [
        "cheap <b>: 10 for 1",
        "dear: 30 for 4",
    ]
    (line,) = elements(chart, "polyline")
    corners = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert len(corners) == 3
    assert corners[0][1] == corners[1][1], "what the cheap one gives is kept until the dear one is paid"
    assert corners[1][0] == corners[2][0]
    assert corners[2][1] < corners[1][1]


def test_without_trials_there_is_no_chart() -> None:
    assert pareto_chart([], higher=True, title="t", x_label="cost") == ""
    assert pareto_chart([Trial("a", math.inf, 1)], higher=True, title="t", x_label="cost") == ""


# Parallel coordinates


def test_a_line_goes_through_the_values_of_its_run_on_every_axis() -> None:
    axes = [Axis("low <b>", [0.0, 1.0, math.nan]), Axis("high", [5.0, 4.0, 4.0])]
    chart = parallel_chart(["one", "two", "three"], axes, best=0, title="t")
    lines = {line[0].text: line for line in elements(chart, "polyline")}
    assert list(lines) == ["two", "one"], "the best is drawn last, and what has no value not at all"
    assert lines["one"].get("class") == "series series-0"
    (x0, y0), (x1, y1) = (tuple(map(float, pair.split(","))) for pair in lines["one"].attrib["points"].split())
    assert x0 < x1
    assert y0 > y1, "from the lowest on one axis to the highest on the other"
    assert {"low <b>", "high"} <= {text.text for text in elements(chart, "text")}
    assert parallel_chart(["one"], axes[:1], best=None, title="t") == ""


# What is chosen


def test_numbers_that_were_swept_are_axes_and_seeds_are_repeats() -> None:
    rows = [row({"model": m, "lr": lr, "seed": s}) for m, lr, s in (("a", "1e-3", "0"), ("b", "1e-2", "1"))]
    assert numeric(rows) == ["lr"]


def test_quality_is_what_differs_of_samples_before_first_stages() -> None:
    both = [row({"seed": s}, psnr=p, samples_fid=f) for s, p, f in (("0", 20, 5), ("1", 21, 6))]
    assert quality_column(both, BETTER) == "samples fid"
    alike = [row({"seed": s}, psnr=p, samples_fid=5) for s, p in (("0", 20), ("1", 21))]
    assert quality_column(alike, BETTER) == "psnr"
    assert quality_column(alike[:1], BETTER) is None


def test_a_sweep_of_sampling_is_drawn_over_evaluations() -> None:
    rows = [
        row({"sampler": name, "sampler.steps": str(steps)}, samples_evaluations=steps, prompt_all=steps / 50)
        for name in ("ddim", "unipc")
        for steps in (5, 10)
    ]
    assert drawn(rows) == {
        "Quality against cost": ["prompt all, % against evaluations"],
        "Over network evaluations": ["prompt all, % over evaluations"],
    }


def test_a_number_that_was_swept_has_a_line_for_each_choice_of_the_others_and_means_over_seeds() -> None:
    rows = [
        row({"cond": cond, "guidance.scale": scale, "seed": seed}, prompt_all=value)
        for cond, scale, seed, value in (
            ("text", "1", "0", 0.1),
            ("text", "1", "1", 0.3),
            ("text", "2", "0", 0.4),
            ("class", "1", "0", 0.2),
            ("class", "2", "0", 0.2),
        )
    ]
    (each,) = [each for each in figures(rows, BETTER) if each.heading == "Over what was swept"]
    ((name, chart),) = each.charts
    assert name == "prompt all, % over guidance.scale"
    text, label = elements(chart, "polyline")
    heights = [float(pair.split(",")[1]) for pair in text.attrib["points"].split()]
    flat = [float(pair.split(",")[1]) for pair in label.attrib["points"].split()]
    assert flat[0] == flat[1] == pytest.approx(heights[0]), "the mean of 10 and 30 % is 20 %"
    assert heights[1] < heights[0]


def test_more_numbers_than_two_and_searches_are_drawn_as_parallel_coordinates() -> None:
    rows = [row({"a": str(n), "b": str(n * n), "c": str(-n)}, prompt_all=n / 9, samples_fid=n) for n in (1, 2, 3)]
    assert drawn(rows) == {"All numbers at once": ["best by prompt all"]}
    search = [row({"a": str(n), "b": str(n * n)}, prompt_all=n / 9) for n in (1, 2, 3)]
    assert drawn(search) == {"All numbers at once": ["best by prompt all"]}


def test_seconds_of_training_are_those_of_the_run_that_trained() -> None:
    trained = [StageRecord("denoiser", 9, 40.0, False, "d1"), StageRecord("samples", 0, 2.0, False, "")]
    reused = [StageRecord("denoiser", 9, 0.1, True, "d1"), StageRecord("samples", 0, 3.0, False, "")]
    unknown = [StageRecord("denoiser", 9, 0.1, True, "d2")]
    rows = [row({"model": str(n)}, stages) for n, stages in enumerate((trained, reused, unknown))]
    assert costs(rows)["seconds of training"] == {rows[0].run: 40.0, rows[1].run: 40.0}


def test_evaluations_are_no_cost_where_the_networks_differ() -> None:
    rows = [row({"model": m}, samples_evaluations=20) for m in "ab"]
    assert "evaluations" not in costs(rows)
    assert list(costs([row({"sampler.steps": "5"}, samples_evaluations=5)])) == ["evaluations"]

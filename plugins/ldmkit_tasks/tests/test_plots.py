"""Charts show their points where they belong, with round numbers at the axes."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from ldmkit_tasks.axes import log_ticks, tick_labels, ticks, wants_log
from ldmkit_tasks.plots import Series, line_chart, smooth, thinned


def places(chart: str, kind: str = "series series-0") -> list[tuple[float, float]]:
    root = ElementTree.fromstring(chart)
    line = next(element for element in root if element.tag == "polyline" and element.get("class") == kind)
    return [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]  # type: ignore[misc]


def texts(chart: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(chart) if element.tag == "text"]


def test_equal_steps_are_equal_distances_and_up_is_more() -> None:
    chart = line_chart([Series("a", [(0, 0), (1, 1), (2, 2), (4, 4)])], title="t", log_y=False)
    drawn = places(chart)
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(drawn)]
    assert steps[1] == pytest.approx(steps[0], abs=0.2)
    assert steps[2] == pytest.approx((2 * steps[0][0], 2 * steps[0][1]), abs=0.2)
    assert steps[0][0] > 0 > steps[0][1]


def test_on_a_log_scale_equal_factors_are_equal_distances() -> None:
    heights = [y for _, y in places(line_chart([Series("a", [(1, 1), (2, 10), (3, 100)])], title="t"))]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)


def test_everything_lies_inside_the_chart() -> None:
    points = [(step, math.sin(step) * 1e3) for step in range(50)]
    chart = line_chart([Series("a", points), Series("b", points, faint=True)], title="t", x_label="step")
    for x, y in places(chart) + places(chart, "series faint"):
        assert 0 <= x <= 560
        assert 0 <= y <= 240


def test_a_legend_names_the_series_only_where_there_are_several() -> None:
    line = [(0.0, 1.0), (1.0, 2.0)]
    assert "first" not in texts(line_chart([Series("first", line)], title="t"))
    assert {"first", "second"} <= set(texts(line_chart([Series("first", line), Series("second", line)], title="t")))


def test_a_legend_that_is_too_wide_goes_on_in_another_row_above_the_lines() -> None:
    names = [f"a long name {number}" for number in range(11)]
    chart = line_chart([Series(name, [(0, 0), (1, number)]) for number, name in enumerate(names)], title="t")
    words = [element for element in ElementTree.fromstring(chart) if element.get("class") == "label"]
    assert sorted(word.text or "" for word in words) == sorted(names)
    assert all(float(word.attrib["x"]) >= 0 for word in words)
    assert max(float(word.attrib["y"]) for word in words) < min(y for _, y in places(chart, "series series-10")) + 8


@pytest.mark.parametrize("log_y", [True, False, None])
@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [5.0, 5.0],
        [0.0, 0.0],
        [-3.0, -3.0],
        [math.nan, 1.0, math.inf],
        [1e-12, 1e12],
        [0.0, 1.0],
        [1e300, 1e-300],
    ],
)
def test_any_numbers_give_a_chart_or_none_at_all(values: list[float], log_y: bool | None) -> None:
    chart = line_chart([Series("a", list(enumerate(values)))], title="t", log_y=log_y)
    assert "nan" not in chart
    assert "inf" not in chart
    if chart:
        assert ElementTree.fromstring(chart).tag == "svg"
    else:
        assert log_y
        assert not [value for value in values if math.isfinite(value) and value > 0]


def test_without_values_there_is_no_chart() -> None:
    assert line_chart([Series("a", [(0, math.nan)])], title="t") == ""
    assert line_chart([], title="t") == ""


def test_names_cannot_add_markup() -> None:
    chart = line_chart(
        [Series("<script>", [(0, 1), (1, 2)]), Series("b", [(0, 1), (1, 2)])], title='"><script>', x_label="<b>"
    )
    assert {element.tag for element in ElementTree.fromstring(chart).iter()} == {"svg", "line", "text", "polyline"}
    assert {"<script>", "<b>"} <= set(texts(chart))


@pytest.mark.parametrize("low", [0.0, -3.7, 1e-6, 12345.0])
@pytest.mark.parametrize("span", [1e-5, 0.3, 1.0, 7.7, 2500.0, 1e9])
@pytest.mark.parametrize("most", [3, 5, 6])
def test_ticks_are_few_round_and_within(low: float, span: float, most: int) -> None:
    found = ticks(low, low + span, most)
    assert 1 <= len(found) <= most
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    if len(found) > 1:
        mantissa = float(f"{found[1] - found[0]:e}".split("e", maxsplit=1)[0])
        assert min(abs(mantissa - round_number) for round_number in (1, 2, 5, 10)) < 1e-3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.04, 1.3, [0.05, 0.1, 0.2, 0.5, 1]),
        (1e-6, 1.0, [1e-6, 1e-4, 1e-2, 1]),
        (2.1, 2.4, [2.1, 2.4]),
    ],
)
def test_log_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert log_ticks(low, high, 5) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 500, 1000, 2500], ["0", "500", "1k", "2.5k"]),
        ([0.05, 0.1], ["0.05", "0.1"]),
        ([1.01, 1.02], ["1.01", "1.02"]),
        ([1e6, 2e6], ["1M", "2M"]),
        ([-0.5, 0.0], ["-0.5", "0"]),
    ],
)
def test_labels_have_the_digits_they_need(values: list[float], labels: list[str]) -> None:
    assert tick_labels(values) == labels


def test_a_log_scale_is_taken_where_values_are_positive_and_far_apart() -> None:
    assert wants_log([1, 11, math.nan])
    assert not wants_log([1, 9])
    assert not wants_log([0, 100])
    assert not wants_log([])


def test_smoothing_leaves_lines_as_they_are_and_does_not_lag() -> None:
    line = [(float(x), 3.0 * x) for x in range(200)]
    assert smooth(line) == [pytest.approx(point) for point in line]
    alternating = [(float(x), float(x % 2)) for x in range(200)]
    assert all(abs(y - 0.5) < 0.06 for _, y in smooth(alternating, share=0.1)[10:-10])


def test_long_series_are_drawn_with_few_points_that_keep_their_mean() -> None:
    points = [(float(x), float(x * x % 97)) for x in range(100_000)]
    drawn = thinned(points, 400)
    assert len(drawn) <= 400
    assert sum(y for _, y in drawn) / len(drawn) == pytest.approx(sum(y for _, y in points) / len(points))
    assert len(re.findall(",", line_chart([Series("a", points)], title="t"))) <= 400

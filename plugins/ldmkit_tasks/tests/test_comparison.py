"""Runs of a sweep side by side: the table says what differs, the sheet shows it, and nothing else is needed to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from ldmkit_tasks.comparison import compare_runs, read_rows
from ldmkit_tasks.evaluations import charts, with_errors
from ldmkit_tasks.sheet import CELL, GAP, Strip, save_sheet
from PIL import Image

from ldmkit.pictures import save_png


def flat(path: Path, level: int, size: int = 32) -> Path:
    return save_png(torch.full((3, size, size), level, dtype=torch.uint8), path)


def run(directory: Path, name: str, overrides: list[str], metrics: dict[str, Any], level: int = 0) -> Path:
    """A finished run with two pairs of pictures: originals of level 255, reconstructions of ``level``."""
    place = directory / "runs" / name
    place.mkdir(parents=True)
    (place / "run.json").write_text(json.dumps({"overrides": overrides}))
    (place / "metrics.json").write_text(json.dumps(metrics))
    for index in range(2):
        flat(place / "reconstructions" / f"{index:05d}-original.png", 255)
        flat(place / "reconstructions" / f"{index:05d}-reconstruction.png", level)
    return place


def measured(psnr: float, **protocol: Any) -> dict[str, Any]:
    return {
        "first_stage": {"psnr": psnr, "psnr_count": 8, "verified": 0.5, "verified_count": 8},
        "protocol": {"psnr": {"data": "c0ffee", "count": 8, **protocol}},
        "seconds": {"first-stage": 1.0, "total": 2.5},
        "reused": [],
    }


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    directory = tmp_path / "sweeps" / "1"
    directory.mkdir(parents=True)
    (directory / "sweep.json").write_text(json.dumps({"command": "ldmkit run -m model=a,b"}))
    return directory


def test_the_table_has_what_was_chosen_and_what_was_measured(tmp_path: Path, sweep: Path) -> None:
    runs = [
        run(tmp_path, "one", ["model=a", "scale=smoke"], measured(20.125)),
        run(tmp_path, "two", ["model=bbb", "scale=smoke"], measured(9.5)),
    ]
    said = compare_runs(runs, sweep)
    assert said.splitlines() == [
        "model   psnr  verified  seconds",
        "a      20.12     50.0%      2.5",
        "bbb      9.5     50.0%      2.5",
        str(sweep / "index.html"),
    ]
    assert json.loads((sweep / "table.json").read_text()) == [
        {"run": "one", "model": "a", "psnr": 20.125, "verified": 0.5, "seconds": 2.5},
        {"run": "two", "model": "bbb", "psnr": 9.5, "verified": 0.5, "seconds": 2.5},
    ]


def test_the_sheet_has_the_originals_once_and_a_row_for_each_run(tmp_path: Path, sweep: Path) -> None:
    runs = [run(tmp_path, name, [f"model={name}"], measured(1.0), level) for name, level in (("a", 60), ("b", 120))]
    compare_runs(runs, sweep)
    with Image.open(sweep / "sheet.png") as sheet:
        right = sheet.width - GAP - CELL // 2
        middles = [GAP + row * (CELL + GAP) + CELL // 2 for row in range(3)]
        assert sheet.height == 3 * (CELL + GAP) + GAP
        assert [sheet.getpixel((right, middle)) for middle in middles] == [(level,) * 3 for level in (255, 60, 120)]


def test_other_originals_have_a_row_of_their_own(tmp_path: Path, sweep: Path) -> None:
    runs = [run(tmp_path, name, [f"data={name}"], measured(1.0)) for name in ("a", "b")]
    flat(runs[1] / "reconstructions" / "00000-original.png", 7)
    compare_runs(runs, sweep)
    with Image.open(sweep / "sheet.png") as sheet:
        assert sheet.height == 4 * (CELL + GAP) + GAP


def test_samples_stand_below_the_reconstructions(tmp_path: Path, sweep: Path) -> None:
    runs = [run(tmp_path, name, [f"model={name}"], measured(1.0)) for name in ("a", "b")]
    flat(runs[0] / "samples" / "00000.png", 9)
    flat(runs[0] / "samples" / "grid.png", 9, size=300)
    compare_runs(runs, sweep)
    with Image.open(sweep / "sheet.png") as sheet:
        assert sheet.height == 4 * (CELL + GAP) + GAP


def test_numbers_that_were_not_measured_alike_are_named(tmp_path: Path, sweep: Path) -> None:
    runs = [
        run(tmp_path, "one", ["seed=1"], measured(1.0, seed=1)),
        run(tmp_path, "two", ["seed=2"], measured(2.0, seed=2, extractor="other")),
    ]
    assert "psnr was not measured alike in all runs: extractor differ\n" in compare_runs(runs, sweep)
    assert "was not measured alike" in (sweep / "index.html").read_text()


def test_a_number_that_a_run_lacks_leaves_its_cell_empty(tmp_path: Path, sweep: Path) -> None:
    more = measured(2.0)
    more["first_stage"]["rfid"] = 3.0
    runs = [run(tmp_path, "one", ["seed=1"], measured(1.0)), run(tmp_path, "two", ["seed=2"], more)]
    head, first, *_ = compare_runs(runs, sweep).splitlines()
    assert head.split() == ["seed", "psnr", "verified", "seconds", "rfid"]
    assert first.split() == ["1", "1", "50.0%", "2.5"]


def test_an_override_that_only_some_runs_have_is_a_column(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, "one", ["model=a", "+experiment=x", "~cond"], measured(1.0)),
        run(tmp_path, "two", ["model=a"], measured(1.0)),
    ]
    assert [row.chosen for row in read_rows(runs)] == [
        {"experiment": "x", "~cond": "yes"},
        {"experiment": "", "~cond": ""},
    ]
    assert read_rows(runs)[1].label == "two"


def test_runs_without_numbers_are_left_out(tmp_path: Path, sweep: Path) -> None:
    runs = [run(tmp_path, name, [f"seed={name}"], measured(1.0)) for name in ("1", "2", "3")]
    (runs[0] / "metrics.json").unlink()
    compare_runs(runs, sweep)
    assert [row["run"] for row in json.loads((sweep / "table.json").read_text())] == ["2", "3"]
    for each in runs[1:]:
        (each / "metrics.json").unlink()
    assert compare_runs(runs, sweep) == ""


def test_the_page_holds_the_sheet_and_leads_to_the_reports_and_markup_stays_text(tmp_path: Path, sweep: Path) -> None:
    bad = "<script>alert(1)</script>"
    runs = [run(tmp_path, name, [f"model={name}{bad}"], measured(1.0)) for name in ("a", "b")]
    compare_runs(runs, sweep)
    page = (sweep / "index.html").read_text()
    assert "<script" not in page
    assert page.count("alert(1)") == 2
    assert "data:image/png;base64," in page
    assert 'href="../../runs/a/report.html"' in page
    assert "ldmkit run -m model=a,b" in page


def sampled(directory: Path, overrides: list[str], sampler: dict[str, Any], *, evaluations: float, level: int) -> Path:
    """A finished run with two samples of ``level``."""
    metrics = measured(1.0)
    metrics |= {"samples": {"evaluations": evaluations}, "prompt": {"all": level / 255, "count": 2}}
    place = run(directory, " ".join(overrides), overrides, metrics)
    (place / "config.json").write_text(json.dumps({"sampler": {"steps": 1, "spacing": "trailing", **sampler}}))
    for index in range(2):
        flat(place / "samples" / f"{index:05d}.png", level)
    return place


def numbers(sweep: Path, name: str) -> list[float | None]:
    return [row.get(name) for row in json.loads((sweep / "table.json").read_text())]


DDIM, ANCESTRAL, UNIPC = {"name": "ddim", "eta": 0.0}, {"name": "ddim", "eta": 1.0}, {"name": "unipc", "predictor": 2}


def test_error_is_measured_from_the_samples_with_the_most_evaluations(tmp_path: Path, sweep: Path) -> None:
    """Of two with as many, from those of the higher order."""
    runs = [
        sampled(tmp_path, ["sampler=ddim", "sampler.steps=5"], DDIM, evaluations=10, level=200),
        sampled(tmp_path, ["sampler=ddim", "sampler.steps=50"], DDIM, evaluations=100, level=110),
        sampled(tmp_path, ["sampler=unipc", "sampler.steps=5"], UNIPC, evaluations=10, level=102),
        sampled(tmp_path, ["sampler=unipc", "sampler.steps=50"], UNIPC, evaluations=100, level=100),
        sampled(tmp_path, ["sampler=euler-a", "sampler.steps=200"], ANCESTRAL, evaluations=400, level=0),
    ]
    said = compare_runs(runs, sweep)
    assert numbers(sweep, "samples evaluations") == [10, 100, 10, 100, 400]
    errors = [100 / 127.5, 10 / 127.5, 2 / 127.5, None, None]
    assert numbers(sweep, "samples error") == [error and pytest.approx(error) for error in errors]
    for text in (said, (sweep / "index.html").read_text()):
        assert "with the most evaluations (unipc, 50), same prompts and seeds" in text


def test_samples_are_compared_within_one_model(tmp_path: Path, sweep: Path) -> None:
    runs = [
        sampled(tmp_path, [f"model={model}", f"sampler.steps={steps}"], DDIM, evaluations=steps, level=level)
        for model, steps, level in (("a", 5, 12), ("a", 10, 10), ("b", 5, 240), ("b", 10, 240))
    ]
    compare_runs(runs, sweep)
    assert numbers(sweep, "samples error") == [pytest.approx(2 / 127.5), None, 0.0, None]


@pytest.mark.parametrize("spoil", ["fewer", "size", "alike"])
def test_samples_that_cannot_be_compared_have_no_error(tmp_path: Path, sweep: Path, spoil: str) -> None:
    runs = [
        sampled(tmp_path, [f"sampler.steps={steps}"], DDIM, evaluations=5 if spoil == "alike" else steps, level=9)
        for steps in (5, 10)
    ]
    if spoil == "fewer":
        (runs[0] / "samples" / "00001.png").unlink()
    elif spoil == "size":
        flat(runs[0] / "samples" / "00000.png", 9, size=64)
    assert "samples error" not in compare_runs(runs, sweep)


def test_the_page_draws_error_and_quality_over_evaluations_with_a_line_for_each_sampler(
    tmp_path: Path, sweep: Path
) -> None:
    runs = [
        sampled(tmp_path, [f"sampler={part['name']}", f"sampler.steps={steps}"], part, evaluations=steps, level=level)
        for part, steps, level in ((DDIM, 5, 9), (DDIM, 20, 20), (UNIPC, 5, 15), (UNIPC, 20, 22))
    ]
    drawn = dict(charts(with_errors(read_rows(runs))[0]))
    assert list(drawn) == ["samples error", "prompt all, %"]
    quality = ElementTree.fromstring(drawn["prompt all, %"])
    assert len(quality.findall("polyline")) == 2
    assert {"ddim", "unipc", "evaluations"} <= {text.text for text in quality.findall("text")}
    compare_runs(runs, sweep)
    page = (sweep / "index.html").read_text()
    assert page.count("<svg") == 2
    assert "counted while it was drawn" in page


def test_without_a_sweep_over_steps_nothing_is_drawn(tmp_path: Path, sweep: Path) -> None:
    runs = [sampled(tmp_path, [f"model={name}"], DDIM, evaluations=20, level=9) for name in ("a", "b")]
    compare_runs(runs, sweep)
    assert "<svg" not in (sweep / "index.html").read_text()


def test_a_sheet_enlarges_small_pictures_by_whole_factors_and_keeps_large_ones(tmp_path: Path) -> None:
    small, large = flat(tmp_path / "s.png", 10, size=40), flat(tmp_path / "l.png", 20, size=200)
    path = save_sheet([Strip("row", [small, large])], tmp_path / "sheet.png")
    assert path is not None
    with Image.open(path) as sheet:
        left = sheet.width - 2 * (200 + GAP)
        assert sheet.getpixel((left + 199, GAP + 199)) == (10, 10, 10)  # 40 pixels five times
        assert sheet.getpixel((left + 200 + GAP, GAP)) == (20, 20, 20)
    assert save_sheet([], tmp_path / "none.png") is None

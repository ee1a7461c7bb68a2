"""Runs of a sweep side by side: the table says what differs, the sheet shows it, and nothing else is needed to read."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from ldmkit_tasks.comparison import compare_jobs
from ldmkit_tasks.rows import read_rows
from ldmkit_tasks.sample_errors import with_errors
from ldmkit_tasks.sheet import CELL, GAP, Strip, save_sheet
from ldmkit_tasks.sweep_charts import over_evaluations
from PIL import Image

from ldmkit.pictures import save_png
from ldmkit.sweep import Job, Sweep


def flat(path: Path, level: int, size: int = 32) -> Path:
    return save_png(torch.full((3, size, size), level, dtype=torch.uint8), path)


def run(directory: Path, name: str, overrides: list[str], metrics: dict[str, Any], level: int = 0) -> Job:
    """A finished job with two pairs of pictures: originals of level 255, reconstructions of ``level``."""
    place = directory / "runs" / name
    place.mkdir(parents=True)
    (place / "metrics.json").write_text(json.dumps(metrics))
    for index in range(2):
        flat(place / "reconstructions" / f"{index:05d}-original.png", 255)
        flat(place / "reconstructions" / f"{index:05d}-reconstruction.png", level)
    return Job(id=name, overrides=overrides, state="finished", run=place)


def measured(psnr: float, **protocol: Any) -> dict[str, Any]:
    return {
        "first_stage": {"psnr": psnr, "psnr_count": 8, "verified": 0.5, "verified_count": 8},
        "protocol": {"psnr": {"data": "c0ffee", "count": 8, **protocol}},
        "seconds": {"first-stage": 1.0, "total": 2.5},
        "reused": [],
    }


Compare = Callable[[list[Job]], str]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory of a sweep."""
    directory = tmp_path / "sweeps" / "1"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def compare(place: Path) -> Compare:
    """Return ``compare(jobs)``, which lays the jobs of a sweep side by side in ``place``."""
    return lambda jobs: compare_jobs(Sweep(place, "ldmkit run -m model=a,b", jobs))


def test_the_table_has_what_was_chosen_and_what_was_measured(tmp_path: Path, place: Path, compare: Compare) -> None:
    runs = [
        run(tmp_path, "one", ["model=a", "scale=smoke"], measured(20.125)),
        run(tmp_path, "two", ["model=bbb", "scale=smoke"], measured(9.5)),
    ]
    said = compare(runs)
    assert said.splitlines() == [
        "model   psnr  verified  seconds",
        "a      20.12     50.0%      2.5",
        "bbb      9.5     50.0%      2.5",
        str(place / "report.html"),
    ]
    assert json.loads((place / "table.json").read_text()) == [
        {"run": "one", "state": "finished", "model": "a", "psnr": 20.125, "verified": 0.5, "seconds": 2.5},
        {"run": "two", "state": "finished", "model": "bbb", "psnr": 9.5, "verified": 0.5, "seconds": 2.5},
    ]


def test_the_sheet_has_the_originals_once_and_a_row_for_each_run(tmp_path: Path, place: Path, compare: Compare) -> None:
    runs = [run(tmp_path, name, [f"model={name}"], measured(1.0), level) for name, level in (("a", 60), ("b", 120))]
    compare(runs)
    with Image.open(place / "sheet.png") as sheet:
        right = sheet.width - GAP - CELL // 2
        middles = [GAP + row * (CELL + GAP) + CELL // 2 for row in range(3)]
        assert sheet.height == 3 * (CELL + GAP) + GAP
        assert [sheet.getpixel((right, middle)) for middle in middles] == [(level,) * 3 for level in (255, 60, 120)]


def test_other_originals_have_a_row_of_their_own(tmp_path: Path, place: Path, compare: Compare) -> None:
    runs = [run(tmp_path, name, [f"data={name}"], measured(1.0)) for name in ("a", "b")]
    flat(runs[1].run / "reconstructions" / "00000-original.png", 7)
    compare(runs)
    with Image.open(place / "sheet.png") as sheet:
        assert sheet.height == 4 * (CELL + GAP) + GAP


def test_samples_stand_below_the_reconstructions(tmp_path: Path, place: Path, compare: Compare) -> None:
    runs = [run(tmp_path, name, [f"model={name}"], measured(1.0)) for name in ("a", "b")]
    flat(runs[0].run / "samples" / "00000.png", 9)
    flat(runs[0].run / "samples" / "grid.png", 9, size=300)
    compare(runs)
    with Image.open(place / "sheet.png") as sheet:
        assert sheet.height == 4 * (CELL + GAP) + GAP


def test_numbers_that_were_not_measured_alike_are_named(tmp_path: Path, place: Path, compare: Compare) -> None:
    runs = [
        run(tmp_path, "one", ["seed=1"], measured(1.0, seed=1)),
        run(tmp_path, "two", ["seed=2"], measured(2.0, seed=2, extractor="other")),
    ]
    assert "psnr was not measured alike in all runs: extractor differ\n" in compare(runs)
    assert "was not measured alike" in (place / "report.html").read_text()


def test_a_number_that_a_run_lacks_leaves_its_cell_empty(tmp_path: Path, place: Path, compare: Compare) -> None:
    more = measured(2.0)
    more["first_stage"]["rfid"] = 3.0
    runs = [run(tmp_path, "one", ["seed=1"], measured(1.0)), run(tmp_path, "two", ["seed=2"], more)]
    head, first, *_ = compare(runs).splitlines()
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


def test_jobs_without_numbers_stand_below_the_table_with_the_reason(
    tmp_path: Path, place: Path, compare: Compare
) -> None:
    jobs = [run(tmp_path, name, [f"seed={name}"], measured(1.0)) for name in ("1", "2")]
    failed = Job(id="3", overrides=["seed=3"], state="failed", code=3, error="no <images>")
    said = compare([*jobs, failed, Job(id="4", overrides=["seed=4"])])
    assert said.splitlines()[-2:] == ["2 of 4 jobs have no numbers", str(place / "report.html")]
    page = (place / "report.html").read_text()
    assert "<h1>2 of 4 runs side by side</h1>" in page
    assert '<td>3</td><td class="wrong" colspan="4">failed: exit 3: no &lt;images&gt;</td>' in page
    assert '<td>4</td><td class="wrong" colspan="4">missing</td>' in page
    table = json.loads((place / "table.json").read_text())
    assert [row["state"] for row in table] == ["finished", "finished", "failed", "missing"]
    assert "psnr" not in table[2]


def test_before_a_run_has_numbers_nothing_is_written(tmp_path: Path, place: Path, compare: Compare) -> None:
    job = run(tmp_path, "1", ["seed=1"], measured(1.0))
    assert job.run is not None
    (job.run / "metrics.json").unlink()
    assert compare([job]) == ""
    assert list(place.iterdir()) == []


def test_the_page_holds_the_sheet_and_leads_to_the_reports_and_markup_stays_text(
    tmp_path: Path, place: Path, compare: Compare
) -> None:
    bad = "<script>alert(1)</script>"
    runs = [run(tmp_path, name, [f"model={name}{bad}"], measured(1.0)) for name in ("a", "b")]
    compare(runs)
    page = (place / "report.html").read_text()
    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in page
    assert "<script>alert" not in page
    assert "a&lt;script&gt;alert(1)" in page
    assert "data:image/png;base64," in page
    assert 'href="../../runs/a/report.html"' in page
    assert "ldmkit run -m model=a,b" in page


def sampled(directory: Path, overrides: list[str], sampler: dict[str, Any], *, evaluations: float, level: int) -> Job:
    """A finished job with two samples of ``level``."""
    metrics = measured(1.0)
    metrics |= {"samples": {"evaluations": evaluations}, "prompt": {"all": level / 255, "count": 2}}
    job = run(directory, " ".join(overrides), overrides, metrics)
    assert job.run is not None
    (job.run / "config.json").write_text(json.dumps({"sampler": {"steps": 1, "spacing": "trailing", **sampler}}))
    for index in range(2):
        flat(job.run / "samples" / f"{index:05d}.png", level)
    return job


def numbers(place: Path, name: str) -> list[float | None]:
    return [row.get(name) for row in json.loads((place / "table.json").read_text())]


DDIM, ANCESTRAL, UNIPC = {"name": "ddim", "eta": 0.0}, {"name": "ddim", "eta": 1.0}, {"name": "unipc", "predictor": 2}


def test_error_is_measured_from_the_samples_with_the_most_evaluations(
    tmp_path: Path, place: Path, compare: Compare
) -> None:
    """Of two with as many, from those of the higher order."""
    runs = [
        sampled(tmp_path, ["sampler=ddim", "sampler.steps=5"], DDIM, evaluations=10, level=200),
        sampled(tmp_path, ["sampler=ddim", "sampler.steps=50"], DDIM, evaluations=100, level=110),
        sampled(tmp_path, ["sampler=unipc", "sampler.steps=5"], UNIPC, evaluations=10, level=102),
        sampled(tmp_path, ["sampler=unipc", "sampler.steps=50"], UNIPC, evaluations=100, level=100),
        sampled(tmp_path, ["sampler=euler-a", "sampler.steps=200"], ANCESTRAL, evaluations=400, level=0),
    ]
    said = compare(runs)
    assert numbers(place, "samples evaluations") == [10, 100, 10, 100, 400]
    errors = [100 / 127.5, 10 / 127.5, 2 / 127.5, None, None]
    assert numbers(place, "samples error") == [error and pytest.approx(error) for error in errors]
    for text in (said, (place / "report.html").read_text()):
        assert "with the most evaluations (unipc, 50), same prompts and seeds" in text


def test_samples_are_compared_within_one_model(tmp_path: Path, place: Path, compare: Compare) -> None:
    runs = [
        sampled(tmp_path, [f"model={model}", f"sampler.steps={steps}"], DDIM, evaluations=steps, level=level)
        for model, steps, level in (("a", 5, 12), ("a", 10, 10), ("b", 5, 240), ("b", 10, 240))
    ]
    compare(runs)
    assert numbers(place, "samples error") == [pytest.approx(2 / 127.5), None, 0.0, None]


@pytest.mark.parametrize("spoil", ["fewer", "size", "alike"])
def test_samples_that_cannot_be_compared_have_no_error(
    tmp_path: Path, place: Path, compare: Compare, spoil: str
) -> None:
    runs = [
        sampled(tmp_path, [f"sampler.steps={steps}"], DDIM, evaluations=5 if spoil == "alike" else steps, level=9)
        for steps in (5, 10)
    ]
    if spoil == "fewer":
        (runs[0].run / "samples" / "00001.png").unlink()
    elif spoil == "size":
        flat(runs[0].run / "samples" / "00000.png", 9, size=64)
    assert "samples error" not in compare(runs)


def test_the_page_draws_error_and_quality_over_evaluations_with_a_line_for_each_sampler(
    tmp_path: Path, place: Path, compare: Compare
) -> None:
    runs = [
        sampled(tmp_path, [f"sampler={part['name']}", f"sampler.steps={steps}"], part, evaluations=steps, level=level)
        for part, steps, level in ((DDIM, 5, 9), (DDIM, 20, 20), (UNIPC, 5, 15), (UNIPC, 20, 22))
    ]
    drawn = dict(over_evaluations(with_errors(read_rows(runs))[0]))
    assert list(drawn) == ["samples error over evaluations", "prompt all, % over evaluations"]
    quality = ElementTree.fromstring(drawn["prompt all, % over evaluations"])
    assert len(quality.findall("polyline")) == 2
    assert {"ddim", "unipc", "evaluations"} <= {text.text for text in quality.findall("text")}
    compare(runs)
    page = (place / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "counted while it was drawn" in page


def test_without_a_sweep_over_steps_nothing_is_drawn(tmp_path: Path, place: Path, compare: Compare) -> None:
    runs = [sampled(tmp_path, [f"model={name}"], DDIM, evaluations=20, level=9) for name in ("a", "b")]
    compare(runs)
    assert "<svg" not in (place / "report.html").read_text()


def test_a_sheet_enlarges_small_pictures_by_whole_factors_and_keeps_large_ones(tmp_path: Path) -> None:
    small, large = flat(tmp_path / "s.png", 10, size=40), flat(tmp_path / "l.png", 20, size=200)
    path = save_sheet([Strip("row", [small, large])], tmp_path / "sheet.png")
    assert path is not None
    with Image.open(path) as sheet:
        left = sheet.width - 2 * (200 + GAP)
        assert sheet.getpixel((left + 199, GAP + 199)) == (10, 10, 10)  # 40 pixels five times
        assert sheet.getpixel((left + 200 + GAP, GAP)) == (20, 20, 20)
    assert save_sheet([], tmp_path / "none.png") is None

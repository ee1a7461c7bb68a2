"""The report shows what the run did, in one file that can do no harm."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ldmkit_tasks.report import Summary, write_report
from ldmkit_tasks.report_curves import read_curves, speed
from ldmkit_tasks.report_numbers import clock, headline, wilson
from PIL import Image

from ldmkit.pictures import read_metadata, save_png

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "</style><h1>gone",
    "\x1b[31m\x00 and \ud800",
    "\u202eright to left",
    "a" * 10_000,
]
VOID = {"meta", "img", "input", "line", "circle", "polyline"}


class Page(HTMLParser):
    """The elements, attributes and texts of a page; raises where its elements do not nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text("utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def having(self, tag: str, kind: str = "") -> list[dict[str, str]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and (not kind or kind in attributes.get("class", "").split())
        ]

    def section_ids(self) -> set[str]:
        return {attributes["id"] for name, attributes in self.elements if name == "section"}


def picture(path: Path, size: int = 64, **record: Any) -> Path:
    pixels = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return save_png(pixels, path, record)


def empty() -> dict[str, Any]:
    return {
        "command": "ldmkit run",
        "config": {},
        "metrics": {},
        "stages": [],
        "samples": [],
        "reconstructions": [],
        "previews": [],
        "versions": {},
    }


def full(directory: Path, prompts: list[str]) -> Summary:
    """A run with every section, its log beside it."""
    samples = [
        SimpleNamespace(
            path=picture(directory / "samples" / f"{index}.png", prompt=prompt, seed=index),
            prompt=prompt,
            seed=index,
            verdict={"colour": True, "shape": index % 2 == 0, "all": index % 2 == 0},
        )
        for index, prompt in enumerate(prompts)
    ]
    log = [
        {
            "event": "step",
            "stage": stage,
            "step": step,
            "metrics": {"loss": 1 / step, "images": 8 * step, "seconds": step},
        }
        for stage in ("first-stage", "denoiser")
        for step in range(1, 100)
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log), "utf-8")
    return Summary(
        command="ldmkit run 'cond=[text]' seed=1",
        config={
            "seed": 1,
            "resume": None,
            "model": {"name": "kl", "z_channels": {"f8": 8}},
            "cond": {"text": {"name": "text"}},
        },
        metrics={
            "first_stage": {"psnr": 36.304, "psnr_count": 256, "verified": 0.98828125, "verified_count": 256},
            "prompt": {"colour": 1.0, "all": 0.75, "count": 256},
        },
        stages=[
            SimpleNamespace(name="first-stage", steps=100, seconds=0.02, reused=True),
            SimpleNamespace(name="denoiser", steps=100, seconds=245.0, reused=False),
        ],  # type: ignore[arg-type]
        samples=samples,  # type: ignore[arg-type]
        reconstructions=[(picture(directory / "o.png"), picture(directory / "r.png"))],
        previews=[(300, picture(directory / "p.png", 200)), (600, picture(directory / "q.png", 500))],
        versions={"ldmkit": "0.1.0", "torch": "2.13.0"},
    )


def test_the_page_stands_alone_and_holds_no_script(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, full(tmp_path, HOSTILE)))
    assert not {tag for tag, _ in page.elements} & {"script", "iframe", "object", "embed", "link", "base", "form", "h4"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not {"href", "srcset", "action", "data", "background"} & set(attributes), tag
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    style = page.source[page.source.index("<style>") : page.source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?:|//[a-z]", re.sub('src="data:[^"]*"', "", page.source))
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_a_hostile_prompt_is_shown_as_text_in_a_direction_of_its_own(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, full(tmp_path, HOSTILE)))
    for prompt in HOSTILE:
        shown = prompt.replace("\x1b", "\N{REPLACEMENT CHARACTER}").replace("\x00", "\N{REPLACEMENT CHARACTER}")
        assert shown.replace("\ud800", "\N{REPLACEMENT CHARACTER}") in page.texts
    assert len(page.having("bdi", "prompt")) == len(HOSTILE)


@pytest.mark.parametrize("where", ["command", "config", "versions", "metrics", "stage"])
def test_markup_from_anywhere_stays_text(tmp_path: Path, where: str) -> None:
    bad = "<script>alert(1)</script>"
    values = empty() | {
        "command": bad,
        "config": {"data": {"name": bad, bad: [bad]}, bad: bad},
        "versions": {bad: bad},
        "metrics": {bad: {bad: 1.0}},
        "stages": [SimpleNamespace(name=bad, steps=1, seconds=1.0, reused=False)],
    }
    log = [{"event": "step", "stage": bad, "step": step, "metrics": {bad: 1.0, "loss": 1.0}} for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, log)), "utf-8")
    page = Page(write_report(tmp_path, Summary(**values)))
    assert not page.having("script")
    assert page.texts.count(bad) >= 10


def test_pictures_are_inside_whole_and_with_their_metadata(tmp_path: Path) -> None:
    summary = full(tmp_path, ["a red circle", "a blue square"])
    page = Page(write_report(tmp_path, summary))
    images = page.having("img")
    assert len(images) == 2 + 2 + 2
    for attributes in images:
        data = base64.b64decode(attributes["src"].partition(",")[2], validate=True)
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            factor = {64: 2, 200: 2, 500: 1}[opened.width]  # a sample into 128 pixels, a grid into 400
            assert (int(attributes["width"]), int(attributes["height"])) == (
                factor * opened.width,
                factor * opened.height,
            )
        assert ("enlarged" in attributes["class"]) == (factor == 2)
    first = tmp_path / "again.png"
    first.write_bytes(base64.b64decode(images[0]["src"].partition(",")[2]))
    assert read_metadata(first) == {"prompt": "a red circle", "seed": 0}
    assert "image-rendering: pixelated" in page.source


def test_a_run_is_told_with_all_its_sections(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, full(tmp_path, ["a red circle", "a blue square", "a green cross"])))
    expected = {"samples", "prompts", "previews", "reconstructions", "curves", "stages", "numbers", "config"}
    assert page.section_ids() == expected
    said = {
        "ldmkit run 'cond=[text]' seed=1",
        "2 of these 3 pictures obey their prompt in everything, read back out of their pixels.",
        "after step 300",
        "36.3",
        "98.8",
        "4:05 min",
        "reused",
        "0.1.0",
        "model.z_channels.f8",
        "null",
    }
    assert said <= set(page.texts)
    assert page.texts.count("✗ shape") == 1
    assert page.texts.count("✓ colour") == 3
    assert len(page.having("figure", "missed")) == 1
    assert len(page.having("input")) == 1
    assert len(page.having("svg", "chart")) == 2 * 2


def test_what_a_run_lacks_is_left_out(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, Summary(**empty())))
    assert page.section_ids() == set()
    assert "None" not in page.source
    assert "ldmkit run" in page.texts


def test_samples_without_prompts_and_verdicts_are_shown_as_they_are(tmp_path: Path) -> None:
    sample = SimpleNamespace(path=picture(tmp_path / "a.png"), prompt="", seed=3, verdict=None)
    page = Page(write_report(tmp_path, Summary(**empty() | {"samples": [sample]})))
    assert page.section_ids() == {"samples"}
    assert "seed 3" in page.texts
    assert not page.having("input")
    assert not page.having("bdi")
    assert "✓" not in page.source


def test_a_picture_that_is_gone_or_damaged_costs_itself_alone(tmp_path: Path) -> None:
    summary = full(tmp_path, ["a", "b", "c"])
    (tmp_path / "samples" / "0.png").unlink()
    (tmp_path / "samples" / "1.png").write_bytes(b"no picture")
    page = Page(write_report(tmp_path, summary))
    assert len(page.having("figure", "sample")) == 1


def test_a_report_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    path = write_report(tmp_path, Summary(**empty()))
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        write_report(tmp_path, Summary(**empty() | {"stages": [None]}))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_of_two_records_of_a_step_the_later_one_counts_and_damage_is_passed_over(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    good = '{"event": "step", "stage": "s", "step": %d, "metrics": {"loss": %s}}\n'
    log.write_text(
        good % (1, 5.0)
        + good % (2, 4.0)
        + 'no json\n[1]\n"x"\n{"event": "step"}\n{"event": "metrics", "section": "s", "metrics": {"loss": 9}}\n'
        + good % (2, 3.0)
        + good % (3, '"nan"')
        + (good % (4, 2.0))[:40],
        "utf-8",
    )
    (loss,) = read_curves(log)["s"].values()
    assert loss[:2] == [(1, 5.0), (2, 3.0)]
    assert [step for step, _ in loss] == [1, 2, 3]
    assert read_curves(tmp_path / "missing.jsonl") == {}


def test_speed_is_what_was_done_between_two_records() -> None:
    images = [(1, 8.0), (11, 88.0), (21, 168.0)]
    seconds = [(1, 5.0), (11, 6.0), (21, 6.0)]
    assert speed(images, seconds) == [(11, 80.0)]


@pytest.mark.parametrize(
    ("value", "count", "bounds"),
    [
        (0.5, 100, (0.4038, 0.5962)),
        (1.0, 10, (0.7225, 1.0)),
        (0.0, 10, (0.0, 0.2775)),
    ],  # Brown et al. 2001, table values
)
def test_intervals_of_shares_are_wilsons(value: float, count: int, bounds: tuple[float, float]) -> None:
    assert wilson(value, count) == pytest.approx(bounds, abs=5e-5)


def test_the_head_shows_what_it_knows_else_what_there_is() -> None:
    known = headline({"first_stage": {"psnr": 36.3, "other": 1.0}, "x": {"y": 2.0}}, 3725.0)
    assert [(tile.label, tile.value, tile.unit) for tile in known] == [
        ("Reconstruction PSNR", "36.3", "dB"),
        ("Time of all stages", "1:02", "h"),
    ]
    assert [tile.label for tile in headline({"fid": {"fid": 3.2, "fid_count": 50_000}}, 0)] == ["fid: fid"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.02, "0.0 s"), (59.9, "59.9 s"), (59.96, "1:00 min"), (3600, "1:00 h")]
)
def test_times_are_written_for_people(seconds: float, text: str) -> None:
    assert clock(seconds) == text

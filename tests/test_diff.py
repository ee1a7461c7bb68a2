"""`ldmkit diff`: what two runs differ in, on the terminal, for programs, and on a page with their pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from ldmkit.cli import main
from ldmkit.pictures import save_png

FIRST, SECOND = "20260101-120000-aaaa", "20260102-120000-bbbb"
STORED = {"name": "first-stage", "steps": 10, "seconds": 1.0, "reused": False, "digest": "f" * 64}
ORIGIN = {
    "where": "model",
    "kind": "model",
    "name": "kl",
    "distribution": "ldmkit",
    "version": "0.1.0",
    "code": "c" * 64,
}


def write_run(name: str, config: dict[str, Any], all_right: float, denoiser: str, seed: int = 0, **record: Any) -> Path:
    directory = Path("outputs/runs") / name
    directory.mkdir(parents=True)
    config = {"task": {"name": "train"}, "scale": {"name": "smoke", "image_size": seed}, **config}
    told = {
        "command": "ldmkit run",
        "overrides": [],
        "versions": {"ldmkit": "0.1.0", "torch": "2.13.0"},
        "state": "finished",
        "stages": [
            STORED,
            {**STORED, "name": "denoiser", "digest": denoiser * 64},
            {**STORED, "name": "samples", "digest": ""},
        ],
        **record,
    }
    metrics = {"prompt": {"all": all_right, "count": 4}, "protocol": {}, "seconds": {"total": 3.0}}
    for file, value in {"config.json": config, "run.json": told, "metrics.json": metrics}.items():
        (directory / file).write_text(json.dumps(value))
    for index in range(3):
        picture = torch.full((3, 8, 8), 10 * index + seed, dtype=torch.uint8)
        save_png(picture, directory / "samples" / f"{index:05d}.png", {"prompt": f"<b>{index}", "seed": seed + index})
    return directory


@pytest.fixture(autouse=True)
def two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(FIRST, {"seed": 0, "sampler": {"name": "ddim", "steps": 20}}, 0.5, "a", parts=[ORIGIN])
    other = {**ORIGIN, "code": "d" * 64}
    write_run(SECOND, {"seed": 0, "sampler": {"name": "heun", "steps": 20, "spacing": None}}, 0.75, "b", parts=[other])


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["diff", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_what_differs_is_told_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, FIRST, SECOND)
    assert found["config"] == {"sampler.name": {"first": "ddim", "second": "heun"}, "sampler.spacing": {"second": None}}
    assert found["metrics"]["prompt.all"] == {"first": 0.5, "second": 0.75, "change": 0.25}
    assert found["versions"] == {
        "code of model 'kl'": {"first": f"ldmkit 0.1.0, {'c' * 12}", "second": f"ldmkit 0.1.0, {'d' * 12}"}
    }
    assert {name: stage["shared"] for name, stage in found["stages"].items()} == {
        "first-stage": True,
        "denoiser": False,
    }


def test_a_run_does_not_differ_from_itself(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "aaaa", FIRST)
    assert (found["config"], found["versions"]) == ({}, {})
    assert all(stage["shared"] for stage in found["stages"].values())
    assert {sides["change"] for sides in found["metrics"].values()} == {0.0}


def test_the_terminal_shows_a_table_and_where_the_page_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "aaaa", "bbbb"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"sampler\.name +ddim +heun", out)
    assert re.search(r"sampler\.spacing +- +null", out)
    assert re.search(r"prompt\.all +0\.5 +0\.75 +\+0\.25", out)
    assert "stages shared: first-stage; not shared: denoiser" in out
    assert Path(out.splitlines()[-1]) == Path(f"outputs/diffs/{FIRST}-{SECOND}.html").absolute()


def test_the_page_has_the_pictures_of_the_same_prompts_and_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "aaaa", "bbbb", "--out", "here/page.html"]) == 0
    page = Path("here/page.html").read_text()
    assert page.count("<img") == 6
    assert page.count("seed 1") == 1
    assert "&lt;b&gt;1" in page
    assert "<b>" not in page
    assert "<script" not in page


def test_of_other_seeds_the_same_prompts_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    write_run("20260103-120000-cccc", {"seed": 7}, 0.5, "a", seed=7)
    assert main(["diff", "aaaa", "cccc", "--out", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert page.count("<img") == 6
    assert "seeds 1 and 8" in page


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["aaaa", "nowhere"], f"there is no run 'nowhere'. There is: {FIRST}, {SECOND}"),
        (["20260101-120000-aaab", "bbbb"], f"did you mean '{FIRST}'?"),
        (["2026", "bbbb"], f"'2026' is the beginning of {FIRST}, {SECOND}; type more of it"),
    ],
)
def test_a_run_that_is_not_there_is_one_line(runs: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", *runs]) == 4
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_the_task_s_package_there_is_a_table_and_no_page(capsys: pytest.CaptureFixture[str]) -> None:
    config = Path("outputs/runs") / FIRST / "config.json"
    config.write_text(config.read_text().replace('"train"', '"gone"'))
    assert main(["diff", "aaaa", "bbbb"]) == 0
    out, error = capsys.readouterr()
    assert "prompt.all" in out
    assert error.startswith("ldmkit: no page: ")

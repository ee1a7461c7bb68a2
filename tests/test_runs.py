"""`ldmkit runs`: which runs are listed, how it stands with them, and which run an id means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from ldmkit.cli import main
from ldmkit.errors import CheckpointError
from ldmkit.records import RUNS, find_run, missing_run, read_run

TEXT, CLASS, STOPPED = "20260101-120000-aaaa", "20260102-120000-abbb", "20260103-120000-cccc"


def write_run(name: str, overrides: list[Any], config: dict[str, Any], metrics: Any = None, **record: Any) -> Path:
    directory = RUNS / name
    directory.mkdir(parents=True)
    told = {"command": f"ldmkit run {' '.join(map(str, overrides))}", "overrides": overrides, "versions": {}, **record}
    files = {"config.json": config, "run.json": told, **({} if metrics is None else {"metrics.json": metrics})}
    for file, value in files.items():
        (directory / file).write_text(json.dumps(value))
    return directory


@pytest.fixture(autouse=True)
def three_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    text = {"model": {"name": "kl"}, "cond": {"text": {"name": "text"}}, "seed": 0, "guidance": {"scale": 2.0}}
    classes = {**text, "cond": {"class": {"name": "class"}}, "seed": 1}
    measured = {"first_stage": {"psnr": 35.0}, "prompt": {"all": 0.98, "count": 256}, "seconds": {"total": 440.0}}
    worse = {"first_stage": {"psnr": 37.0}, "prompt": {"all": 0.5, "count": 256}, "seconds": {"total": 300.0}}
    write_run(TEXT, ["model=kl-f8", "cond=text"], text, measured, state="finished", stages=[])
    write_run(CLASS, ["model=kl-f4", "cond=[class]", "seed=1"], classes, worse, state="finished", stages=[])
    write_run(STOPPED, ["cond=[]"], {**text, "cond": {}}, state="failed", error="loss is not finite")


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["runs", *arguments, "--json"]) == 0
    return [run["id"] for run in json.loads(capsys.readouterr().out)]


# Which runs


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [TEXT, CLASS, STOPPED]),
        (["cond=text"], [TEXT]),
        (["cond=[text]"], [TEXT]),
        (["cond=[]"], [STOPPED]),
        (["model=kl-f8"], [TEXT]),
        (["model=kl"], [STOPPED]),
        (["seed=0"], [TEXT, STOPPED]),
        (["guidance.scale=2.0", "model=kl-f4"], [CLASS]),
        (["prompt.all>0.9"], [TEXT]),
        (["all<=0.5"], [CLASS]),
        (["prompt.all < 0.9", "psnr>=37"], [CLASS]),
        (["--state", "failed"], [STOPPED]),
        (["--sort", "prompt.all"], [STOPPED, CLASS, TEXT]),
        (["--limit", "2"], [CLASS, STOPPED]),
        (["--sort", "psnr", "--limit", "1"], [CLASS]),
        (["nothing.there=1"], []),
    ],
)
def test_runs_are_chosen_by_overrides_metrics_and_state(
    arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert listed(capsys, *arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cond"], "'cond' is no filter; type KEY=VALUE, as model=kl-f8, or METRIC>NUMBER"),
        (["prompt.al>0.9"], "no run has the metric 'prompt.al'; did you mean 'prompt.all'?"),
        (["prompt.all>much"], "compares with 'much', which is no number"),
        (["--sort", "fid"], "no run has the metric 'fid'. There is: first_stage.psnr, prompt.all, seconds"),
        (["--state", "done"], "--state: invalid choice: 'done'"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error.replace("argument ", "")
    assert error.count("\n") == 1


def test_a_damaged_run_costs_itself_alone(capsys: pytest.CaptureFixture[str]) -> None:
    (RUNS / TEXT / "metrics.json").write_text('{"prompt": {"all": 0.9')
    (RUNS / CLASS / "config.json").unlink()
    assert main(["runs"]) == 0
    out, error = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["run", STOPPED]
    assert f"{TEXT}/metrics.json'" in error
    assert f"{CLASS}/config.json'" in error


def test_what_is_no_number_is_no_metric(capsys: pytest.CaptureFixture[str]) -> None:
    odd = {"prompt": {"all": "high", "size": None}, "seconds": 3, "reused": ["latents"], "samples": {"fid": 1.5}}
    write_run("20260104-120000-dddd", ["seed=5", 7], {}, odd, state="finished", stages=3)
    assert main(["runs", "seed=5", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run["metrics"] == {"samples.fid": 1.5}


def test_without_runs_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--outputs", str(tmp_path / "elsewhere"), "prompt.all>1"]) == 0
    assert "there is no run in" in capsys.readouterr().out


# The table


def test_every_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_run("20260104-120000-dddd", [f"train.denoiser.steps={'9' * 200}"], {}, state="finished")
    for columns in (70, 90, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        main(["runs"])
        assert max(map(len, capsys.readouterr().out.splitlines())) <= columns


def test_without_a_terminal_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    write_run("20260104-120000-dddd", ["seed=5", f"data.path={'x' * 300}"], {}, state="finished")
    main(["runs"])
    out = capsys.readouterr().out
    assert "x" * 300 in out
    assert all(name in out for name in ("prompt.all", "first_stage.psnr", "seconds"))
    assert "prompt.count" not in out


def test_overrides_in_which_the_runs_differ_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        write_run(f"20260105-12000{number}-eeee", ["scale=smoke", f"seed={number}"], {}, state="finished")
    main(["runs", "scale=smoke"])
    assert [line.split()[-2:] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["seed=1", "scale=smoke"],
        ["seed=2", "scale=smoke"],
    ]


# How it stands with a run


def test_a_run_without_an_end_goes_on_while_it_is_held_and_is_interrupted_afterwards() -> None:
    directory = write_run("20260106-120000-ffff", [], {})
    assert read_run(directory).state == "interrupted"
    with FileLock(directory / ".lock"):
        assert read_run(directory).state == "going on"
    assert read_run(directory).state == "interrupted"


# Which run is meant


@pytest.mark.parametrize("named", [TEXT, f"outputs/runs/{TEXT}", "20260101", TEXT[:-1], "aaaa", "aa"])
def test_the_beginning_of_an_id_is_enough(named: str) -> None:
    assert find_run(named) == RUNS / TEXT


def test_what_several_runs_begin_with_is_refused_with_their_ids() -> None:
    with pytest.raises(CheckpointError, match=rf"'a' is the beginning of {TEXT}, {CLASS}; type more of it"):
        find_run("a")


def test_what_no_run_begins_with_is_none_and_the_nearest_is_named() -> None:
    assert find_run("20260101-120000-aaab") is None
    assert find_run("") is None
    said = str(missing_run("20260101-120000-aaab"))
    assert f"did you mean '{TEXT}'? There is: {TEXT}, {CLASS}, {STOPPED}" in said

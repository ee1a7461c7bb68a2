"""Sweeps: the same command is the same sweep, finds what is done, and runs what is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from ldmkit import sweep
from ldmkit.cli import main
from ldmkit.errors import CheckpointError
from ldmkit.registry.discovery import registry

Install = Callable[..., Path]
Hook = Callable[..., str]

PART = """
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from ldmkit.errors import DataError
from ldmkit.run import Task


class Part(Task):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config):
        self.config = config

    def run(self, run):
        with Path("log").open("a") as log:
            log.write(f"{run.seed} {run.id}\\n")
        if Path(f"fails-{run.seed}").exists():
            raise DataError(f"no images for {run.seed}")
        if Path(f"dies-{run.seed}").exists():
            os.kill(os.getpid(), signal.SIGKILL)

    def compare(self, sweep):
        return " ".join(job.state for job in sweep.jobs) + "\\n"
"""


def sweep_over(seeds: str) -> list[str]:
    """The arguments of a sweep of the task."""
    return ["run", "-m", "task=flaky", f"seed={seeds}", "logger=[]", "metric=[]", "cond=[]"]


JOBS = sweep_over("0,1,2,3,4,5,6,7")


@pytest.fixture
def site(install: Install, hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A task that fails or dies where a file says so, installed; the working directory is an empty one."""
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    files = {"part.py": PART, "conf/task/flaky.yaml": "name: flaky # fails\n"}
    found = install("ldmkit-flaky", hook("ldmkit_flaky", kind="task", name="flaky"), files=files)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    known = Plugins.instance().plugin_type_to_subclass_list[SearchPathPlugin]
    before = list(known)
    yield found
    known[:] = before


def ran() -> list[int]:
    """The seeds that were run since this was asked last."""
    log = Path("log")
    seeds = [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    return seeds


def the_sweep() -> sweep.Sweep:
    (directory,) = Path("outputs", "sweeps").iterdir()
    return sweep.read(directory)


@pytest.mark.slow
def test_of_eight_jobs_two_fail_and_one_is_killed_and_the_same_command_runs_these_three(
    site: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("fails-2", "fails-5", "dies-7"):
        Path(name).touch()
    killed = subprocess.run(
        [sys.executable, "-P", "-m", "ldmkit", *JOBS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert ran() == [0, 1, 2, 3, 4, 5, 6, 7]
    states = ["finished", "finished", "failed", "finished", "finished", "failed", "finished", "interrupted"]
    before = the_sweep().jobs
    assert [job.state for job in before] == states
    assert (before[2].code, before[2].error) == (3, "no images for 2")

    for name in ("fails-2", "dies-7"):
        Path(name).unlink()
    assert main(JOBS) == 3
    assert ran() == [2, 5, 7]
    said = capfd.readouterr()
    assert said.out == "finished finished finished finished finished failed finished finished\n"
    assert said.err.startswith("ldmkit: 5 of 8 jobs are done; running the other 3\n")
    assert "  seed=5 (exit 3: no images for 5)\n" in said.err
    assert the_sweep().jobs[7].run == before[7].run, "what was interrupted goes on where it was"
    assert the_sweep().jobs[2].run != before[2].run

    Path("fails-5").unlink()
    assert main(JOBS) == 0
    assert ran() == [5]
    assert main(JOBS) == 0
    assert ran() == []
    assert "8 of 8 jobs are done\n" in capfd.readouterr().err


def test_finished_means_with_the_code_of_today(site: Path) -> None:
    two = sweep_over("1,2")
    assert main(two) == 0
    assert ran() == [1, 2]
    part = site / "ldmkit_flaky" / "part.py"
    part.write_text(part.read_text() + "\n\nCHANGED = True\n")
    registry.cache_clear()
    sweep._digest.cache_clear()
    assert main(two) == 0
    assert ran() == [1, 2]


def test_another_command_is_another_sweep_and_the_same_jobs_are_the_same(site: Path) -> None:
    assert main(sweep_over("1,2")) == 0
    assert main(sweep_over("1,2,3")) == 0
    assert ran() == [1, 2, 1, 2, 3]
    assert len(list(Path("outputs", "sweeps").iterdir())) == 2
    assert main([*sweep_over("range(1,3)"), "hydra/launcher=basic"]) == 0
    assert ran() == []


def test_a_run_that_was_deleted_is_run_again(site: Path) -> None:
    two = sweep_over("1,2")
    assert main(two) == 0
    gone = the_sweep().jobs[0].run
    assert gone is not None
    for path in sorted(gone.rglob("*"), reverse=True):
        path.unlink()
    gone.rmdir()
    assert [job.state for job in the_sweep().jobs] == ["missing", "finished"]
    assert main(two) == 0
    assert ran() == [1, 2, 1]


def test_two_processes_do_not_run_one_sweep(site: Path, capfd: pytest.CaptureFixture[str]) -> None:
    two = sweep_over("1,2")
    assert main(two) == 0
    with FileLock(the_sweep().directory / sweep.LOCK):
        assert main(two) == 2
    assert "another process is running the sweep 'outputs/sweeps/" in capfd.readouterr().err


def test_a_job_is_going_on_while_its_run_is_held(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "1"
    run.mkdir(parents=True)
    sweep.Job(id="a", overrides=["seed=1"], state="going on", run=run).write(tmp_path / "sweeps" / "x")
    with FileLock(run / sweep.LOCK):
        found = sweep.read_job(tmp_path / "sweeps" / "x", "a")
        assert found is not None
        assert (found.state, found.run) == ("going on", run)
    found = sweep.read_job(tmp_path / "sweeps" / "x", "a")
    assert found is not None
    assert found.state == "interrupted"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"command": "x", "jobs": [1]}'])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"sweep\.json"):
        sweep.read(tmp_path)


def test_a_damaged_record_of_a_job_is_as_none(tmp_path: Path) -> None:
    sweep.begin(tmp_path, "ldmkit run -m seed=1", [sweep.Job(id="a", overrides=["seed=1"])])
    (directory,) = (tmp_path / "sweeps").iterdir()
    (directory / "jobs").mkdir()
    for text in ("{", "[]", json.dumps({"id": "a"}), json.dumps({"unknown": 1})):
        (directory / "jobs" / "a.json").write_text(text)
        assert [job.state for job in sweep.read(directory).jobs] == ["missing"]


def test_a_report_of_a_sweep_tells_how_it_stands(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = sweep_over("1,2")
    Path("fails-2").touch()
    assert main(two) == 3
    found = the_sweep()
    capsys.readouterr()
    for name in (found.directory.name, found.directory.name[:4], str(found.directory)):
        assert main(["report", name]) == 0
        assert capsys.readouterr().out == "finished failed\n"


def test_what_has_no_report_says_so(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "x"]) == 2
    assert "there is no run or sweep 'x'. There is nothing in 'outputs'" in capsys.readouterr().err
    Path("fails-1").touch()
    assert main(sweep_over("1")) == 3
    (run,) = Path("outputs", "runs").iterdir()
    assert main(["report", run.name]) == 2
    assert f"'{run.name}' is a run of task 'flaky', which writes no report" in capsys.readouterr().err
    assert main(["report", the_sweep().directory.name]) == 2
    assert "has finished; to go on: ldmkit run -m task=flaky seed=1" in capsys.readouterr().err

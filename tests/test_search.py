"""Sweeps that search: each job gives back a number, Optuna chooses the next."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ldmkit.cli import main
from ldmkit.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:The ``declarative_base")  # optuna 2 calls it as SQLAlchemy 1 had it

OPTUNA = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler.seed=1"]
SEARCH = [*OPTUNA, "returns=prompt.all", "guidance.scale=interval(1,6)", "sampler.steps=range(2,9)"]


class Jobs:
    """Stands in for ``ldmkit.run.job``: measures a share that is best at a guidance scale of 3 and many steps."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.failing: set[int] = set()

    def __call__(
        self, config: dict[str, Any], overrides: list[str], begun: Callable[[Path], None] = lambda directory: None
    ) -> Path:
        directory = Path(config["outputs"], "runs", str(len(self.shares)))
        directory.mkdir(parents=True)
        begun(directory)
        self.shares.append(1 - abs(config["guidance"]["scale"] - 3) / 10 + config["sampler"]["steps"] / 100)
        if len(self.shares) in self.failing:
            raise DataError("no picture")
        (directory / "metrics.json").write_text(json.dumps({"prompt": {"all": self.shares[-1], "count": 8}}))
        return directory


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Jobs]:
    import optuna
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    optuna.logging.disable_default_handler()  # it writes to what the first test that imported it had for stderr
    made = Jobs()
    monkeypatch.setattr("ldmkit.run.job", made)
    monkeypatch.setattr("ldmkit.run.conclude_sweep", lambda sweep: "")
    monkeypatch.chdir(tmp_path)
    known = Plugins.instance().plugin_type_to_subclass_list[SearchPathPlugin]
    before = list(known)
    yield made
    known[:] = before


def test_a_search_tells_the_best_of_its_jobs(jobs: Jobs, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *SEARCH, "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=5"]) == 0
    assert len(jobs.shares) == 5
    best = re.search(r"best: guidance.scale=([\d.]+) sampler.steps=(\d) \((.+)\)\n", capfd.readouterr().out)
    assert best is not None
    assert float(best[3]) == pytest.approx(max(jobs.shares), rel=1e-3)  # four digits are printed
    assert 1 - abs(float(best[1]) - 3) / 10 + int(best[2]) / 100 == pytest.approx(max(jobs.shares))


def test_a_search_with_a_seed_goes_on_where_it_was(jobs: Jobs, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["run", *SEARCH, "hydra.sweeper.n_trials=4"]
    jobs.failing = {3}
    assert main(command) == 3
    jobs.failing = set()
    assert main(command) == 0
    assert len(jobs.shares) == 5
    assert jobs.shares[4] == jobs.shares[2]


def test_a_failed_job_does_not_end_a_search(jobs: Jobs, capfd: pytest.CaptureFixture[str]) -> None:
    jobs.failing = {1, 3}
    assert main(["run", *SEARCH, "hydra.sweeper.n_trials=4"]) == 3
    assert len(jobs.shares) == 4
    assert "2 of 4 jobs failed" in capfd.readouterr().err


def test_a_search_of_which_every_job_fails_has_no_best(jobs: Jobs, capfd: pytest.CaptureFixture[str]) -> None:
    jobs.failing = {1, 2}
    assert main(["run", *SEARCH, "hydra.sweeper.n_trials=2"]) == 3
    said = capfd.readouterr()
    assert "2 of 2 jobs failed" in said.err
    assert "best:" not in said.out
    assert "Traceback" not in said.err


def test_a_number_that_a_run_did_not_measure_is_named_with_those_it_did(
    jobs: Jobs, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "-m", "seed=1,2", "returns=prompt.al"]) == 2
    assert "returns=prompt.al: this run measured no 'al' of prompt; did you mean 'all'? There is: all, count" in (
        capfd.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*OPTUNA, "seed=range(1,9)"], "a sweep that searches needs a number of each job; type returns=SECTION.NAME"),
        (
            [*OPTUNA, "returns=promt.all", "seed=range(1,9)"],
            "no metric of this run measures 'promt'; did you mean 'prom",
        ),
        ([*OPTUNA, "returns=prompt.all", "metric=psnr", "seed=range(1,9)"], "no metric of this run measures 'prompt'"),
        (["returns=prompt"], "returns=prompt names no number; type returns=prompt.NAME"),
        ([*SEARCH, "guidance.scal=interval(1,2)"], "guidance 'cfg' has no key 'scal'; did you mean 'scale'?"),
        ([*OPTUNA, "returns=prompt.all", "sampler.steps=interval(1,4)"], "sampler.steps: 1.0 is not an int"),
        ([*OPTUNA, "returns=prompt.all", "sampler.steps=range(0,4)"], "sampler.steps is 0 but must be 1 or more"),
        (["-m", "hydra/launcher=processes", "hydra.launcher.jobs=-1"], "hydra.launcher.jobs is -1 but must be 0 or mo"),
        (["-m", "hydra/launcher=processes", "hydra.launcher.jbs=1"], "has no key 'jbs'; did you mean 'jobs'?"),
        (["-m", "hydra/launcher=proceses"], "hydra/launcher has no option 'proceses'; did you mean 'processes'?"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_told_before_anything_is_created(
    words: list[str], said: str, jobs: Jobs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *words]) == 2
    assert said in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_launcher_that_is_not_installed_is_named_with_its_package(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from hydra.core.plugins import Plugins

    known = Plugins.instance().class_name_to_class
    monkeypatch.delitem(known, "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher")
    assert main(["run", "-m", "hydra/launcher=slurm"]) == 2
    assert "is not installed; type: pip install hydra-submitit-launcher\n" in capfd.readouterr().err


@pytest.mark.slow
def test_guidance_scale_and_steps_are_searched_with_one_training(tmp_path: Path) -> None:
    small = ["scale=smoke", "train.first_stage.steps=2", "train.denoiser.steps=2", "samples.previews=[]"]
    parts = ["model=identity", "metric=[psnr,prompt]", "logger=[jsonl]", "device=cpu", "hydra.sweeper.n_trials=3"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ldmkit", "run", *SEARCH, *small, *parts, "hydra.sweeper.direction=maximize"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = [json.loads((run / "metrics.json").read_text()) for run in tmp_path.glob("outputs/runs/*")]
    assert len(runs) == 3
    assert sum("denoiser" in run["reused"] for run in runs) == 2
    best = re.search(r"best: guidance.scale=\S+ sampler.steps=\d \((\S+)\)", done.stdout)
    assert best is not None
    assert float(best[1]) == max(run["prompt"]["all"] for run in runs)

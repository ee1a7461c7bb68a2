"""The command line: what is printed where, exit codes, and that mistakes create nothing."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ldmkit.cli import VERBS, main
from ldmkit.errors import CheckpointError, ConfigError, DataError, Interrupted, LdmkitError, NumericError
from ldmkit.sweep import Sweep

Install = Callable[..., Path]
Hook = Callable[..., str]


class Jobs:
    """Stands in for ``ldmkit.run.job``: remembers what it was given and raises what it is told to."""

    def __init__(self) -> None:
        self.configs: list[dict[str, Any]] = []
        self.overrides: list[list[str]] = []
        self.errors: dict[int, BaseException] = {}
        self.concluded: list[tuple[list[str], str]] = []

    def __call__(
        self, config: dict[str, Any], overrides: list[str], begun: Callable[[Path], None] = lambda directory: None
    ) -> Path:
        self.configs.append(config)
        self.overrides.append(overrides)
        directory = Path(config["outputs"], "runs", str(len(self.configs)))
        directory.mkdir(parents=True)
        begun(directory)
        if error := self.errors.get(len(self.configs)):
            raise error
        return directory

    def conclude(self, sweep: Sweep) -> str:
        """Stands in for ``ldmkit.run.conclude_sweep``."""
        self.concluded.append(([run.name for run in sweep.runs], sweep.command))
        return "the table\n"


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Jobs]:
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    found = Jobs()
    monkeypatch.setattr("ldmkit.run.job", found)
    monkeypatch.setattr("ldmkit.run.conclude_sweep", found.conclude)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LDMKIT_DEBUG", raising=False)
    known = Plugins.instance().plugin_type_to_subclass_list[SearchPathPlugin]
    before = list(known)
    yield found
    known[:] = before


def ldmkit(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "ldmkit", *words],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


# Verbs


def test_the_verbs_are_these() -> None:
    assert list(VERBS) == ["run", "sample", "ema", "runs", "diff", "report", "check", "ls", "show", "new", "plugins"]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_has_a_line_for_each_verb(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert [verb for verb in VERBS if f"\n  {verb} " not in out] == []


def test_an_unknown_verb_gets_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rnu"]) == 2
    assert capsys.readouterr().err == (
        "ldmkit: there is no verb 'rnu'; did you mean 'run'? There is: "
        "check, diff, ema, ls, new, plugins, report, run, runs, sample, show\n"
    )


def test_an_override_without_a_verb_is_told_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model=kl-f8"]) == 2
    assert "'ldmkit run' takes it" in capsys.readouterr().err


def test_python_m_ldmkit_prints_the_version() -> None:
    from importlib.metadata import version

    assert ldmkit("--version").stdout == f"ldmkit {version('ldmkit')}\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", "import sys; from ldmkit.cli import main; sys.exit(main(['ls']))"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


CLOSED = "the output is closed; send it to /dev/null where it is not wanted"
FULL = "[Errno 28] No space left on device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("command", "said"),
    [("ls >&-", CLOSED), ("--help >&-", CLOSED), ("ls >/dev/full", FULL), ("ls --help >/dev/full", FULL)],
)
def test_output_that_cannot_be_written_is_one_line(command: str, said: str, unbuffered: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -P -m ldmkit {command}'],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, f"ldmkit: {said}\n")


def test_ctrl_c_in_any_verb_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(argv: Sequence[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("ldmkit.listing.ls", interrupted)
    assert main(["ls"]) == 130
    assert capsys.readouterr().err == "ldmkit: interrupted\n"


# ls, show


def test_a_broken_plugin_leaves_every_other_verb_alone(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("broken-one", "raise ValueError")
    assert main(["ls", "cond"]) == 0
    assert main(["show", "cond", "text"]) == 0


def test_ls_lists_each_group_with_a_line_for_each_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    out = capsys.readouterr().out
    assert "\ncond: conditioner: turns fields of the data into tokens, a vector or a map\n" in out
    assert "\n  kl-f8 " in out
    assert "\n  demo " in out


def test_ls_of_one_group_lists_that_group_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "model"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["identity", "kl-f16", "kl-f2", "kl-f32"]


def test_ls_shows_what_a_stranger_brings(install: Install, hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    install("one", hook("one"), files={"conf/cond/theirs.yaml": "# @package cond.theirs\nname: made-up\n"})
    assert main(["ls", "cond"]) == 0
    assert ["theirs", "made", "up"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_show_has_keys_comments_docstring_and_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "cond", "class"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cond=class: A label, as a learned row for each class.\nfrom ldmkit (conditioners) 0.1.0, ")
    assert "A learned row for each class" in out
    assert "field: class # the field of the data that is read" in out


def test_show_knows_scales(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "scale", "demo"]) == 0
    assert "from ldmkit itself" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ls", "modle"], "there is no group 'modle'; did you mean 'model'?"),
        (["show", "modle", "kl-f8"], "there is no group 'modle'; did you mean 'model'?"),
        (["show", "model", "kl-f9"], "model has no option 'kl-f9'; did you mean 'kl-f8'? There is: identity, kl-f16, "),
    ],
)
def test_ls_and_show_say_the_nearest(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ls", "cond", "text"], "ls: unrecognized arguments: text; 'ldmkit ls --help' lists what there is"),
        (["show"], "show: the following arguments are required: kind, name; 'ldmkit show --help' lists what there is"),
        (["plugins", "--jsn"], "plugins: unrecognized arguments: --jsn; 'ldmkit plugins --help' lists what there is"),
        (["sample"], "sample: the following arguments are required: RUN; 'ldmkit sample --help' lists what there is"),
        (["sample", "x", "-n", "abc"], "sample: -n takes a whole number of 1 or more, got 'abc'"),
        (["sample", "x", "--steps", "0"], "sample: --steps takes a whole number of 1 or more, got '0'"),
        (["sample", "x", "--seed", "1.5"], "sample: --seed takes a whole number, got '1.5'"),
        (["sample", "x", "--threads", "-1"], "sample: --threads takes a whole number of 0 or more, got '-1'"),
    ],
)
def test_a_mistake_in_the_arguments_of_a_verb_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr() == ("", f"ldmkit: {said}\n")


# run


def test_a_job_gets_the_plain_config_and_the_overrides(jobs: Jobs, tmp_path: Path) -> None:
    assert main(["run", "model=kl-f4", "seed=3"]) == 0
    (config,) = jobs.configs
    assert (config["model"]["factor"], config["seed"]) == (4, 3)
    assert json.loads(json.dumps(config)) == config
    assert "hydra" not in config
    assert jobs.overrides == [["model=kl-f4", "seed=3"]]
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


@pytest.mark.parametrize("error", [LdmkitError, ConfigError, DataError, CheckpointError, NumericError, Interrupted])
def test_an_error_of_the_job_is_one_line_and_keeps_its_exit_code(
    error: type[LdmkitError], jobs: Jobs, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs.errors[1] = error("what to mend")
    assert main(["run"]) == error.exit_code
    assert capfd.readouterr() == ("", "ldmkit: what to mend\n")


def test_a_mistake_of_ours_has_a_traceback_and_exit_code_1(jobs: Jobs, capfd: pytest.CaptureFixture[str]) -> None:
    jobs.errors[1] = ZeroDivisionError("ours")
    assert main(["run"]) == 1
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert "ZeroDivisionError: ours" in err
    assert "HYDRA_FULL_ERROR" not in err


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_a_traceback_is_shown_when_it_is_asked_for(
    how: str, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LDMKIT_DEBUG", "0" if how == "flag" else "1")
    jobs.errors[1] = DataError("what to mend")
    assert main(["run", *(["--debug"] if how == "flag" else [])]) == 3
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert err.endswith("ldmkit: what to mend\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=kl-f9"], "model has no option 'kl-f9'; did you mean 'kl-f8'?"),
        (["cond.text.width=wide"], "cond.text.width: 'wide' is not an int"),
        (["-m", "model=kl-f8,kl-f9"], "model has no option 'kl-f9'; did you mean 'kl-f8'?"),
        (["-m", "cond.text.width=32,wide"], "cond.text.width: 'wide' is not an int"),
        (["-m", "model=kl-f8,identity", "model.patch=1"], "model 'identity' has no key 'patch'"),
        (["-m", "hydra.sweep.dir=here"], "hydra.sweep.dir: a sweep keeps its files in OUTPUTS/sweeps/; type outputs="),
        (["--mlutirun"], "run: unrecognized arguments: --mlutirun; 'ldmkit run --help' lists what there is"),
        (["--experimental-rerun", "x.pickle"], "--experimental-rerun is not supported: it would execute what the file"),
        (["--config-path", "x"], "--config-path and --config-name are not supported"),
        (["--config-dir", "no/such"], "--config-dir: there is no directory"),
        (["--multirun", "--cfg", "job"], "--multirun and --cfg do not go together"),
        (["--resolve"], "--resolve goes with --cfg or --help"),
        (["--cfg", "job", "--package", "modle"], "--package: the config has no 'modle'; did you mean 'model'?"),
        (["--cfg", "job", "model=kl-f9"], "did you mean 'kl-f8'?"),
        (["--help", "model=kl-f9"], "did you mean 'kl-f8'?"),
    ],
)
def test_a_mistake_is_one_line_and_creates_nothing(
    words: list[str], said: str, jobs: Jobs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *words]) == 2
    out, err = capfd.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert out == ""
    assert jobs.configs == []
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_runs_every_combination_and_leaves_nothing_of_hydras(jobs: Jobs, tmp_path: Path) -> None:
    assert main(["run", "-m", "cond=[text],[text,class]", "seed=1,2"]) == 0
    assert [(list(config["cond"]), config["seed"]) for config in jobs.configs] == [
        (["text"], 1),
        (["text"], 2),
        (["text", "class"], 1),
        (["text", "class"], 2),
    ]
    (sweep,) = tmp_path.glob("outputs/sweeps/*")
    assert {path.name for path in sweep.iterdir()} == {"sweep.json", "jobs", ".lock"}


def test_flags_may_stand_behind_overrides(jobs: Jobs) -> None:
    assert main(["run", "seed=1,2", "-m", "device=cpu"]) == 0
    assert [config["seed"] for config in jobs.configs] == [1, 2]


def test_in_a_sweep_the_other_jobs_go_on_and_the_exit_code_tells(jobs: Jobs, capfd: pytest.CaptureFixture[str]) -> None:
    jobs.errors = {1: DataError("no images"), 3: DataError("no captions")}
    assert main(["run", "-m", "seed=1,2,3,4"]) == 3
    assert [config["seed"] for config in jobs.configs] == [1, 2, 3, 4]
    assert capfd.readouterr().err == (
        "ldmkit: no images\nldmkit: no captions\n"
        "ldmkit: 2 of 4 jobs failed; the same command goes on: ldmkit run -m seed=1,2,3,4\n"
        "  seed=1 (exit 3: no images)\n  seed=3 (exit 3: no captions)\n"
    )


def test_a_sweep_with_different_errors_exits_1(jobs: Jobs) -> None:
    jobs.errors = {1: DataError("no images"), 2: CheckpointError("torn")}
    assert main(["run", "-m", "seed=1,2,3"]) == 1


def test_a_mistake_of_ours_in_a_sweep_costs_that_job_alone(jobs: Jobs, capfd: pytest.CaptureFixture[str]) -> None:
    jobs.errors = {1: ZeroDivisionError("ours")}
    assert main(["run", "-m", "seed=1,2"]) == 1
    assert len(jobs.configs) == 2
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert err.endswith("  seed=1 (exit 1: ZeroDivisionError: ours)\n")


def test_an_interrupted_job_ends_the_sweep(jobs: Jobs, capfd: pytest.CaptureFixture[str]) -> None:
    jobs.errors = {2: Interrupted("saved")}
    assert main(["run", "-m", "seed=1,2,3,4"]) == 130
    assert len(jobs.configs) == 2
    assert "stopped; 1 of 4 jobs are done; the same command goes on: ldmkit run -m seed=1," in capfd.readouterr().err


def test_a_sweep_ends_with_the_finished_runs_laid_side_by_side(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    jobs.errors = {2: DataError("no images")}
    assert main(["run", "-m", f"seed={','.join(map(str, range(12)))}", "model=kl-f8"]) == 3
    assert jobs.concluded == [
        (
            [str(number) for number in range(1, 13) if number != 2],
            "ldmkit run -m seed=0,1,2,3,4,5,6,7,8,9,10,11 model=kl-f8",
        )
    ]
    assert capsys.readouterr().out == "the table\n"


def test_nothing_is_laid_beside_a_single_run_or_when_a_sweep_was_stopped(jobs: Jobs) -> None:
    assert main(["run", "seed=1"]) == 0
    assert main(["run", "-m", "seed=1"]) == 0
    jobs.errors = {4: Interrupted("saved")}
    assert main(["run", "-m", "seed=1,2,3,4"]) == 130
    assert jobs.concluded == []


def test_the_job_can_be_sent_to_another_process() -> None:
    from ldmkit.launch import job

    assert pickle.loads(pickle.dumps(job)) is job


def test_a_second_run_in_one_process_is_like_the_first(jobs: Jobs) -> None:
    before = list(sys.argv)
    assert main(["run", "seed=1"]) == main(["run", "seed=2"]) == 0
    assert [config["seed"] for config in jobs.configs] == [1, 2]
    assert sys.argv == before


def test_run_help_lists_every_group_with_every_plugins_options(
    jobs: Jobs, install: Install, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    install("one", hook("one"), files={"conf/cond/theirs.yaml": "# @package cond.theirs\nname: made-up\n"})
    assert main(["run", "--help"]) == 0
    out = capsys.readouterr().out
    (options,) = re.findall(r"^cond: (.+)$", out, re.MULTILINE)
    assert {"class", "semantic", "text", "theirs"} <= set(options.split(", "))
    assert "\nmodel: identity, kl-f16, kl-f2, kl-f32, kl-f4, kl-f8, " in out


def test_run_cfg_prints_the_config(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--cfg", "job", "--resolve", "--package", "train.denoiser", "train.denoiser.steps=7"]) == 0
    assert "steps: 7\n" in capsys.readouterr().out
    assert jobs.configs == []


def test_run_info_names_the_plugins_on_the_search_path(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--info", "searchpath"]) == 0
    assert "| ldmkit:conditioners" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("ldmkit ru", {"run", "runs"}),
        ("ldmkit ", set(VERBS)),
        ("ldmkit show mod", {"model"}),
        ("ldmkit run model=kl", {f"model=kl-f{factor}" for factor in (2, 4, 8, 16, 32)}),
        ("ldmkit run model=kl-f8 cond.text.hea", {"cond.text.head_channels=", "cond.text.heads="}),
    ],
)
def test_the_shell_completes_verbs_groups_options_and_keys(
    line: str, answer: set[str], jobs: Jobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert set(capsys.readouterr().out.split()) == answer


def test_the_shells_script_calls_ldmkit(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-sc", "install=bash"]) == 0
    assert capsys.readouterr().out.endswith("-F hydra_bash_completion ldmkit\n")

"""``ldmkit run``: a Hydra program whose mistakes are found before anything is created.

Overrides are composed and checked first, each job of a sweep too; then Hydra composes again and starts the job, or
hands the jobs of a sweep that are not done to its launcher. Exit codes of errors survive both ways: a single run ends
with the code of its error, a sweep runs all its jobs and ends with the code that the failed ones share, or 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ldmkit import processes
from ldmkit.errors import ConfigError, Interrupted, LdmkitError, did_you_mean
from ldmkit.exits import report
from ldmkit.registry.composing import CONFIG_NAME, VERSION_BASE, Composer, check, register
from ldmkit.registry.culprit import name_culprit
from ldmkit.registry.discovery import kernel_conf
from ldmkit.returns import check_returns, read_returned

if TYPE_CHECKING:
    from ldmkit.sweep import Sweep

STOPPED = (75, 130)
"""Exit codes of a run that was asked to stop."""


def main(argv: Sequence[str]) -> int:
    """Carry out ``ldmkit run`` with the arguments behind the verb; return the exit code."""
    asked, flags = _arguments(argv)
    if asked.shell_completion:
        return _hydra(flags, asked.overrides)
    composer = Composer(asked.config_dir)
    if asked.help or asked.hydra_help or asked.cfg or asked.info:
        _check_package(composer.compose(asked.overrides), asked.package)
        return _hydra(flags, asked.overrides)
    if asked.multirun or "hydra.mode=MULTIRUN" in asked.overrides:
        return _sweep(composer, asked.overrides, flags, shlex.join(["ldmkit", "run", *argv]))
    _checked(composer, asked.overrides)
    return _hydra(flags, asked.overrides)


def job(config: DictConfig) -> Any:
    """What Hydra starts: one run. A plain function of a module, so that a launcher can send it to other processes."""
    from ldmkit import run

    chosen = HydraConfig.get()
    overrides = list(chosen.overrides.task)
    try:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        check(plain)
        if chosen.mode is RunMode.MULTIRUN:
            return _job_of_sweep(plain, overrides, Path(chosen.sweep.dir))
        run.job(plain, overrides)
        return None
    except (Exception, KeyboardInterrupt) as error:
        _end(error, _code(error))


def _job_of_sweep(config: dict[str, Any], overrides: Sequence[str], directory: Path) -> float | None:
    """Do what is left of a job, and keep what became of it; only where it was interrupted, that ends the sweep.

    Returns the number that the config names in ``returns``; None where it names none, or the job failed.
    """
    from ldmkit import run, sweep

    this = sweep.Job.of(config, overrides)
    before = this.found_in(directory)
    if before.state == "finished" and before.run is not None:
        return read_returned(before.run, config["returns"])
    if before.run is not None and before.state in ("interrupted", "going on"):
        config = {**config, "resume": str(before.run)}

    def begun(place: Path) -> None:
        nonlocal this
        this = replace(this, run=place, state="going on")
        this.write(directory)

    try:
        number = read_returned(run.job(config, overrides, begun), config["returns"])
        replace(this, state="finished").write(directory)
        return number
    except (Exception, KeyboardInterrupt) as error:
        ended = this.ended(error, _code(error))
        ended.write(directory)
        if ended.state == "interrupted":
            _end(error, ended.code)
        return None


def _end(error: BaseException, code: int) -> NoReturn:
    """Exit, which passes through Hydra, while an error would have Hydra print a traceback of its own.

    Where a scheduler has asked the run to stop, its own answer to the signal comes first: it starts the job again.
    """
    if isinstance(error, Interrupted) and error.scheduler is not None:
        signal.raise_signal(error.scheduler)
    sys.exit(code)


def _code(error: BaseException) -> int:
    """Say what went wrong, and return the exit code."""
    if not isinstance(error, LdmkitError | KeyboardInterrupt):
        name_culprit(error)
    return 130 if isinstance(error, KeyboardInterrupt) else report(error)


def _arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line as Hydra does, and return it with its flags, for which Hydra wants the first places."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    asked = parser.parse_intermixed_args(list(argv))
    if asked.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun is not supported: it would execute what the file says")
    if asked.config_path is not None or asked.config_name is not None:
        raise ConfigError("--config-path and --config-name are not supported; type --config-dir DIR +experiment=NAME")
    modes = {"--run": asked.run, "--multirun": asked.multirun, "--cfg": asked.cfg, "--info": asked.info}
    if len(given := [flag for flag, value in modes.items() if value]) > 1:
        raise ConfigError(f"{' and '.join(given)} do not go together; type one of them")
    if asked.resolve and not (asked.cfg or asked.help):
        raise ConfigError("--resolve goes with --cfg or --help")
    overrides = list(asked.overrides)
    flags = list(argv)
    for line in overrides:
        flags.remove(line)
    return asked, flags


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"run: {message}; 'ldmkit run --help' lists what there is")


def _check_package(config: dict[str, Any], package: str | None) -> None:
    if package and package != "_global_" and OmegaConf.select(OmegaConf.create(config), package) is None:
        first = package.partition(".")[0]
        raise ConfigError(f"--package: the config has no '{package}'{did_you_mean(first, config)}")


def _sweep(composer: Composer, overrides: Sequence[str], flags: Sequence[str], command: str) -> int:
    """Check every job of a sweep, run those that are not done, lay all of them side by side."""
    from ldmkit import sweep

    if any(line.startswith("hydra.sweep.dir=") for line in overrides):
        raise ConfigError("hydra.sweep.dir: a sweep keeps its files in OUTPUTS/sweeps/; type outputs=DIRECTORY")
    searches = _searches(composer.hydra(overrides))
    checked = [_checked(composer, each) for each in (composer.ends if searches else composer.jobs)(overrides)]
    if searches and checked[0][0]["returns"] is None:
        raise ConfigError("a sweep that searches needs a number of each job; type returns=SECTION.NAME, as prompt.all")
    jobs = [] if searches else [sweep.Job.of(config, own) for config, own in checked]
    directory = sweep.begin(Path(checked[0][0]["outputs"]), command, jobs, search=overrides if searches else ())
    done = [each.overrides for each in jobs if each.found_in(directory).state == "finished"]
    code = 0
    with sweep.read(directory).alone():
        if done:
            left = f"; running the other {len(jobs) - len(done)}" if len(done) < len(jobs) else ""
            print(f"ldmkit: {len(done)} of {len(jobs)} jobs are done{left}", file=sys.stderr)
        if len(done) < len(jobs) or searches:
            place = str(directory.resolve()).replace("'", "\\'")
            started = [*overrides, f"hydra.sweep.dir='{place}'"]
            with _leaving_out(done):
                code = _search(flags, started, directory) if searches else _hydra(flags, started)
        (directory / "multirun.yaml").unlink(missing_ok=True)  # Hydra's; sweep.json says it
        return _conclude(sweep.read(directory), code)


def _searches(asked: DictConfig) -> bool:
    """Check the launcher and the sweeper of a sweep; return whether it is the latter that chooses the jobs."""
    processes.register()
    for kind, plugin in (("launcher", asked.launcher), ("sweeper", asked.sweeper)):
        if plugin._target_ not in Plugins.instance().class_name_to_class:
            package = plugin._target_.split(".")[1].replace("_", "-")
            raise ConfigError(f"this hydra/{kind} is not installed; type: pip install {package}")
    processes.check_settings(asked.launcher)
    return bool(asked.sweeper._target_ != f"{BasicSweeper.__module__}.{BasicSweeper.__name__}")


def _search(flags: Sequence[str], overrides: Sequence[str], directory: Path) -> int:
    """As :func:`_hydra`; 1 where every job failed, of which a sweeper that looks for the best makes an error."""
    from ldmkit import sweep

    before = os.environ.get("HYDRA_FULL_ERROR", "")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, and are not printed by Hydra
    try:
        return _hydra(flags, overrides)
    except Exception:
        if any(each.state == "finished" for each in sweep.read(directory).jobs):
            raise
        return 1
    finally:
        os.environ["HYDRA_FULL_ERROR"] = before


def _checked(composer: Composer, overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The config of a job of a sweep, checked, with the overrides that are not for Hydra alone."""
    config = composer.compose(overrides)
    check(config)
    check_returns(config)
    return config, _own(overrides)


def _own(overrides: Sequence[str]) -> list[str]:
    return [line for line in overrides if not line.lstrip("+~").startswith(("hydra.", "hydra/"))]


@contextlib.contextmanager
def _leaving_out(done: Sequence[Sequence[str]]) -> Iterator[None]:
    """Within, Hydra's own sweeper leaves out the jobs that are ``done``, so that no launcher has to start them."""

    split = BasicSweeper.split_arguments

    def rest(overrides: list[Any], max_batch_size: int | None) -> list[Any]:
        left = [job for batch in split(overrides, None) for job in batch if _own(job) not in done]
        return list(BasicSweeper.split_overrides_to_chunks(left, max_batch_size))

    BasicSweeper.split_arguments = staticmethod(rest)  # type: ignore[method-assign]
    try:
        yield
    finally:
        BasicSweeper.split_arguments = staticmethod(split)  # type: ignore[method-assign]


def _conclude(sweep: Sweep, code: int) -> int:
    """Lay the jobs of a sweep side by side, and say which are not done; return the exit code, 0 when all are."""
    left = [each for each in sweep.jobs if each.state != "finished"]
    again = f"the same command goes on: {sweep.command}"
    if code in STOPPED:
        print(f"ldmkit: stopped; {len(sweep.runs)} of {len(sweep.jobs)} jobs are done; {again}", file=sys.stderr)
        return code
    if len(sweep.jobs) > 1:
        from ldmkit.run import conclude_sweep

        print(conclude_sweep(sweep), end="")
    _tell_best(sweep.directory / "optimization_results.yaml")
    if not left:
        return code
    print(f"ldmkit: {len(left)} of {len(sweep.jobs)} jobs failed; {again}", file=sys.stderr)
    common = set.intersection(*(set(each.overrides) for each in sweep.jobs)) if len(sweep.jobs) > 1 else set()
    for each in left:
        name = " ".join(line for line in each.overrides if line not in common)
        why = f"exit {each.code}: {each.error}" if each.state == "failed" else each.state
        print(f"  {name} ({why})", file=sys.stderr)
    codes = {each.code or 1 for each in left}
    return codes.pop() if len(codes) == 1 else 1


def _tell_best(found: Path) -> None:
    """Print the best job of a sweep that searched, where its sweeper has left a record of it."""
    if found.is_file():
        best = OmegaConf.load(found)
        chosen = " ".join(f"{key}={value}" for key, value in best.best_params.items())
        print(f"best: {chosen} ({best.best_value:.4g})")


def _hydra(flags: Sequence[str], overrides: Sequence[str]) -> int:
    """Hand over to Hydra, which reads ``sys.argv``."""
    register()
    start = hydra.main(version_base=VERSION_BASE, config_path=str(kernel_conf()), config_name=CONFIG_NAME)(job)
    before = sys.argv
    sys.argv = ["ldmkit", *flags, *overrides]
    try:
        start()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    return 0

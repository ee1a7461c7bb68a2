"""``ldmkit run``: a Hydra program whose mistakes are found before anything is created.

Overrides are composed and checked first, each job of a sweep too; then Hydra composes again and starts the job, or
hands the jobs of a sweep to its launcher. Exit codes of errors survive both ways: a single run ends with the code of
its error, a sweep runs all its jobs and ends with the code that the failed ones share, or 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ldmkit import processes
from ldmkit.errors import ConfigError, Interrupted, did_you_mean
from ldmkit.exits import report
from ldmkit.registry.composing import CONFIG_NAME, VERSION_BASE, Composer, check, register
from ldmkit.registry.discovery import kernel_conf

_FAILED, _DONE = "failed-*.json", "done-*.json"
"""What each job of a sweep leaves behind, with its number."""


def main(argv: Sequence[str]) -> int:
    """Carry out ``ldmkit run`` with the arguments behind the verb; return the exit code."""
    asked, flags = _arguments(argv)
    if asked.shell_completion:
        return _hydra(flags, asked.overrides)
    composer = Composer(asked.config_dir)
    if asked.help or asked.hydra_help or asked.cfg or asked.info:
        _check_package(composer.compose(asked.overrides), asked.package)
        return _hydra(flags, asked.overrides)
    if not (asked.multirun or "hydra.mode=MULTIRUN" in asked.overrides):
        check(composer.compose(asked.overrides))
        return _hydra(flags, asked.overrides)
    jobs = _check_jobs(composer, asked.overrides)
    with _sweep_directory(asked.overrides) as (directory, more):
        code = _hydra(flags, [*asked.overrides, *more])
        runs = [Path(record["directory"]) for record in _collect(directory, _DONE)]
        failed = _tell_failures(directory, jobs)
        if code == 0 and len(runs) > 1:
            from ldmkit.run import conclude_sweep

            print(conclude_sweep(runs, shlex.join(["ldmkit", "run", *argv])), end="")
        return failed or code


def job(config: DictConfig) -> Any:
    """What Hydra starts: one run. A plain function of a module, so that a launcher can send it to other processes."""
    from ldmkit import run

    chosen = HydraConfig.get()
    overrides = list(chosen.overrides.task)
    try:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        check(plain)
        directory = run.job(plain, overrides)
        if chosen.mode is RunMode.MULTIRUN:
            _leave(_DONE, {"directory": str(directory)})
        return None
    except (Exception, KeyboardInterrupt) as error:
        code = 130 if isinstance(error, KeyboardInterrupt) else report(error)
        if chosen.mode is not RunMode.MULTIRUN or isinstance(error, Interrupted | KeyboardInterrupt):
            sys.exit(code)  # passes through Hydra, which would print a traceback of its own for an error
        _leave(_FAILED, {"code": code, "overrides": overrides})
        return None


def _leave(kind: str, record: Mapping[str, Any]) -> None:
    """Leave ``record`` about this job where the end of the sweep finds it."""
    chosen = HydraConfig.get()
    Path(chosen.sweep.dir, kind.replace("*", f"{chosen.job.num:06d}")).write_text(json.dumps(record))


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


def _check_jobs(composer: Composer, overrides: Sequence[str]) -> int:
    """Check every job of a sweep and return how many there are; 0 where another sweeper decides that as it goes."""
    if any(line.startswith("hydra/sweeper=") for line in overrides):
        return 0
    jobs = list(composer.jobs(overrides))
    for each in jobs:
        check(composer.compose(each))
    return len(jobs)


@contextlib.contextmanager
def _sweep_directory(overrides: Sequence[str]) -> Iterator[tuple[Path, list[str]]]:
    """Where Hydra writes about a sweep, and we what failed: the directory that was asked for, or a passing one."""
    named = [line.partition("=")[2] for line in overrides if line.startswith("hydra.sweep.dir=")]
    if named:
        yield Path(named[-1].strip("'\"")), []
        return
    with tempfile.TemporaryDirectory(prefix="ldmkit-sweep-") as directory:
        yield Path(directory), [f"hydra.sweep.dir='{directory}'"]


def _collect(directory: Path, kind: str) -> list[dict[str, Any]]:
    """What the jobs of a sweep left behind, in their order; it is gone afterwards."""
    records = []
    for path in sorted(directory.glob(kind)):
        records.append(json.loads(path.read_text()))
        path.unlink()
    return records


def _tell_failures(directory: Path, jobs: int) -> int:
    """Say which jobs of a sweep failed; return the exit code, 0 when none did."""
    failed = _collect(directory, _FAILED)
    if not failed:
        return 0
    lines = "; ".join(f"{' '.join(each['overrides'])} (exit {each['code']})" for each in failed)
    print(f"ldmkit: {len(failed)} of {jobs or 'the'} jobs failed: {lines}", file=sys.stderr)
    codes = {each["code"] for each in failed}
    return codes.pop() if len(codes) == 1 else 1


def _hydra(flags: Sequence[str], overrides: Sequence[str]) -> int:
    """Hand over to Hydra, which reads ``sys.argv``."""
    register()
    processes.register()
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

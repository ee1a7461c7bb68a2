"""A run: its directory, its loggers, its stages, and what it does when it is asked to stop."""

from __future__ import annotations

import logging
import platform
import secrets
import shlex
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import pluggy
import torch
from filelock import FileLock, Timeout

import ldmkit.training.device as devices
from ldmkit.artifacts.checkpoint import read_json, write_json
from ldmkit.artifacts.store import Artifact, Store
from ldmkit.differences import Difference
from ldmkit.errors import ConfigError, Interrupted
from ldmkit.models import build_data, build_part, build_sampling, find_checkpoint
from ldmkit.protocols import DataSource
from ldmkit.records import CONFIG, LOCK, RECORD, ended_by, find_run, missing_run
from ldmkit.registry.components import KINDS
from ldmkit.registry.composing import check
from ldmkit.registry.config import RunConfig
from ldmkit.registry.discovery import registry
from ldmkit.registry.hooks import RunSpec
from ldmkit.registry.origin import Origin, check_origins, origins, read_origins
from ldmkit.registry.sampling_keys import trained
from ldmkit.signals import answering
from ldmkit.sweep import Sweep

logger = logging.getLogger("ldmkit")


@dataclass(frozen=True)
class StageRecord:
    """How a stage of this run went; ``seconds`` is what this run spent on it."""

    name: str
    steps: int
    seconds: float
    reused: bool
    digest: str


class Task(ABC):
    """What a run does: a chain of stages."""

    @abstractmethod
    def run(self, run: Run) -> None:
        """Do it. ``run`` gives the config, the data, the store, the run's directory and its loggers."""

    def report(self, directory: Path) -> Path | None:
        """Make the report of the run in ``directory`` again, and return it; None where a run has no report."""
        return None

    def compare(self, sweep: Sweep) -> str:
        """Lay the jobs of a ``sweep`` side by side, in its directory; some may have failed, or not have begun.

        Returns what the sweep prints at its end. By default nothing is made and nothing said.
        """
        return ""

    def diff(self, found: Difference, path: Path) -> Path | None:
        """Write a page on what two runs differ in, the first of which is this task's, to ``path``; return it.

        By default there is none.
        """
        return None


@dataclass
class Run:
    """What a task works with.

    ``config`` is the resolved config as plain data, ``settings`` the kernel's own part of it, checked. ``directory`` is
    this run's alone.
    """

    config: dict[str, Any]
    overrides: Sequence[str]
    settings: RunConfig
    directory: Path
    store: Store
    compute: devices.Compute
    loggers: Loggers
    stop: StopRequest
    stages: list[StageRecord] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The name of the run's directory."""
        return self.directory.name

    @property
    def seed(self) -> int:
        """The seed of all randomness."""
        return self.settings.seed

    @property
    def command(self) -> str:
        """What to type to do this run again."""
        return shlex.join(["ldmkit", "run", *(o for o in self.overrides if not o.startswith("resume="))])

    @cached_property
    def data(self) -> DataSource:
        """The data source, built at first use; what it had to leave out is kept in ``data-notices.json``."""
        source = build_data(self.config)
        if source.skipped or source.notices:
            skipped = [{"what": what, "why": why} for what, why in source.skipped]
            write_json(self.directory / "data-notices.json", {"notices": list(source.notices), "skipped": skipped})
        return source

    def identity(self, group: str) -> dict[str, Any]:
        """What determines the training of the parts of ``group``: their configs, and the packages they come from."""
        nodes = self.config[group]
        chosen = {group: nodes} if "name" in nodes else nodes
        parts = {}
        for label, node in chosen.items():
            origin = Origin.of(group, node["name"])
            parts[label] = {"config": trained(group, node), "package": origin.package, "code": origin.code}
        return parts

    def stage(self, name: str, inputs: Mapping[str, Any], make: Callable[[Path], None], *, steps: int = 0) -> Artifact:
        """Return the result of stage ``name`` for ``inputs``: from the store, or made now by ``make`` and stored."""
        self.stop_if_asked(name)
        began = time.perf_counter()
        found = self.store.find(name, inputs)
        self.loggers.on_stage(stage=name, steps=steps, reused=found is not None)
        artifact = found or self.store.obtain(name, inputs, make, waiting=logger.warning)
        shutil.rmtree(self.checkpoints(name), ignore_errors=True)
        self.record(name, time.perf_counter() - began, steps=steps, reused=artifact.reused, digest=artifact.digest)
        return artifact

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """A stage whose result belongs to this run alone, such as its samples."""
        self.stop_if_asked(name)
        began = time.perf_counter()
        self.loggers.on_stage(stage=name, steps=0, reused=False)
        yield
        self.record(name, time.perf_counter() - began, steps=0, reused=False, digest="")

    def record(self, name: str, seconds: float, *, steps: int, reused: bool, digest: str) -> None:
        """Add a stage to the run's record."""
        self.stages.append(StageRecord(name, steps, round(seconds, 2), reused, digest))

    def stop_if_asked(self, stage: str) -> None:
        """Raise Interrupted where the user has asked to stop; ``stage`` will be done anew."""
        if self.stop.asked():
            raise Interrupted(f"stopped in stage {stage}; the stages before it are in the store")

    def checkpoints(self, stage: str) -> Path:
        """Where the unfinished training of ``stage`` is saved."""
        return self.directory / "checkpoints" / stage


class StopRequest:
    """Ctrl-C or SIGTERM once: finish the step, save, end. Ctrl-C twice: end now.

    A signal that the program around us answers by a function, as submitit does to have a preempted job started again,
    is a request too. What answers it is left for afterwards: ``signal`` then is that signal, and no other overrules it.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._schedulers: tuple[int, ...] = ()

    def asked(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, signals are requests. Outside the main thread signals are left alone."""
        named = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
        self._schedulers = tuple(number for number in named if callable(signal.getsignal(number)))
        with answering((signal.SIGINT, signal.SIGTERM, *self._schedulers), self._receive):
            yield

    def scheduler(self) -> int | None:
        """The signal of the scheduler that asked to stop, None where it was somebody else."""
        return self.signal if self.signal in self._schedulers else None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.scheduler() is not None:
            return  # Slurm sends SIGTERM as well
        if self.signal is not None and number not in self._schedulers:
            raise KeyboardInterrupt
        self.signal = number
        logger.warning("stopping after this step%s", "" if self.scheduler() else "; once more to stop at once")


class Loggers:
    """The loggers that the config names, on a manager of their own: ``loggers.on_step(...)`` tells them all."""

    def __init__(self, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        self._manager = pluggy.PluginManager("ldmkit")
        self._manager.add_hookspecs(RunSpec)
        for name, node in nodes.items():
            self._manager.register(build_part("logger", node, f"logger.{name}"), name)
        self._manager.check_pending()

    def __getattr__(self, hook: str) -> Callable[..., Any]:
        call: Callable[..., Any] = getattr(self._manager.hook, hook)
        return call

    def end(self, error: BaseException | None) -> None:
        """Tell every logger that the run is over, also when one of them fails at it."""
        for implementation in self._manager.hook.on_end.get_hookimpls():
            try:
                implementation.function(*([error] if implementation.argnames else []))
            except Exception:
                logger.exception("logger '%s' failed in on_end", implementation.plugin_name)


def job(
    config: dict[str, Any], overrides: Sequence[str], begun: Callable[[Path], None] = lambda directory: None
) -> Path:
    """Carry out one run: what `ldmkit run` does after the config is composed and checked. Return its directory.

    ``begun`` is told the directory once it is this run's.
    """
    resumed = _resumed(config, overrides) if config["resume"] is not None else None
    if resumed:
        config, overrides = read_json(resumed / CONFIG), read_json(resumed / RECORD)["overrides"]
    settings = check(config)
    compute = devices.choose(settings.device, settings.precision, settings.threads)
    runs = Path(settings.outputs) / "runs"
    _, guidance, _ = build_sampling(config)  # its mistakes need no data to be found, and leave no directory
    if guidance.weaker is not None:
        find_checkpoint(guidance.weaker, runs)
    directory = resumed or _create(runs, config)
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"'{directory}' is in use by another process; wait for it, or leave out resume=") from None
    try:
        begun(directory)
        _run(config, overrides, settings, directory, compute)
    finally:
        lock.release()
    return directory


def conclude_sweep(sweep: Sweep) -> str:
    """Lay the jobs of a ``sweep`` side by side, and return what is to be printed.

    How that looks is up to the task of the first run that finished; before there is one, nothing is made.
    """
    if not sweep.runs:
        return ""
    task: Task = build_part("task", read_json(sweep.runs[0] / CONFIG)["task"])
    return task.compare(sweep)


def _run(
    config: dict[str, Any], overrides: Sequence[str], settings: RunConfig, directory: Path, compute: devices.Compute
) -> None:
    run = Run(
        config=config,
        overrides=overrides,
        settings=settings,
        directory=directory,
        store=Store(directory.parents[1] / "store"),  # also for a run that is resumed from another working directory
        compute=compute,
        loggers=Loggers(config["logger"]),
        stop=StopRequest(),
    )
    task: Task = build_part("task", config["task"])
    parts = [asdict(origin) for origin in origins(config)]
    started = {"command": run.command, "overrides": list(overrides), "versions": versions(run), "parts": parts}
    write_json(directory / RECORD, started)
    run.loggers.on_start(config=config, directory=directory)
    error: BaseException | None = None
    try:
        with run.stop.listening():
            task.run(run)
    except BaseException as raised:
        error = raised
        if isinstance(raised, Interrupted):
            go_on = shlex.join(["ldmkit", "run", f"resume={directory if settings.outputs != 'outputs' else run.id}"])
            stopped = Interrupted(f"{raised}. To go on: {go_on}")
            stopped.exit_code = 130 if run.stop.signal == signal.SIGINT else 75
            stopped.scheduler = run.stop.scheduler()
            raise stopped from None
        raise
    finally:
        with suppress(OSError):  # it must not hide the error that ended the run
            write_json(directory / RECORD, {**started, **_ending(run, error)})
        run.loggers.end(error)


def _ending(run: Run, error: BaseException | None) -> dict[str, Any]:
    """How a run ended, as its record has it."""
    stages = [asdict(stage) for stage in run.stages]
    if error is None:
        return {"state": "finished", "stages": stages}
    state, said = ended_by(error)
    return {"state": state, "error": said, "stages": stages}


def _resumed(config: Mapping[str, Any], overrides: Sequence[str]) -> Path:
    """The directory of the run that ``resume=`` names; other overrides must agree with what it was started with."""
    named, runs = str(config["resume"]), Path(config["outputs"]) / "runs"
    found = find_run(named, runs)
    if found is None:
        raise missing_run(named, runs)
    before, record = read_json(found / CONFIG), read_json(found / RECORD)
    check_origins(read_origins(record.get("parts", []), f"run '{named}'"), KINDS, f"run '{named}'")
    check(before)
    differing = [key for key in before if key != "resume" and before[key] != config.get(key)]
    if differing and any(not override.lstrip("+").startswith("resume=") for override in overrides):
        raise ConfigError(
            f"resume={named}: {', '.join(differing)} differ from what the run was started with; "
            f"go on with 'ldmkit run resume={named}', or start a new run without resume="
        )
    return found


def _create(runs: Path, config: Mapping[str, Any]) -> Path:
    """A new directory of ``runs`` with the run's ``config``."""
    try:
        directory = _new_directory(runs)
        write_json(directory / CONFIG, config)
        return directory
    except OSError as error:
        raise ConfigError(
            f"cannot write to '{runs}': {error.strerror}; name a directory that can be written: outputs=DIRECTORY"
        ) from error


def _new_directory(parent: Path) -> Path:
    """A directory in ``parent`` that is new by construction, also for many starts in one second."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        directory = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        try:
            directory.mkdir()
            return directory
        except FileExistsError:
            continue


def versions(run: Run) -> dict[str, str]:
    """What the run's numbers depend on beside its config."""
    plugins = {plugin.distribution: plugin.version for plugin in registry().plugins if plugin.status == "ok"}
    device = torch.cuda.get_device_name(run.compute.device) if run.compute.device.type == "cuda" else "cpu"
    return {
        **plugins,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device}, {torch.get_num_threads()} threads, {'bf16' if run.compute.bf16 else 'fp32'}",
    }

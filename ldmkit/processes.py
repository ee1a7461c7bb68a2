"""The launcher ``hydra/launcher=processes``: one process per job, so many at a time, on a queue of devices.

    this process      composes the jobs, hands each to a process of its own, passes on their lines and its own signals
    a job's process   runs it, and stops when this process is gone, however that died

Memory, a device's context and whatever a job leaves behind end with the job, and no job outlives its sweep. Each job
sees the one GPU that it was given. What it prints comes out line by line behind its number, as ``[3] ...``.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import IO, Any

import hydra.version as hydra_version
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from ldmkit.registry.composing import VERSION_BASE
from ldmkit.registry.ranges import above, at_least
from ldmkit.registry.schema import typed
from ldmkit.signals import answering

TARGET = "hydra_plugins.ldmkit.Processes"
"""What the option file calls the launcher. Hydra takes none from outside of this namespace, in which we put nothing."""


class Processes(Launcher):
    """Runs the jobs of a sweep in processes of their own; ``conf/hydra/launcher/processes.yaml`` explains the keys."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        jobs: int
        devices: list[int | str] | None
        threads: int
        grace: float

        def __post_init__(self) -> None:
            at_least(0, jobs=self.jobs, threads=self.threads)
            above(0, grace=self.grace)

    def __init__(self, **config: Any) -> None:
        self.settings = typed(self.Config, OmegaConf.to_container(OmegaConf.create(config)), "hydra.launcher")

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take in what the jobs have in common."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and return what they return, None where a process died. Exits where it was asked to stop."""
        setup_globals()
        free: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        for place in (places := list(self._places())):
            free.put(place)
        children = Children()

        def run(number: int, overrides: Sequence[str]) -> JobReturn:
            place = free.get()
            try:
                return self._run(number, overrides, place, children, Path(directory))
            finally:
                free.put(place)

        with (
            TemporaryDirectory(prefix="ldmkit-jobs-") as directory,
            answering((signal.SIGINT, signal.SIGTERM), children.stop),
            ThreadPoolExecutor(len(places)) as pool,
        ):
            numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
            returned = list(pool.map(run, numbers, job_overrides))
        if children.asked is not None:
            sys.exit(75 if children.asked == signal.SIGTERM else 130)
        return returned

    def _places(self) -> Iterator[dict[str, str]]:
        """The environment of each of the jobs that go on at a time: a device, and a share of the CPU's threads."""
        devices = visible_devices() if self.settings.devices is None else self.settings.devices
        count = self.settings.jobs or max(1, len(devices))
        threads = self.settings.threads or max(1, all_threads() // count)
        for index in range(count):
            device = {"CUDA_VISIBLE_DEVICES": str(devices[index % len(devices)])} if devices else {}
            yield {"OMP_NUM_THREADS": str(threads), **device}

    def _run(
        self, number: int, overrides: Sequence[str], place: Mapping[str, str], children: Children, directory: Path
    ) -> JobReturn:
        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"{config.hydra.job.name}_{number}", number
        given, returned = directory / f"{number}.job", directory / f"{number}.return"
        given.write_bytes(pickle.dumps((self._context, self._task, config)))
        device = f" on GPU {place['CUDA_VISIBLE_DEVICES']}" if "CUDA_VISIBLE_DEVICES" in place else ""
        begins = f"{' '.join(filter_overrides(overrides))}{device}"
        code = children.run([str(given), str(returned), str(self.settings.grace)], place, f"[{number}] ", begins)
        if returned.exists():
            found: JobReturn = pickle.loads(returned.read_bytes())
            return found
        if code is not None and code < 0 and children.asked is None:
            print(f"ldmkit: job {number} was ended by {signal.Signals(-code).name}", file=sys.stderr)
        return JobReturn(overrides=overrides, status=JobStatus.COMPLETED)


class Children:
    """The processes of the jobs. ``asked`` is the signal by which this process was asked to stop, None before that."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.RLock()  # a signal can come while another is being answered

    def run(self, arguments: Sequence[str], place: Mapping[str, str], prefix: str, begins: str) -> int | None:
        """Run one to its end and return its exit code; None, without starting it, once the sweep is to stop."""
        with self._lock:
            if self.asked is not None:
                return None
            print(f"{prefix}{begins}", file=sys.stderr, flush=True)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, *arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **place},
                stdin=subprocess.PIPE,  # never written to: it ends when this process does
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # a terminal's Ctrl-C is ours to pass on, once
            )
            self._running.add(process)
        try:
            with process, ThreadPoolExecutor(1) as aside:
                aside.submit(_pass_on, process.stderr, sys.stderr, prefix)
                _pass_on(process.stdout, sys.stdout, prefix)
                return process.wait()
        finally:
            with self._lock:
                self._running.discard(process)

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Start no more, and ask each to stop; the second time they take that for an order. Answers a signal."""
        with self._lock:
            self.asked = number
            for process in self._running:
                process.terminate()


def _pass_on(lines: IO[str] | None, out: IO[str], prefix: str) -> None:
    for line in lines or ():
        out.write(f"{prefix}{line.rstrip()}\n")
        out.flush()


def visible_devices() -> list[int | str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES has for them."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return list(named[:count]) if named else list(range(count))


def check_settings(launcher: DictConfig) -> None:
    """Raise ConfigError for what is wrong with the config of this launcher; of any other nothing is known."""
    if launcher._target_ == TARGET:
        Processes(**{str(key): value for key, value in launcher.items() if key != "_target_"})


def all_threads() -> int:
    """How many threads of the CPU a run would take that has the machine to itself."""
    import torch

    return torch.get_num_threads()


def register() -> None:
    """Let Hydra know the launcher in this process."""
    Plugins.instance().class_name_to_class[TARGET] = Processes


def main(given: str, returned: str, grace: str) -> None:
    """Run the job that is pickled in ``given``, in this process, and leave what it returns in ``returned``."""
    threading.Thread(target=_end_with_parent, args=(float(grace),), daemon=True).start()
    context, task, config = pickle.loads(Path(given).read_bytes())
    hydra_version.setbase(VERSION_BASE)
    setup_globals()
    result = run_job(
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=context,
    )
    draft = Path(f"{returned}.tmp")
    draft.write_bytes(pickle.dumps(result))
    draft.replace(returned)


def _end_with_parent(grace: float) -> None:
    """Wait for the end of standard input, which is the parent's; then let the job save, for ``grace`` seconds."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(75)


if __name__ == "__main__":
    main(*sys.argv[1:])

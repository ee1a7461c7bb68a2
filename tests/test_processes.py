"""The launcher ``processes``: one process per job, devices in turn, and no job that outlives its sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")

SWEEP = """
import json, os, signal, sys, time
from pathlib import Path
from hydra._internal.callbacks import Callbacks
from hydra.core.utils import setup_globals
from hydra.types import HydraContext, RunMode
from ldmkit.processes import Processes
from ldmkit.registry.composing import Composer

HERE = Path(__file__).parent

def note(kind, **more):
    (HERE / f"{kind}-{os.getpid()}.json").write_text(json.dumps({"pid": os.getpid(), "time": time.time(), **more}))

def wait_for(path):
    while not path.exists():
        time.sleep(0.01)

def stop(number, frame):
    note("asked", signal=number)
    sys.exit(75)

def job(config):
    own = {key: os.environ.get(key) for key in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
    signal.signal(signal.SIGTERM, stop)
    note("began", seed=config.seed, **own)
    TASK(config)
    note("ended")
    return config.seed * 10

def quick(config):
    print("seed", config.seed)
    print("to stderr", file=sys.stderr)

def together(config):
    while len(list(HERE.glob("began-*"))) < 2:
        time.sleep(0.01)

def dying(config):
    if config.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)

def endless(config):
    time.sleep(600)

def deaf(config):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
"""

START = """
import sys
sys.path.insert(0, {here!r})
import sweep
from sweep import *

loader = Composer().loader
settings = {settings}
config = loader.load_configuration("config", ["hydra.sweep.dir=" + {here!r}], RunMode.MULTIRUN, from_shell=False)
launcher = Processes(**{{"jobs": 1, "devices": [], "threads": 1, "grace": 1.0, **settings}})
launcher.setup(hydra_context=HydraContext(loader, Callbacks()), task_function=sweep.job, config=config)
returned = launcher.launch([[f"seed={{seed}}"] for seed in range({count})], 0)
print("returned", [each.return_value for each in returned])
"""


class Sweeps:
    """Starts sweeps of made-up jobs, each in a process of its own, and tells what their jobs noted."""

    def __init__(self, here: Path) -> None:
        self.here = here
        self.started: list[subprocess.Popen[str]] = []

    def start(self, task: str, count: int, **settings: object) -> subprocess.Popen[str]:
        text = SWEEP.replace("TASK", task)
        (self.here / "sweep.py").write_text(text)
        code = START.format(here=str(self.here), count=count, settings=settings)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.started.append(process)
        return process

    def run(self, task: str, count: int, **settings: object) -> tuple[str, str]:
        process = self.start(task, count, **settings)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return out, err

    def noted(self, kind: str) -> list[dict[str, object]]:
        return sorted((json.loads(p.read_text()) for p in self.here.glob(f"{kind}-*")), key=lambda note: note["time"])

    def wait_for(self, there: Callable[[], bool]) -> None:
        until = time.monotonic() + 300
        while not there():
            assert time.monotonic() < until
            time.sleep(0.05)

    def alive(self) -> list[int]:
        return [int(str(note["pid"])) for note in self.noted("began") if _alive(int(str(note["pid"])))]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def sweeps(tmp_path: Path) -> Iterator[Sweeps]:
    made = Sweeps(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    for pid in made.alive():
        os.kill(pid, signal.SIGKILL)


def test_every_job_has_a_process_of_its_own_and_its_number_comes_back(sweeps: Sweeps) -> None:
    out, err = sweeps.run("quick", 3, threads=2)
    assert out == "[0] seed 0\n[1] seed 1\n[2] seed 2\nreturned [0, 10, 20]\n"
    assert err == "[0] seed=0\n[0] to stderr\n[1] seed=1\n[1] to stderr\n[2] seed=2\n[2] to stderr\n"
    began = sweeps.noted("began")
    assert len({note["pid"] for note in began}) == 3
    assert {note["OMP_NUM_THREADS"] for note in began} == {"2"}


def test_jobs_take_turns_on_the_devices_and_share_none_at_a_time(sweeps: Sweeps) -> None:
    sweeps.run("together", 4, jobs=0, devices=[4, "GPU-7f"])
    began, ended = sweeps.noted("began"), {note["pid"]: note["time"] for note in sweeps.noted("ended")}
    assert {note["CUDA_VISIBLE_DEVICES"] for note in began[:2]} == {"4", "GPU-7f"}  # both had to be there to end
    for device in ("4", "GPU-7f"):
        on_it = [note for note in began if note["CUDA_VISIBLE_DEVICES"] == device]
        assert all(ended[one["pid"]] <= after["time"] for one, after in pairwise(on_it))


def test_a_job_that_is_killed_costs_itself_alone_and_is_named(sweeps: Sweeps) -> None:
    out, err = sweeps.run("dying", 3)
    assert out == "returned [0, None, 20]\n"
    assert "ldmkit: job 1 was ended by SIGKILL\n" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_reaches_every_job_once_and_no_other_starts(sweeps: Sweeps, number: int, code: int) -> None:
    process = sweeps.start("endless", 3, jobs=2)
    sweeps.wait_for(lambda: len(sweeps.noted("began")) == 2)
    process.send_signal(number)
    assert process.wait(timeout=300) == code
    assert [note["signal"] for note in sweeps.noted("asked")] == [signal.SIGTERM, signal.SIGTERM]
    assert len(sweeps.noted("began")) == 2
    assert sweeps.alive() == []


def test_no_job_outlives_a_sweep_that_is_killed_and_each_may_save(sweeps: Sweeps) -> None:
    process = sweeps.start("endless", 2, jobs=2)
    sweeps.wait_for(lambda: len(sweeps.noted("began")) == 2)
    process.kill()
    sweeps.wait_for(lambda: sweeps.alive() == [])
    assert len(sweeps.noted("asked")) == 2


def test_a_job_that_does_not_stop_is_ended_when_its_sweep_is_gone(sweeps: Sweeps) -> None:
    process = sweeps.start("deaf", 1)
    sweeps.wait_for(lambda: len(sweeps.noted("began")) == 1)
    process.kill()
    sweeps.wait_for(lambda: sweeps.alive() == [])
    assert sweeps.noted("ended") == []

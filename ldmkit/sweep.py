"""A sweep: which jobs it has, what became of each, and where that is kept.

    sweeps/<id>/sweep.json          the command, and the overrides of each job
    sweeps/<id>/jobs/<job>.json     what became of a job, written by the job itself: nothing is lost with its parent

A job's id is a digest of its resolved config, a sweep's id one of the ids of its jobs: the same command, typed again,
is the same sweep and finds what is done. A job is done when it has finished with the code that its parts have today.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from ldmkit.artifacts.checkpoint import read_json, write_json
from ldmkit.artifacts.store import digest_of
from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.records import LOCK, ended_by, is_held
from ldmkit.registry.components import MULTIPLE
from ldmkit.registry.composing import part_nodes
from ldmkit.registry.discovery import Plugin, registry

SWEEP, JOBS = "sweep.json", "jobs"
"""Files of a sweep's directory, which has a lock as a run's has."""
LENGTH = 12
"""Hexadecimal digits of an id."""

State = Literal["missing", "going on", "interrupted", "failed", "finished"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of a sweep: its overrides, its state, its run's directory, and its exit code and error where it failed.

    ``plugins`` are digests of the packages whose parts it was made with, by their names.
    """

    id: str
    overrides: Sequence[str]
    state: State = "missing"
    run: Path | None = None
    code: int = 0
    error: str = ""
    plugins: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any], overrides: Sequence[str]) -> Job:
        """The job of a resolved ``config``, not yet begun."""
        return cls(id=job_id(config), overrides=list(overrides), plugins=plugins_of(config))

    def found_in(self, directory: Path) -> Job:
        """What became of this job in the sweep of ``directory``; as it is where nothing did, or with other code."""
        found = read_job(directory, self.id)
        if found is None or found.plugins != self.plugins or not (found.run or found.code):
            return self
        return replace(found, overrides=self.overrides)

    def write(self, directory: Path) -> None:
        """Keep what became of it in the sweep of ``directory``."""
        kept = asdict(self) | {"run": self.run and os.path.relpath(self.run, directory)}
        write_json(directory / JOBS / f"{self.id}.json", kept)

    def ended(self, error: BaseException, code: int) -> Job:
        """This job, ended by ``error`` with exit ``code``."""
        state, said = ended_by(error)
        return replace(self, state=state, code=code, error=said)


@dataclass(frozen=True)
class Sweep:
    """A sweep as it stands: its directory, the command that makes it and goes on with it, and its jobs."""

    directory: Path
    command: str
    jobs: Sequence[Job]

    @property
    def runs(self) -> list[Path]:
        """Directories of the finished jobs."""
        return [job.run for job in self.jobs if job.state == "finished" and job.run is not None]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within, no other process runs this sweep; ConfigError where one does."""
        lock = FileLock(self.directory / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(f"another process is running the sweep '{self.directory}'; wait for it") from None
        try:
            yield
        finally:
            lock.release()


def job_id(config: Mapping[str, Any]) -> str:
    """The id of the job with a resolved ``config``; what it resumes is no part of it."""
    groups = {kind: config[kind] or {} for kind in MULTIPLE}
    return digest_of({**config, **groups, "resume": None})[:LENGTH]


def plugins_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the packages whose parts ``config`` names."""
    found = {registry().lookup(kind, node["name"])[1] for kind, _, node in part_nodes(config)}
    return {plugin.label: _digest(plugin) for plugin in sorted(found, key=lambda plugin: plugin.label)}


@cache
def _digest(plugin: Plugin) -> str:
    return plugin.digest()


def begin(outputs: Path, command: str, jobs: Sequence[Job], search: Sequence[str] = ()) -> Path:
    """Make the directory of the sweep of ``jobs``, if it is not there, and return it.

    The jobs of a sweep that searches are not known before; its id is that of its overrides, ``search``.
    """
    directory = outputs / "sweeps" / digest_of([*search, *(job.id for job in jobs)])[:LENGTH]
    listed = [{"id": job.id, "overrides": list(job.overrides)} for job in jobs]
    try:
        write_json(directory / SWEEP, {"command": command, "jobs": listed})
    except OSError as error:
        raise ConfigError(f"cannot write to '{directory}': {error.strerror}; type outputs=DIRECTORY") from error
    return directory


def read(directory: Path) -> Sweep:
    """Read what became of the sweep of ``directory``; CheckpointError where it has no readable record."""
    record = read_json(directory / SWEEP)
    try:
        listed = [Job(id=job["id"], overrides=job["overrides"]) for job in record["jobs"]]
        command = str(record["command"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"'{directory / SWEEP}' is damaged: {error!r}") from error
    known = {job.id for job in listed}
    jobs = [read_job(directory, job.id) or job for job in listed]
    searched = [path for path in (directory / JOBS).glob("*.json") if path.stem not in known] if not listed else []
    jobs += [job for path in sorted(searched, key=_began) if (job := read_job(directory, path.stem))]
    return Sweep(directory, command, jobs)


def read_job(directory: Path, job: str) -> Job | None:
    """What became of the job with this id; None where nothing is known, or its run is gone.

    A job that was going on, and whose run no process holds any more, was interrupted.
    """
    try:
        kept = Job(**read_json(directory / JOBS / f"{job}.json"))
    except (CheckpointError, TypeError):
        return None
    run = Path(os.path.normpath(directory / kept.run)) if kept.run else None
    if run is not None and not run.is_dir():
        return None
    dead = kept.state == "going on" and not (run and is_held(run))
    return replace(kept, run=run, state="interrupted" if dead else kept.state)


def _began(record: Path) -> str:
    """The name of a job's run, which begins with its time."""
    return str(read_json(record).get("run", ""))

"""What a run's directory tells of it, read without torch, and which directory is meant by an id.

run.json        what the run was started with; at its end also how it ended, and its stages with their digests
config.json     the resolved config
metrics.json    what was measured, by section, where the run got so far
.lock           held by the process that the run goes on in
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from ldmkit.errors import CheckpointError, Interrupted, LdmkitError, nearest

RUNS = Path("outputs/runs")
"""Where the id of a run is looked up, unless the caller says otherwise."""
CONFIG, RECORD, METRICS, LOCK = "config.json", "run.json", "metrics.json", ".lock"

State = Literal["finished", "interrupted", "failed", "going on"]
"""How it stands with a run; one that is interrupted can be resumed."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run: how it stands, what it was started with, what it has measured, and the stages that it has gone through.

    ``error`` is the message with which it ended, ``stages`` and ``record`` are as ``run.json`` has them.
    """

    directory: Path
    state: State
    error: str
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The name of its directory."""
        return self.directory.name

    @property
    def started(self) -> datetime | None:
        """When it was first started, in local time; None where the directory has another name than ids have."""
        try:
            return datetime.strptime(self.id[:15], "%Y%m%d-%H%M%S")
        except ValueError:
            return None

    @property
    def overrides(self) -> Sequence[str]:
        """What was typed behind ``ldmkit run``."""
        return [str(line) for line in self.record["overrides"]]

    @property
    def stages(self) -> Sequence[Mapping[str, Any]]:
        """Name, steps, seconds, reused and digest of each stage; nothing before the run has ended."""
        return [stage for stage in _list(self.record.get("stages")) if isinstance(stage, Mapping) and "name" in stage]

    @property
    def numbers(self) -> dict[str, float]:
        """Its measurements by ``section.name``, without counts of pictures; ``seconds`` are those of all stages."""
        measured = {name: values for name, values in self.metrics.items() if isinstance(values, Mapping)}
        total = {"seconds": measured.pop("seconds", {}).get("total")}
        measured.pop("protocol", None)
        named = {f"{section}.{name}": value for section, values in measured.items() for name, value in values.items()}
        return {
            name: value
            for name, value in {**named, **total}.items()
            if isinstance(value, int | float) and not name.endswith((".count", "_count"))
        }


def read_run(directory: Path) -> RunRecord:
    """Read the run in ``directory``; CheckpointError names the file of it that is missing or damaged."""
    config, record = _mapping(directory / CONFIG), _mapping(directory / RECORD)
    if not isinstance(record.get("overrides"), list):
        raise CheckpointError(f"'{directory / RECORD}' does not say what the run was started with")
    state: State | None = next((each for each in get_args(State) if each == record.get("state")), None)
    if state is None:
        state = "going on" if is_held(directory) else "interrupted"
    metrics = _mapping(directory / METRICS) if (directory / METRICS).is_file() else {}
    error = str(record.get("error", ""))
    return RunRecord(directory=directory, state=state, error=error, config=config, record=record, metrics=metrics)


def is_held(directory: Path) -> bool:
    """Whether a process is at work in the ``directory`` of a run."""
    if not (directory / LOCK).is_file():
        return False
    try:
        with FileLock(directory / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a directory that is not ours to lock
        return False


def ended_by(error: BaseException) -> tuple[Literal["interrupted", "failed"], str]:
    """How it stands with a run that ``error`` has ended, and what that says in one line."""
    said = " ".join(str(error).split())
    named = said if isinstance(error, LdmkitError) else f"{type(error).__name__}: {said}".rstrip(": ")
    return "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed", named


def find_run(named: str | Path, runs: Path = RUNS) -> Path | None:
    """The directory that ``named`` means, itself or by its id in ``runs``; None where it means none.

    Of an id, the beginning will do, or the beginning of its last part, where only one run in ``runs`` has it. Raises
    CheckpointError where several do.
    """
    name = str(named)
    for place in (Path(named), runs / named):
        if (place / CONFIG).is_file():
            return place
    there = ids(runs)
    found = [each for each in there if each.startswith(name) or each.rpartition("-")[2].startswith(name)]
    if name and len(found) > 1:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise CheckpointError(f"'{name}' is the beginning of {', '.join(found[-5:])}{more}; type more of it")
    return runs / found[0] if name and found else None


def missing_run(named: str | Path, runs: Path = RUNS) -> CheckpointError:
    """The error that says that there is no run ``named``, which one is nearest, and which there are."""
    there = ids(runs)
    near = nearest(str(named), there)
    hint = f"; did you mean '{near}'?" if near else "."
    return CheckpointError(f"there is no run '{named}'{hint} {_last(there, runs)}")


def ids(runs: Path = RUNS) -> list[str]:
    """Ids of the runs in ``runs``, the oldest first."""
    return sorted(path.parent.name for path in runs.glob(f"*/{CONFIG}"))


def _last(there: Sequence[str], runs: Path) -> str:
    if not there:
        return f"There is no run in {runs}"
    return f"There is: {', '.join(there[-5:])}" if len(there) <= 5 else f"The last ones are {', '.join(there[-5:])}"


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read '{path}': {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"'{path}' is not what a run leaves there")
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

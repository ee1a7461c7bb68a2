"""``ldmkit report RUN|SWEEP``: the report made again, of a sweep that is still going too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ldmkit import run, sweep
from ldmkit.artifacts.checkpoint import read_json
from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.exits import Arguments
from ldmkit.models import build_part
from ldmkit.records import CONFIG, find_run, missing_run


def main(argv: Sequence[str]) -> None:
    """Carry out ``ldmkit report`` with the arguments behind the verb: print where the report is."""
    parser = Arguments(prog="ldmkit report", description="Make the report of a run or of a sweep again.")
    parser.add_argument("of", metavar="RUN|SWEEP", help="an id, the beginning of one, or a directory")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), metavar="DIR", help="where ids are looked up")
    asked = parser.parse_intermixed_args(argv)
    directory = find(asked.of, asked.outputs)
    print(_of_sweep(directory) if (directory / sweep.SWEEP).is_file() else _of_run(directory))


def find(of: str, outputs: Path) -> Path:
    """Return the directory of the run or sweep that ``of`` names; CheckpointError where it names none, or several."""
    for place in (Path(of), outputs / "sweeps" / of):
        if (place / sweep.SWEEP).is_file():
            return place
    sweeps = sorted(path.parent for path in outputs.glob(f"sweeps/*/{sweep.SWEEP}"))
    run_found = find_run(of, outputs / "runs")
    found = [*(path for path in sweeps if path.name.startswith(of)), *([run_found] if run_found else [])]
    if not found:
        there = f". Sweeps here: {', '.join(path.name for path in sweeps[-5:])}" if sweeps else ""
        raise CheckpointError(f"{missing_run(of, outputs / 'runs')}{there}")
    if len(found) > 1:
        raise CheckpointError(f"'{of}' is the beginning of {', '.join(path.name for path in found)}; type more of it")
    return found[0]


def _of_run(directory: Path) -> Path:
    node = read_json(directory / CONFIG)["task"]
    task: run.Task = build_part("task", node)
    made = task.report(directory)
    if made is None:
        raise ConfigError(f"'{directory.name}' is a run of task '{node['name']}', which writes no report")
    return made


def _of_sweep(directory: Path) -> str:
    found = sweep.read(directory)
    if not found.runs:
        raise ConfigError(f"no job of the sweep '{directory.name}' has finished; to go on: {found.command}")
    return run.conclude_sweep(found).rstrip("\n")

"""``ldmkit report RUN|SWEEP``: the report made again, of a sweep that is still going too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ldmkit import run, sweep
from ldmkit.artifacts.checkpoint import read_json
from ldmkit.errors import ConfigError
from ldmkit.exits import Arguments
from ldmkit.models import build_part


def main(argv: Sequence[str]) -> None:
    """Carry out ``ldmkit report`` with the arguments behind the verb: print where the report is."""
    parser = Arguments(prog="ldmkit report", description="Make the report of a run or of a sweep again.")
    parser.add_argument("of", metavar="RUN|SWEEP", help="an id, the beginning of one, or a directory")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), metavar="DIR", help="where ids are looked up")
    asked = parser.parse_intermixed_args(argv)
    directory = find(asked.of, asked.outputs)
    print(_of_sweep(directory) if (directory / sweep.SWEEP).is_file() else _of_run(directory))


def find(of: str, outputs: Path) -> Path:
    """Return the directory of the run or the sweep that ``of`` names; ConfigError says which there are."""
    if any((Path(of) / file).is_file() for file in (run.CONFIG, sweep.SWEEP)):
        return Path(of)
    known = [path.parent for path in (*outputs.glob(f"runs/*/{run.CONFIG}"), *outputs.glob(f"sweeps/*/{sweep.SWEEP}"))]
    found = [path for path in known if path.name == of] or [path for path in known if path.name.startswith(of)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"'{of}' may be {', '.join(sorted(path.name for path in found))}; type more of it")
    newest = sorted(known, key=lambda path: path.stat().st_mtime)[-5:]
    there = f"The last are {', '.join(path.name for path in newest)}" if newest else f"There is nothing in '{outputs}'"
    raise ConfigError(f"there is no run or sweep '{of}'. {there}")


def _of_run(directory: Path) -> Path:
    node = read_json(directory / run.CONFIG)["task"]
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

"""What a run tells at its end: kept in its directory, and written as its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ldmkit.artifacts.checkpoint import read_json, write_json
from ldmkit.errors import CheckpointError
from ldmkit.run import CONFIG, RECORD, Run, StageRecord
from ldmkit_tasks.pictures import Sample
from ldmkit_tasks.report import PARTS, Summary, write_report

METRICS, REPORT = "metrics.json", "report.json"
"""A run's measurements, and what else its report tells: samples with their verdicts, and how each stage went."""
BESIDE = ("protocol", "seconds", "reused")
"""What stands in ``metrics.json`` beside the sections of measurements."""


def write_summary(
    run: Run, samples: Sequence[Sample] = (), *, what: str = "A diffusion model", parts: Sequence[str] = PARTS
) -> Path:
    """Write the run's ``report.html``, ``metrics.json`` being there, and return its path.

    ``what`` was made by the groups ``parts``. Kept in ``report.json``, so that the report can be made again.
    """
    shown = [
        asdict(sample) | {"path": sample.path.relative_to(run.directory).as_posix()}
        for sample in samples[: run.settings.samples.grid]
    ]
    stages = [asdict(stage) for stage in run.stages]
    write_json(run.directory / REPORT, {"what": what, "parts": list(parts), "stages": stages, "samples": shown})
    return make_report(run.directory)


def make_report(directory: Path) -> Path:
    """Write ``report.html`` from what the run in ``directory`` has left there, and return its path.

    Raises CheckpointError where some of that is missing, as in a run that has not finished.
    """
    if not (directory / REPORT).is_file():
        raise CheckpointError(f"there is nothing to report in '{directory}': the run has not finished")
    told, record, metrics = (read_json(directory / name) for name in (REPORT, RECORD, METRICS))
    return write_report(
        directory,
        Summary(
            command=record["command"],
            config=read_json(directory / CONFIG),
            metrics={section: values for section, values in metrics.items() if section not in BESIDE},
            protocols=metrics["protocol"],
            stages=[StageRecord(**stage) for stage in told["stages"]],
            samples=[Sample(**sample | {"path": Path(sample["path"])}) for sample in told["samples"]],
            reconstructions=[
                (original.relative_to(directory), reconstruction.relative_to(directory))
                for original, reconstruction in reconstruction_pairs(directory)
            ],
            previews=_previews(directory),
            versions=record["versions"],
            what=told["what"],
            parts=told["parts"],
        ),
    )


def read_stages(directory: Path) -> list[StageRecord]:
    """How each stage of the run in ``directory`` went; nothing where it has kept no report."""
    kept: dict[str, Any] = read_json(directory / REPORT) if (directory / REPORT).is_file() else {"stages": []}
    return [StageRecord(**stage) for stage in kept["stages"]]


def reconstruction_pairs(directory: Path) -> list[tuple[Path, Path]]:
    """The files (original, reconstruction) that a run left in its ``directory``, in their order."""
    originals = sorted((directory / "reconstructions").glob("*-original.png"))
    return [(path, path.with_name(path.name.replace("original", "reconstruction"))) for path in originals]


def _previews(directory: Path) -> list[tuple[int, Path]]:
    grids = sorted((directory / "samples").glob("preview-*.png"))
    return [(int(path.stem.partition("-")[2]), path.relative_to(directory)) for path in grids]

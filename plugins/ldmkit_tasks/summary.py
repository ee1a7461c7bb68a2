"""What a run tells at its end: gathered from its directory and its record, and written as its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ldmkit.run import Run, versions
from ldmkit_tasks.measure import Measurement
from ldmkit_tasks.pictures import Sample
from ldmkit_tasks.report import Summary, write_report


def write_summary(run: Run, measurement: Measurement, samples: Sequence[Sample]) -> Path:
    """Write the run's ``report.html`` and return its path."""
    return write_report(
        run.directory,
        Summary(
            command=run.command,
            config=run.config,
            metrics=measurement.sections,
            stages=run.stages,
            samples=[
                Sample(sample.path.relative_to(run.directory), sample.prompt, sample.seed, sample.verdict)
                for sample in samples[: run.settings.samples.grid]
            ],
            reconstructions=_reconstructions(run.directory),
            previews=_previews(run.directory),
            versions=versions(run),
        ),
    )


def _reconstructions(directory: Path) -> list[tuple[Path, Path]]:
    originals = sorted((directory / "reconstructions").glob("*-original.png"))
    return [
        (
            path.relative_to(directory),
            path.with_name(path.name.replace("original", "reconstruction")).relative_to(directory),
        )
        for path in originals
    ]


def _previews(directory: Path) -> list[tuple[int, Path]]:
    grids = sorted((directory / "samples").glob("preview-*.png"))
    return [(int(path.stem.partition("-")[2]), path.relative_to(directory)) for path in grids]

"""What a run tells at its end: gathered from its directory and its record, and written as its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ldmkit.run import Run, versions
from ldmkit_tasks.measure import Measurement
from ldmkit_tasks.pictures import Sample
from ldmkit_tasks.report import PARTS, Summary, write_report


def write_summary(
    run: Run,
    measurement: Measurement,
    samples: Sequence[Sample] = (),
    *,
    what: str = "A diffusion model",
    parts: Sequence[str] = PARTS,
) -> Path:
    """Write the run's ``report.html`` and return its path; ``what`` was made by the groups ``parts``."""
    return write_report(
        run.directory,
        Summary(
            command=run.command,
            config=run.config,
            metrics=measurement.sections,
            protocols=measurement.protocols,
            stages=run.stages,
            samples=[
                Sample(sample.path.relative_to(run.directory), sample.prompt, sample.seed, sample.verdict)
                for sample in samples[: run.settings.samples.grid]
            ],
            reconstructions=[
                (original.relative_to(run.directory), reconstruction.relative_to(run.directory))
                for original, reconstruction in reconstruction_pairs(run.directory)
            ],
            previews=_previews(run.directory),
            versions=versions(run),
            what=what,
            parts=parts,
        ),
    )


def reconstruction_pairs(directory: Path) -> list[tuple[Path, Path]]:
    """The files (original, reconstruction) that a run left in its ``directory``, in their order."""
    originals = sorted((directory / "reconstructions").glob("*-original.png"))
    return [(path, path.with_name(path.name.replace("original", "reconstruction"))) for path in originals]


def _previews(directory: Path) -> list[tuple[int, Path]]:
    grids = sorted((directory / "samples").glob("preview-*.png"))
    return [(int(path.stem.partition("-")[2]), path.relative_to(directory)) for path in grids]

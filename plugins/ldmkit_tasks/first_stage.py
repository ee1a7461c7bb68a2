"""The first stage alone: trained, measured on held-out images, and reported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ldmkit.artifacts.checkpoint import write_json
from ldmkit.differences import Difference
from ldmkit.models import build_first_stage, parameters
from ldmkit.run import Run, Task
from ldmkit.stages.assembly import assemble_first_stage
from ldmkit.stages.first_stage import train_first_stage
from ldmkit.sweep import Sweep
from ldmkit_tasks.comparison import compare_jobs
from ldmkit_tasks.difference import write_difference
from ldmkit_tasks.measure import RECONSTRUCTIONS, Measurement, measure_reconstructions
from ldmkit_tasks.summary import make_report, write_summary

PARTS = ("scale", "data", "model", "loss")
"""Groups that make a first stage."""


class TrainFirstStage(Task):
    """Trains the first stage, or takes it from the store, and measures reconstructions of held-out images.

    Writes into the run's directory: ``model/`` (a checkpoint of the first stage alone), ``reconstructions/``,
    ``reconstructions.png`` (originals above), ``metrics.json`` and ``report.html``. Its stage is that of task=train:
    what one has trained the other reuses.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config: Config) -> None:
        self.config = config

    def run(self, run: Run) -> None:
        """Do all of it."""
        first_stage = build_first_stage(run.config, run.data.spec)
        measurement = Measurement(run, on=[RECONSTRUCTIONS])
        trained = train_first_stage(run, first_stage)
        assemble_first_stage(run, trained)
        measurement.sections["model"] = {
            "factor": first_stage.spec.factor,
            "latent_channels": first_stage.spec.channels,
            "parameters": parameters(first_stage),
        }
        with run.timed(RECONSTRUCTIONS):
            measure_reconstructions(run, first_stage, measurement)
        write_json(run.directory / "metrics.json", measurement.results())
        write_summary(run, what="A first stage", parts=PARTS)

    def report(self, directory: Path) -> Path:
        """``report.html``; see :mod:`ldmkit_tasks.summary`."""
        return make_report(directory)

    def compare(self, sweep: Sweep) -> str:
        """One table and one sheet of reconstructions; see :mod:`ldmkit_tasks.comparison`."""
        return compare_jobs(sweep)

    def diff(self, found: Difference, path: Path) -> Path:
        """Configs, numbers, stages and pictures; see :mod:`ldmkit_tasks.difference`."""
        return write_difference(found, path)

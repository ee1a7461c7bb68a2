"""The main job: both stages trained, sampled, measured and reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ldmkit.artifacts.checkpoint import write_json
from ldmkit.differences import Difference
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.models import build
from ldmkit.run import Run, Task
from ldmkit.stages.assembly import assemble
from ldmkit.stages.conditioners import fit_conditioners
from ldmkit.stages.denoiser import STAGE as DENOISER
from ldmkit.stages.denoiser import train_denoiser
from ldmkit.stages.first_stage import train_first_stage
from ldmkit.stages.latents import cache_latents, check_room_for_latents
from ldmkit.sweep import Sweep
from ldmkit_tasks.comparison import compare_jobs
from ldmkit_tasks.difference import write_difference
from ldmkit_tasks.measure import Measurement, measure_reconstructions, measure_samples
from ldmkit_tasks.pictures import draw_grid, save_samples
from ldmkit_tasks.summary import make_report, write_summary


class Train(Task):
    """Chain of the stages of Rombach et al. 2022: first stage, latents, denoiser; then samples, metrics and a report.

    Writes into the run's directory: ``model/`` (the checkpoint), ``samples/``, ``reconstructions/``, ``metrics.json``
    and ``report.html``.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config: Config) -> None:
        self.config = config

    def run(self, run: Run) -> None:
        """Do all of it; stages whose results are in the store are taken from there."""
        model = build(run.config, run.data.spec)
        measurement = Measurement(run)
        check_room_for_latents(run, model)
        fitted = fit_conditioners(run, model.conditioners)
        first_stage = train_first_stage(run, model.first_stage)
        with run.timed("reconstructions"):
            measure_reconstructions(run, model.first_stage, measurement)
        cached, latents = cache_latents(run, model, first_stage)
        denoiser = train_denoiser(
            run, model, fitted=fitted, cached=cached, latents=latents, previews=_previews(run, model)
        )
        digest = assemble(run, model, fitted=fitted, first_stage=first_stage, cached=cached, denoiser=denoiser)
        with run.timed("samples"):
            drawn = measure_samples(run, model, measurement)
            samples = save_samples(run, model, drawn, digest)
        write_json(run.directory / "metrics.json", measurement.results())
        write_summary(run, samples)

    def report(self, directory: Path) -> Path:
        """``report.html``; see :mod:`ldmkit_tasks.summary`."""
        return make_report(directory)

    def compare(self, sweep: Sweep) -> str:
        """One table and one sheet of reconstructions and samples; see :mod:`ldmkit_tasks.comparison`."""
        return compare_jobs(sweep)

    def diff(self, found: Difference, path: Path) -> Path:
        """Configs, numbers, stages and pictures; see :mod:`ldmkit_tasks.difference`."""
        return write_difference(found, path)


def _previews(run: Run, model: LatentDiffusion) -> dict[int, Callable[[], None]]:
    def at(step: int) -> Callable[[], None]:
        return lambda: draw_grid(run, model, DENOISER, step)

    return {step: at(step) for step in run.settings.samples.previews}

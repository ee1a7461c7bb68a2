"""Measuring: the metrics that the config names, fed with reconstructions and with samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.models import build_part
from ldmkit.pictures import save_png
from ldmkit.protocols import Metric
from ldmkit.run import Run
from ldmkit.values import Fields, to_pixels, to_uint8
from ldmkit_tasks.pictures import sample

SHOWN = 8
"""Reconstructions that are saved beside their originals."""


class Measurement:
    """The metrics of a run and what they found."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.metrics: list[Metric] = [
            build_part("metric", node, f"metric.{name}", data=run.data) for name, node in run.config["metric"].items()
        ]
        self.sections: dict[str, dict[str, float]] = {}

    def feed(self, on: str, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Give uint8 pictures to every metric that is fed ``on`` them."""
        for metric in self.metrics:
            if metric.on == on:
                metric.update(images, references, fields)

    def conclude(self, on: str) -> None:
        """Compute the metrics that are fed ``on`` something and tell the loggers."""
        for metric in self.metrics:
            if metric.on == on and (found := metric.compute()):
                self.sections.setdefault(metric.section, {}).update(found)
        for section in {metric.section for metric in self.metrics if metric.on == on} & set(self.sections):
            self.run.loggers.on_metrics(section=section, metrics=self.sections[section])

    def results(self) -> dict[str, Any]:
        """What ``metrics.json`` holds: the measurements, and the seconds that each stage took in this run."""
        seconds = {stage.name: stage.seconds for stage in self.run.stages}
        reused = [stage.name for stage in self.run.stages if stage.reused]
        return {**self.sections, "seconds": {**seconds, "total": round(sum(seconds.values()), 2)}, "reused": reused}


@torch.no_grad()
def measure_reconstructions(run: Run, model: LatentDiffusion, measurement: Measurement) -> None:
    """Encode and decode held-out images, measure them, and save some beside their originals."""
    count = min(run.settings.samples.count, run.data.length("validation"))
    for start in range(0, count, run.settings.samples.batch_size):
        run.stop_if_asked("reconstructions")
        indices = range(start, min(start + run.settings.samples.batch_size, count))
        batch = run.data.read("validation", indices)
        with run.compute.autocast():
            latents = model.first_stage.encode(to_pixels(batch.images.to(run.compute.device))).mode()
            reconstructions = to_uint8(model.first_stage.decode(latents).cpu())
        measurement.feed("reconstructions", reconstructions, batch.images, batch.fields)
        for index, original, reconstruction in zip(indices, batch.images, reconstructions, strict=True):
            if index < SHOWN:
                save_png(original, run.directory / "reconstructions" / f"{index:05d}-original.png")
                save_png(reconstruction, run.directory / "reconstructions" / f"{index:05d}-reconstruction.png")
    measurement.conclude("reconstructions")


def measure_samples(run: Run, model: LatentDiffusion, measurement: Measurement) -> tuple[Fields, Tensor]:
    """Sample held-out prompts and measure whether the pictures obey what the model was told."""
    fields, images = sample(run, model, run.settings.samples.count)
    measurement.feed("samples", images, None, fields)
    measurement.conclude("samples")
    return fields, images

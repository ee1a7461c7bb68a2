"""Measuring: the metrics that the config names, fed with reconstructions and with samples."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.models import build_part
from ldmkit.pictures import save_grid, save_png
from ldmkit.protocols import FirstStage, Metric
from ldmkit.registry.discovery import registry
from ldmkit.run import Run
from ldmkit.values import Batch, Fields, code_usage, to_pixels, to_uint8
from ldmkit_tasks.pictures import Drawn, drawing, sample

log = logging.getLogger("ldmkit")

SHOWN = 8
"""Reconstructions that are saved beside their originals."""
RECONSTRUCTIONS, SAMPLES, DRAWN = "reconstructions", "samples", "drawn"
"""What metrics are fed with."""
MADE = {RECONSTRUCTIONS: "reconstructed", SAMPLES: "sampled", DRAWN: "drawn"}
FIRST_STAGE = "first_stage"
"""Where ``metrics.json`` says how much of a codebook held-out images use."""


def build_metrics(run: Run, on: Collection[str]) -> dict[str, Metric]:
    """Build those metrics of the config that are fed ``on`` something, on the run's device."""
    metrics = {}
    for name, node in run.config["metric"].items():
        if registry().part("metric", node["name"]).on in on:
            metrics[name] = build_part("metric", node, f"metric.{name}", data=run.data)
            metrics[name].to(run.compute.device)
    return metrics


class Measurement:
    """The metrics of a run, what they found, by section, and what that depends on, by metric."""

    def __init__(self, run: Run, on: Collection[str] = (RECONSTRUCTIONS, SAMPLES, DRAWN)) -> None:
        self.run = run
        self.metrics = build_metrics(run, on)
        self.sections: dict[str, dict[str, float]] = {}
        self.protocols: dict[str, dict[str, Any]] = {}
        self.code_counts: Tensor | None = None

    def feed(self, on: str, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Give uint8 pictures to every metric that is fed ``on`` them."""
        for metric in self.metrics.values():
            if metric.on == on:
                metric.update(images, references, fields)

    def count_codes(self, counts: Tensor | None) -> None:
        """Take in how often the codes of a first stage stood for a position; see :meth:`FirstStage.code_counts`."""
        if counts is not None:
            self.code_counts = counts if self.code_counts is None else self.code_counts + counts

    def conclude(self, on: str, conditions: dict[str, Any]) -> None:
        """Compute the metrics that are fed ``on`` something, note their ``conditions``, and tell the loggers."""
        common = {"data": self.run.data.digest(), "size": self.run.data.spec.size, "seed": self.run.seed, **conditions}
        sections, idle = [], []
        for name, metric in self.metrics.items():
            if metric.on == on and (found := metric.compute()):
                self.sections.setdefault(metric.section, {}).update(found)
                self.protocols[name] = {"on": on, **common, **metric.protocol()}
                sections.append(metric.section)
            elif metric.on == on:
                idle.append(name)
        if idle:
            log.warning(f"metric {', '.join(idle)}: nothing to measure in what this run has {MADE[on]}")
        if on == RECONSTRUCTIONS and self.code_counts is not None:
            used = {f"codebook_{name}": value.item() for name, value in code_usage(self.code_counts).items()}
            self.sections.setdefault(FIRST_STAGE, {}).update(used)
            sections.append(FIRST_STAGE)
        for section in dict.fromkeys(sections):
            self.run.loggers.on_metrics(section=section, metrics=self.sections[section])

    def results(self) -> dict[str, Any]:
        """What ``metrics.json`` holds: measurements, their protocols, and the seconds of each stage in this run."""
        seconds = {stage.name: stage.seconds for stage in self.run.stages}
        reused = [stage.name for stage in self.run.stages if stage.reused]
        return {
            **self.sections,
            "protocol": self.protocols,
            "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
            "reused": reused,
        }


@torch.no_grad()
def reconstruct(
    run: Run, first_stage: FirstStage, measurement: Measurement, split: str, count: int
) -> Iterator[tuple[range, Batch, Tensor]]:
    """Encode, decode and measure the first ``count`` images of ``split``: yield indices, batch, uint8 (B, C, H, W)."""
    for start in range(0, count, run.settings.samples.batch_size):
        run.stop_if_asked(RECONSTRUCTIONS)
        indices = range(start, min(start + run.settings.samples.batch_size, count))
        batch = run.data.read(split, indices)
        with run.compute.autocast():
            latents = first_stage.encode(to_pixels(batch.images.to(run.compute.device))).mode()
            reconstructions = to_uint8(first_stage.decode(latents).cpu())
        measurement.feed(RECONSTRUCTIONS, reconstructions, batch.images, batch.fields)
        measurement.count_codes(first_stage.code_counts(latents))
        yield indices, batch, reconstructions


def measure_reconstructions(run: Run, first_stage: FirstStage, measurement: Measurement) -> None:
    """Encode and decode held-out images, measure them, and save some beside their originals."""
    count = min(run.settings.samples.count, run.data.length("validation"))
    directory = run.directory / RECONSTRUCTIONS
    shown: list[tuple[Tensor, Tensor]] = []
    for indices, batch, reconstructions in reconstruct(run, first_stage, measurement, "validation", count):
        for index, original, reconstruction in zip(indices, batch.images, reconstructions, strict=True):
            if index < SHOWN:
                save_png(original, directory / f"{index:05d}-original.png")
                save_png(reconstruction, directory / f"{index:05d}-reconstruction.png")
                shown.append((original, reconstruction))
    measurement.conclude(RECONSTRUCTIONS, {"split": "validation", "count": count})
    show_reconstructions(run, shown)


def show_reconstructions(run: Run, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Lay ``pairs`` of uint8 (C, H, W) out as one picture, the originals above, and tell the loggers."""
    originals, reconstructions = (torch.stack(column) for column in zip(*pairs, strict=True))
    images = torch.cat([originals, reconstructions])
    path = save_grid(images, run.directory / "reconstructions.png", columns=len(pairs))
    run.loggers.on_sample(stage=RECONSTRUCTIONS, step=0, images=images, captions=[], path=path)


def measure_samples(run: Run, model: LatentDiffusion, measurement: Measurement) -> Drawn:
    """Sample held-out prompts and measure whether the pictures obey what the model was told.

    Beside the metrics stands how many evaluations of the denoiser each picture took.
    """
    with counted_evaluations(model) as rows:
        drawn = sample(run, model, run.settings.samples.count)
    evaluations = sum(rows) / len(drawn.images)
    measurement.sections.setdefault(SAMPLES, {})["evaluations"] = round(evaluations, 2)
    for on, images in ((DRAWN, drawn.decoded), (SAMPLES, drawn.images)):
        measurement.feed(on, images, drawn.originals, drawn.fields)
        measurement.conclude(on, {"count": len(images), **drawing(run, model)})
    return drawn


@contextmanager
def counted_evaluations(model: LatentDiffusion) -> Iterator[list[int]]:
    """Within, note the rows of each batch that the denoiser evaluates, and the weaker model's where there is one.

    Estimates for guidance that come as one batch have a row each, so that rows by pictures are evaluations whatever
    the guidance, its interval, or a sampler with steps of its own.
    """
    rows: list[int] = []
    denoisers = [each.denoiser for each in (model, model.weaker) if each is not None]
    hooks = [part.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0]))) for part in denoisers]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()

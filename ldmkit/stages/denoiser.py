"""Denoiser: training it, with its conditioners, on the cached latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldmkit.artifacts.checkpoint import read_tensors, write_tensors
from ldmkit.artifacts.random import RowRandom
from ldmkit.artifacts.store import Artifact
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.protocols import DataSource
from ldmkit.run import Run
from ldmkit.specs import OptimizerSpec
from ldmkit.stages.latents import Latents
from ldmkit.stages.training import determining, train
from ldmkit.training.ema import EMA
from ldmkit.values import Fields, Levels, Posterior, to_device

STAGE = "denoiser"
TRAINED = ("denoiser", "conditioners", "objective")


@dataclass(frozen=True)
class Example:
    """What a step of the denoiser sees of B images: posteriors, fields, and the images themselves where they matter."""

    posterior: Posterior
    fields: Fields
    images: Tensor | None


class DenoiserTrainee:
    """Draws a latent from the cached posterior, normalises it, and asks the objective for the loss."""

    def __init__(self, model: LatentDiffusion, latents: Latents, data: DataSource, device: torch.device) -> None:
        self.model, self.latents, self.data, self.device = model, latents, data, device
        self.players: Mapping[str, nn.Module] = {
            "denoiser": nn.ModuleDict({name: getattr(model, name) for name in TRAINED})
        }
        self.own_optimizers: Mapping[str, OptimizerSpec] = {}
        self.length = len(latents)

    def read(self, indices: list[int]) -> Example:
        """Gather posteriors and the fields that the conditioners need, images only where one of them observes some."""
        conditioners = self.model.conditioners
        needed = conditioners.needs.keys() - conditioners.observed.keys()
        images: Tensor | None = None
        fields: Fields = {}
        if conditioners.observed:
            batch = self.data.read("train", indices)
            images, fields = batch.images, batch.fields
        elif needed:
            fields = self.data.fields("train", indices)
        return Example(self.latents.posterior(indices, self.device), {name: fields[name] for name in needed}, images)

    def losses(
        self, batch: Example, random: RowRandom, step: int
    ) -> Iterator[tuple[str, Tensor, Mapping[str, Tensor]]]:
        """The loss of one step: posterior => latents => z0 of unit variance => loss."""
        z0 = self.latents.statistics.normalise(batch.posterior.sample(random))
        fields = to_device(batch.fields, self.device)
        if batch.images is not None:
            fields |= self.model.conditioners.observe(batch.images.to(self.device), random)
        losses = self.model.loss(z0, fields, random)
        level = self.model.objective.training_levels(random).to(losses.device)
        yield "denoiser", losses.mean(), loss_by_noise(losses.detach(), level)


def loss_by_noise(losses: Tensor, level: Levels) -> dict[str, Tensor]:
    """Mean of ``losses`` (B,) over the rows whose ``level`` (B,) is in each quarter of the way from clean to noise.

    The way is atan(sigma / alpha), from 0 to pi / 2, in which the cosine schedule is even. ``loss_noise_1`` has the
    least noise; a quarter without rows is NaN, which the loop leaves out of the log.
    """
    way = torch.atan2(level.sigma, level.alpha) * (2 / math.pi)
    quarter = (4 * way).long().clamp(max=3)
    within = quarter == torch.arange(4, device=losses.device)[:, None]
    means = (within * losses).sum(1) / within.sum(1)
    return {f"loss_noise_{index + 1}": mean for index, mean in enumerate(means)}


def train_denoiser(
    run: Run,
    model: LatentDiffusion,
    *,
    fitted: Artifact,
    cached: Artifact,
    latents: Latents,
    previews: Mapping[int, Callable[[], None]],
) -> Artifact:
    """Train the denoiser and the conditioners of ``model``, or take their weights from the store.

    ``previews`` are called after the steps they are filed under, while the model computes with its averaged weights.
    """
    config = run.settings.train.denoiser
    inputs: dict[str, Any] = {
        **{group: run.identity(group) for group in ("cond", "denoiser", "objective")},
        "fitted": fitted.digest,
        "latents": cached.digest,
        "train": determining(config),
        "seed": run.seed,
        "bf16": run.compute.bf16,
    }

    def preview(make_pictures: Callable[[], None]) -> Callable[[EMA], None]:
        def with_averages(ema: EMA) -> None:
            with ema.applied():
                make_pictures()

        return with_averages

    def make(directory: Path) -> None:
        watched = {step: preview(call) for step, call in previews.items()}
        trainee = DenoiserTrainee(model, latents, run.data, run.compute.device)
        train(run, trainee, config, stage=STAGE, inputs=inputs, previews=watched)
        for name in TRAINED:
            write_tensors(directory / f"{name}.safetensors", getattr(model, name).state_dict())

    artifact = run.stage(STAGE, inputs, make, steps=config.steps)
    for name in TRAINED:
        getattr(model, name).load_state_dict(read_tensors(artifact.path / f"{name}.safetensors"))
    model.to(run.compute.device).eval()
    return artifact

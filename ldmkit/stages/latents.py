"""Latents: the posteriors of all training images, and their statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ldmkit.artifacts.checkpoint import read_json, read_tensors, write_json, write_tensors
from ldmkit.artifacts.store import Artifact
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.models import STATISTICS
from ldmkit.run import Run
from ldmkit.training.batches import read_ahead
from ldmkit.values import Posterior, to_pixels

STAGE = "latents"
BATCH = 64
SHARD = 4096
"""Images encoded at once, and images in one file."""


class Latents:
    """Posteriors of the training images by index; each use draws a new latent from them."""

    def __init__(self, directory: Path) -> None:
        shards = [read_tensors(path) for path in sorted(directory.glob("posteriors-*.safetensors"))]
        self.mean = torch.cat([shard["mean"] for shard in shards])
        self.std = torch.cat([shard["std"] for shard in shards])
        self.statistics = LatentStatistics.from_json(read_json(directory / STATISTICS))

    def __len__(self) -> int:
        return len(self.mean)

    def posterior(self, indices: Sequence[int], device: torch.device) -> Posterior:
        """Posteriors of the images ``indices``: each (B, C, h, w)."""
        rows = torch.as_tensor(indices)
        return Posterior(self.mean[rows].to(device), self.std[rows].to(device))


def cache_latents(run: Run, model: LatentDiffusion, first_stage: Artifact) -> tuple[Artifact, Latents]:
    """Encode every training image once with the first stage, store the posteriors and measure their statistics."""
    inputs = {"first_stage": first_stage.digest, "data": run.data.digest()}

    def make(directory: Path) -> None:
        posteriors = list(_encode(run, model))
        statistics = LatentStatistics.measure(posteriors, first_stage.digest)
        write_json(directory / STATISTICS, statistics.as_json())
        mean, std = (torch.cat([getattr(p, name) for p in posteriors]) for name in ("mean", "std"))
        for number, start in enumerate(range(0, len(mean), SHARD)):
            shard = {"mean": mean[start : start + SHARD].clone(), "std": std[start : start + SHARD].clone()}
            write_tensors(directory / f"posteriors-{number:05d}.safetensors", shard)

    artifact = run.stage(STAGE, inputs, make)
    latents = Latents(artifact.path)
    latents.statistics.belongs_to(first_stage.digest)
    model.statistics = latents.statistics
    return artifact, latents


@torch.no_grad()
def _encode(run: Run, model: LatentDiffusion) -> Iterator[Posterior]:
    length = run.data.length("train")

    def read(number: int) -> Tensor:
        return run.data.read("train", range(number * BATCH, min((number + 1) * BATCH, length))).images

    for images in read_ahead(read, range(-(-length // BATCH)), device=run.compute.device):
        with run.compute.autocast():
            posterior = model.first_stage.encode(to_pixels(images.to(run.compute.device)))
        yield Posterior(posterior.mean.float().cpu(), posterior.std.float().cpu())

"""Latents: the posteriors of all training images, and their statistics."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
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
"""Images encoded at once, and images in one file; a whole number of the first make the second."""


class Latents:
    """Posteriors of the training images by index; each use draws a new latent from them.

    The files are mapped into memory, not read: what is held at a time is what the system finds room for.
    """

    def __init__(self, directory: Path) -> None:
        self._shards = [read_tensors(path) for path in sorted(directory.glob("posteriors-*.safetensors"))]
        self.statistics = LatentStatistics.from_json(read_json(directory / STATISTICS))

    def __len__(self) -> int:
        return sum(len(shard["mean"]) for shard in self._shards)

    def posterior(self, indices: Sequence[int], device: torch.device) -> Posterior:
        """Posteriors of the images ``indices``: each (B, C, h, w)."""
        places = [divmod(index, SHARD) for index in indices]
        mean = torch.stack([self._shards[shard]["mean"][row] for shard, row in places])
        if "std" not in self._shards[0]:
            return Posterior(mean.to(device), torch.zeros_like(mean, device=device))
        std = torch.stack([self._shards[shard]["std"][row] for shard, row in places])
        return Posterior(mean.to(device), std.to(device))


def cache_latents(run: Run, model: LatentDiffusion, first_stage: Artifact) -> tuple[Artifact, Latents]:
    """Encode every training image once with the first stage, store the posteriors and measure their statistics."""
    inputs = {"first_stage": first_stage.digest, "data": run.data.digest()}

    def make(directory: Path) -> None:
        statistics = LatentStatistics.measure(_write(_encode(run, model), directory), first_stage.digest)
        write_json(directory / STATISTICS, statistics.as_json())

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
        run.stop_if_asked(STAGE)
        with run.compute.autocast():
            posterior = model.first_stage.encode(to_pixels(images.to(run.compute.device)))
        yield Posterior(posterior.mean.float().cpu(), posterior.std.float().cpu())


def _write(posteriors: Iterable[Posterior], directory: Path) -> Iterator[Posterior]:
    """Pass ``posteriors`` on, writing them in files of SHARD images; without std where all of it is zero."""
    batches = iter(posteriors)
    for number in itertools.count():
        shard = list(itertools.islice(batches, SHARD // BATCH))
        if not shard:
            return
        tensors = {"mean": torch.cat([posterior.mean for posterior in shard])}
        if any(posterior.std.any() for posterior in shard):
            tensors["std"] = torch.cat([posterior.std for posterior in shard])
        write_tensors(directory / f"posteriors-{number:05d}.safetensors", tensors)
        yield from shard

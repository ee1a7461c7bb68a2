"""Latents: the posteriors of all training images, and their statistics."""

from __future__ import annotations

import math
import shutil
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldmkit.artifacts.checkpoint import read_json, write_json, write_tensors
from ldmkit.artifacts.rows import TensorRows
from ldmkit.artifacts.store import INPUTS, Artifact
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.diffusion.tiling import Tiling
from ldmkit.errors import ConfigError
from ldmkit.models import STATISTICS
from ldmkit.run import Run
from ldmkit.training.batches import read_ahead
from ldmkit.values import Posterior, to_pixels

STAGE = "latents"
READ_PIXELS = 64 * 256**2
"""Pixels of the images that are read at once, but never more than 64 images."""
SHARD_BYTES = 128 * 2**20
"""Size of a file, but never less than one batch. Memory holds a few of them while they are written, none afterwards."""


class Latents:
    """Posteriors of the training images by index; each use draws a new latent from them.

    Rows are read from the disk when they are asked for: memory does not grow with the data set.
    """

    def __init__(self, directory: Path) -> None:
        self._shards = [TensorRows(path) for path in sorted(directory.glob("posteriors-*.safetensors"))]
        self._ends = list(accumulate(len(shard) for shard in self._shards))
        self.statistics = LatentStatistics.from_json(read_json(directory / STATISTICS))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def posterior(self, indices: Sequence[int], device: torch.device) -> Posterior:
        """Posteriors of the images ``indices``: each (B, C, h, w), fp32."""
        by_shard: dict[int, list[int]] = defaultdict(list)
        for position, index in enumerate(indices):
            by_shard[bisect_right(self._ends, index)].append(position)
        mean = torch.empty(len(indices), *self._shards[0].shapes["mean"])
        std = torch.zeros_like(mean)
        for number, positions in by_shard.items():
            shard = self._shards[number]
            first = self._ends[number] - len(shard)
            rows = shard.read([indices[position] - first for position in positions])
            mean[positions] = rows["mean"].float()
            if "std" in rows:
                std[positions] = rows["std"].float()
        return Posterior(mean.to(device), std.to(device))


@dataclass(frozen=True)
class Footprint:
    """What the posteriors of ``images`` images take: of each a mean, and a std where there is ``spread``."""

    images: int
    shape: tuple[int, int, int]
    spread: bool
    dtype: torch.dtype

    @classmethod
    def of(cls, run: Run, model: LatentDiffusion) -> Footprint:
        """Find out what caching the training images of ``run`` would take, without reading them."""
        spec, training = model.first_stage.spec, model.first_stage.training
        blank = torch.zeros(1, model.data.channels, 2 * spec.factor, spec.factor, device=model.device)
        with torch.no_grad():
            spread = bool(model.first_stage.eval().encode(blank).std.any())
        model.first_stage.train(training)
        shape = (spec.channels, *model.latent_size())
        return cls(run.data.length("train"), shape, spread, getattr(torch, run.settings.latents.dtype))

    @property
    def row_bytes(self) -> int:
        """Size of one image's posterior."""
        return math.prod(self.shape) * self.dtype.itemsize * (1 + self.spread)

    @property
    def bytes(self) -> int:
        """Size of all of them."""
        return self.images * self.row_bytes

    def figures(self) -> dict[str, float]:
        """What is cached and how large it gets, for the loggers."""
        sides = dict(zip(("channels", "height", "width"), self.shape, strict=True))
        return {"images": self.images, **sides, "tensors": 1 + self.spread, "GiB": self.bytes / 2**30}

    def check_room(self, directory: Path) -> None:
        """Raise ConfigError when the disk of ``directory`` has less room than this takes."""
        there = next(place for place in (directory, *directory.absolute().parents) if place.is_dir())
        free = shutil.disk_usage(there).free
        if self.bytes <= free:
            return
        what = f"{'mean and std' if self.spread else 'mean'}, {' x '.join(map(str, self.shape))}"
        half = "latents.dtype=float16 takes half of it, or " if self.dtype == torch.float32 else ""
        raise ConfigError(
            f"the latents of {self.images} images ({what}, {str(self.dtype).removeprefix('torch.')}) take "
            f"{_gib(self.bytes)} but '{directory}' has {_gib(free)} free; make room, or {half}"
            "name a directory on a larger disk: outputs=DIRECTORY"
        )


def check_room_for_latents(run: Run, model: LatentDiffusion) -> None:
    """Before anything trains, raise ConfigError when the disk has no room for the latents to come.

    Where the store has latents of this data already, the answer is left to :func:`cache_latents`, which knows whether
    they are those of this first stage.
    """
    digest = run.data.digest()
    stored = (run.store.root / STAGE).glob(f"[!.]*/{INPUTS}")
    if not any(read_json(path)["data"] == digest for path in stored):
        Footprint.of(run, model).check_room(run.store.root)


def cache_latents(run: Run, model: LatentDiffusion, first_stage: Artifact) -> tuple[Artifact, Latents]:
    """Encode every training image once with the first stage, store the posteriors and measure their statistics.

    Before it begins, the loggers hear what is stored and how large it gets; raises ConfigError where the disk has less
    room than that.
    """
    settings = run.settings.latents
    inputs: dict[str, Any] = {
        "first_stage": first_stage.digest,
        "data": run.data.digest(),
        "statistics": settings.statistics,
        "dtype": settings.dtype,
        "bf16": run.compute.bf16,
    }
    if model.data.size > settings.tile:
        inputs["tile"] = settings.tile
    if settings.scale is not None:
        inputs["scale"] = settings.scale

    def make(directory: Path) -> None:
        footprint = Footprint.of(run, model)
        footprint.check_room(run.store.root)
        run.loggers.on_metrics(section=STAGE, metrics=footprint.figures())
        stored = _write(_encode(run, model), directory, footprint)
        statistics = LatentStatistics.measure(stored, first_stage.digest, settings.statistics)
        if settings.scale is not None:
            statistics = statistics.with_scale(settings.scale)
        write_json(directory / STATISTICS, statistics.as_json())

    artifact = run.stage(STAGE, inputs, make)
    latents = Latents(artifact.path)
    latents.statistics.belongs_to(first_stage.digest)
    model.statistics = latents.statistics
    return artifact, latents


@torch.no_grad()
def _encode(run: Run, model: LatentDiffusion) -> Iterator[Posterior]:
    length, tiling = run.data.length("train"), Tiling(tile=run.settings.latents.tile)
    batch = max(1, min(64, READ_PIXELS // model.data.size**2))

    def read(number: int) -> Tensor:
        return run.data.read("train", range(number * batch, min((number + 1) * batch, length))).images

    for images in read_ahead(read, range(-(-length // batch)), device=run.compute.device):
        run.stop_if_asked(STAGE)
        with run.compute.autocast():
            yield tiling.encode(model.first_stage, to_pixels(images.to(run.compute.device)))


def _write(posteriors: Iterable[Posterior], directory: Path, footprint: Footprint) -> Iterator[Posterior]:
    """Write ``posteriors`` in files of some SHARD_BYTES, without std where all of it is zero; yield them as stored."""
    shard: list[Posterior] = []
    rows = number = 0
    for posterior in posteriors:
        stored = _stored(posterior, footprint.dtype)
        yield stored
        shard.append(stored)
        rows += len(stored.mean)
        if rows * footprint.row_bytes >= SHARD_BYTES:
            _write_shard(shard, directory, number)
            shard, rows, number = [], 0, number + 1
    if shard:
        _write_shard(shard, directory, number)


def _write_shard(shard: Sequence[Posterior], directory: Path, number: int) -> None:
    tensors = {"mean": torch.cat([posterior.mean for posterior in shard])}
    if any(posterior.std.any() for posterior in shard):
        tensors["std"] = torch.cat([posterior.std for posterior in shard])
    write_tensors(directory / f"posteriors-{number:05d}.safetensors", tensors)


def _stored(posterior: Posterior, dtype: torch.dtype) -> Posterior:
    """``posterior`` on the CPU as ``dtype``; ConfigError where a finite number of it would become infinite."""
    stored = Posterior(posterior.mean.to("cpu", dtype), posterior.std.to("cpu", dtype))
    for before, after in ((posterior.mean, stored.mean), (posterior.std, stored.std)):
        if after.isinf().any() and not before.isinf().any():
            raise ConfigError(
                f"latents.dtype={str(dtype).removeprefix('torch.')} cannot hold a latent of {before.abs().max():.3g}, "
                f"only up to {torch.finfo(dtype).max:.3g}; type latents.dtype=float32"
            )
    return stored


def _gib(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB"

"""The latent diffusion model: the parts, joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.conditioners import Conditioners
from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.diffusion.tiling import DEFAULT_TILING, Tiling
from ldmkit.errors import ConfigError, did_you_mean
from ldmkit.protocols import Denoiser, FirstStage, Guidance, Objective, OnStep, Sampler, unwatched
from ldmkit.specs import DataSpec
from ldmkit.values import Conditioning, Fields, Levels, to_device


@dataclass(frozen=True)
class X0Estimate:
    """A denoiser and an objective as one function to x0: what guidance and samplers see."""

    denoiser: Denoiser
    objective: Objective

    def prepare(self, conditioning: Conditioning) -> Any:
        """See :meth:`Denoiser.prepare`."""
        return self.denoiser.prepare(conditioning)

    def __call__(self, z: Tensor, level: Levels, prepared: Any) -> Tensor:
        raw = self.denoiser(z, level.beside(z).t, prepared)
        return self.objective.denoiser_to_x0(raw.to(z.dtype), z, level)


class LatentDiffusion(nn.Module):
    """First stage, conditioners and denoiser, with the objective, guidance and sampler that go with them.

    ``statistics`` is None until the latents of the first stage have been measured; latents are then used as they are.
    """

    def __init__(
        self,
        *,
        data: DataSpec,
        first_stage: FirstStage,
        conditioners: Conditioners,
        denoiser: Denoiser,
        objective: Objective,
        guidance: Guidance,
        sampler: Sampler,
        statistics: LatentStatistics | None = None,
    ) -> None:
        super().__init__()
        self.data = data
        self.first_stage, self.conditioners, self.denoiser = first_stage, conditioners, denoiser
        self.objective, self.guidance, self.sampler = objective, guidance, sampler
        self.statistics = statistics

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def latent_size(self, size: tuple[int, int] | None = None) -> tuple[int, int]:
        """(h, w) of the latent grid of an image of ``size`` (H, W) pixels, by default the size trained on."""
        height, width = size or (self.data.size, self.data.size)
        factor = self.first_stage.spec.factor
        if height % factor or width % factor:
            raise ConfigError(f"an image of {height}x{width} does not divide by the first stage's factor {factor}")
        return height // factor, width // factor

    @torch.no_grad()
    def encode(self, images: Tensor, tiling: Tiling | None = DEFAULT_TILING) -> Tensor:
        """Pixels in [-1, 1] (B, C, H, W) => z0 (B, c, h, w), the posterior's mode, of about unit variance.

        Images larger than a tile pass through the first stage in pieces, as ``tiling`` says; None: all of them at once.
        """
        images = images.to(self.device)
        posterior = tiling.encode(self.first_stage, images) if tiling else self.first_stage.encode(images)
        latents = posterior.mode()
        return self.statistics.normalise(latents) if self.statistics else latents

    @torch.no_grad()
    def decode(self, z0: Tensor, tiling: Tiling | None = DEFAULT_TILING) -> Tensor:
        """z0 (B, c, h, w) => pixels in [-1, 1] (B, C, H, W), clipped; ``tiling`` as in :meth:`encode`."""
        latents = (self.statistics.undo(z0) if self.statistics else z0).to(self.device)
        pixels = tiling.decode(self.first_stage, latents) if tiling else self.first_stage.decode(latents)
        return pixels.clamp(-1, 1)

    def loss(self, z0: Tensor, fields: Fields, random: RowRandom) -> Tensor:
        """The objective's loss of each row, with conditioning dropout: (B,)."""
        latent_size = (z0.shape[2], z0.shape[3])
        conditioning = self.conditioners.with_dropout(fields, latent_size, random).to(z0.device)
        return self.objective.loss(self.denoiser, z0, conditioning, random)

    @torch.no_grad()
    def sample(
        self,
        fields: Fields | None = None,
        *,
        count: int | None = None,
        steps: int | None = None,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        size: tuple[int, int] | None = None,
        batch_size: int = 64,
        tiling: Tiling | None = DEFAULT_TILING,
        on_step: OnStep = unwatched,
    ) -> Tensor:
        """Draw pictures: float pixels in [-1, 1], (B, C, H, W).

        ``fields`` maps each field to B values, for example ``{"caption": ["a small red circle"]}``; without fields,
        ``count`` says how many. ``steps`` defaults to the sampler's own. Picture i is drawn with seed ``seed`` + i (or
        ``seeds[i]``), and is the same picture alone or in any batch. ``size`` (H, W) defaults to the trained one;
        ``tiling`` is that of :meth:`decode`. ``on_step`` is told of each step of each batch, as in
        :meth:`Sampler.sample`.

        Raises ConfigError when a field is missing, unknown or one value instead of B, lengths differ, or a number of
        steps or pictures makes no sense.
        """
        fields = dict(fields or {})
        _check_fields(fields, self.conditioners.needs)
        for name, value, least in (("steps", steps, 1), ("batch_size", batch_size, 1), ("count", count, 0)):
            if value is not None and value < least:
                raise ConfigError(f"{name} must be {least} or more, got {value}")
        steps = self.sampler.steps if steps is None else steps
        total = _rows(fields, count, seeds)
        seeds = list(seeds) if seeds is not None else [seed + index for index in range(total)]
        pictures = []
        for start in range(0, total, batch_size):
            rows = slice(start, min(start + batch_size, total))
            part = {name: value[rows] for name, value in fields.items()}
            pictures.append(
                self._sample(
                    part,
                    seeds[rows],
                    steps=steps,
                    latent_size=self.latent_size(size),
                    tiling=tiling,
                    on_step=on_step,
                )
            )
        return torch.cat(pictures) if pictures else torch.empty(0, self.data.channels, *(size or (self.data.size,) * 2))

    def _sample(
        self,
        fields: Fields,
        seeds: Sequence[int],
        *,
        steps: int,
        latent_size: tuple[int, int],
        tiling: Tiling | None,
        on_step: OnStep,
    ) -> Tensor:
        with _evaluating(self):
            random = RowRandom([(seed, "sample") for seed in seeds])
            conditioning = self.conditioners(to_device(fields, self.device), latent_size).to(self.device)
            null = self.conditioners.null(len(seeds), latent_size).to(self.device)
            denoise = self.guidance.guide(X0Estimate(self.denoiser, self.objective), conditioning, null)
            noise = random.normal("noise", (self.first_stage.spec.channels, *latent_size), device=self.device)
            levels = self.objective.levels(steps, self.sampler.spacing).to("cpu")
            z0 = self.sampler.sample(denoise, levels.scale[0] * noise, levels, random, on_step)
            return self.decode(z0, tiling)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards each module has its own mode again, also behind an exception."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _check_fields(fields: Fields, needs: Mapping[str, str]) -> None:
    for name, value in fields.items():
        if name not in needs:
            raise ConfigError(f"this model has no field '{name}'{did_you_mean(name, needs)}")
        if isinstance(value, str | int | float) or (isinstance(value, Tensor) and value.ndim == 0):
            raise ConfigError(
                f"the field '{name}' is one value; give a list, with a value for each picture: [{value!r}]"
            )


def _rows(fields: Fields, count: int | None, seeds: Sequence[int] | None) -> int:
    lengths = {name: len(value) for name, value in fields.items()}
    if count is not None:
        lengths["count"] = count
    if seeds is not None:
        lengths["seeds"] = len(seeds)
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"the fields have different lengths: {', '.join(f'{k} {v}' for k, v in lengths.items())}")
    return next(iter(lengths.values()), 1)

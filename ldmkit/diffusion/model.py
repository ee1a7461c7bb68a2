"""The latent diffusion model: the parts, joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.conditioners import Conditioners
from ldmkit.diffusion.editing import Original, invert
from ldmkit.diffusion.estimate import WithVariance, X0Estimate
from ldmkit.diffusion.given import check_fields, picture_size, rows_of, specs_of
from ldmkit.diffusion.latent_space import LatentSpace
from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.diffusion.tiling import DEFAULT_TILING, Tiling
from ldmkit.diffusion.windows import Windows
from ldmkit.errors import ConfigError
from ldmkit.protocols import ConditionalDenoise, Denoiser, Guidance, Objective, OnStep, Sampler, unwatched
from ldmkit.specs import DataSpec
from ldmkit.values import Fields, to_device


class LatentDiffusion(nn.Module):
    """First stage, conditioners and denoiser, with the objective, guidance and sampler that go with them.

    ``latents`` is the space that the denoiser works in, which the first stage makes. ``weaker`` is a second model of
    the same latents, where the guidance names one.
    """

    def __init__(
        self,
        *,
        data: DataSpec,
        latents: LatentSpace,
        conditioners: Conditioners,
        denoiser: Denoiser,
        objective: Objective,
        guidance: Guidance,
        sampler: Sampler,
    ) -> None:
        super().__init__()
        self.data = data
        self.latents = latents
        self.first_stage, self.conditioners, self.denoiser = latents.first_stage, conditioners, denoiser
        self.objective, self.guidance, self.sampler = objective, guidance, sampler
        self.weaker: LatentDiffusion | None = None

    @property
    def statistics(self) -> LatentStatistics | None:
        """Those of the latent space."""
        return self.latents.statistics

    @statistics.setter
    def statistics(self, statistics: LatentStatistics | None) -> None:
        self.latents.statistics = statistics

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def latent_size(self, size: tuple[int, int] | None = None) -> tuple[int, int]:
        """(h, w) of the latent grid of an image of ``size`` (H, W) pixels, by default the size trained on."""
        height, width = size or (self.data.size, self.data.size)
        if min(height, width) < 1:
            raise ConfigError(f"an image of {height}x{width} has no pixels")
        self._check_multiple("an image", height, width)
        factor = self.first_stage.spec.factor
        return height // factor, width // factor

    def _check_multiple(self, what: str, *sides: int) -> None:
        """Raise ConfigError where ``sides``, in pixels, are not what first stage and denoiser can take."""
        factor, more = self.first_stage.spec.factor, self.denoiser.multiple
        unit = factor * more
        if any(side % unit for side in sides):
            got, near = ("x".join(map(str, each)) for each in (sides, [max(1, round(s / unit)) * unit for s in sides]))
            raise ConfigError(
                f"{what} of {got} pixels cannot be: sides must be multiples of {unit} "
                f"(factor {factor} of the first stage, times {more} of the denoiser); the nearest that can is {near}"
            )

    def check_weaker(self) -> None:
        """Raise ConfigError where the weaker model was trained on other latents; statistics name their first stage."""
        if self.weaker is None:
            return
        own, other = (each.statistics.as_json() if each.statistics else None for each in (self, self.weaker))
        if own != other:
            raise ConfigError(
                f"the weaker model '{self.guidance.weaker}' was trained on other latents; name a run that has the "
                "first stage of this one: the same data, seed, model, loss, latents and train.first_stage"
            )

    def encode(self, images: Tensor, tiling: Tiling | None = DEFAULT_TILING) -> Tensor:
        """Pixels in [-1, 1] (B, C, H, W) => z0 (B, c, h, w); see :meth:`LatentSpace.encode`."""
        return self.latents.encode(images.to(self.device), tiling)

    def decode(self, z0: Tensor, tiling: Tiling | None = DEFAULT_TILING) -> Tensor:
        """z0 (B, c, h, w) => pixels in [-1, 1] (B, C, H, W), clipped; see :meth:`LatentSpace.decode`."""
        return self.latents.decode(z0.to(self.device), tiling)

    def observe(self, images: Tensor, seed: int = 0) -> dict[str, Any]:
        """What the conditioners make out of held-out pictures, uint8 (B, C, H, W); picture i with ``seed`` + i."""
        with _evaluating(self):
            return self.conditioners.observe(images, RowRandom([(seed + i, "observe") for i in range(len(images))]))

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
        negative: Fields | None = None,
        count: int | None = None,
        steps: int | None = None,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        size: tuple[int, int] | None = None,
        batch_size: int = 64,
        tiling: Tiling | None = DEFAULT_TILING,
        window: int | None = None,
        paste: bool = True,
        on_step: OnStep = unwatched,
        original: Original | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Draw pictures: float pixels in [-1, 1], (B, C, H, W).

        ``fields`` maps each field to B values, for example ``{"caption": ["a small red circle"]}``; without fields,
        ``count`` says how many. ``negative`` are fields that say what is not wanted: the conditioners that read them
        are told these where guidance would tell them nothing. ``steps`` defaults to the sampler's own. Picture i is
        drawn with seed ``seed`` + i (or ``seeds[i]``), and is the same picture alone or in any batch. ``size`` (H, W)
        defaults to that of a picture among the fields, then to the trained one; ``tiling`` is that of :meth:`decode`.
        ``window`` is the side in pixels of the :class:`Windows` that the denoiser sees of a larger picture, None: all
        of it. Without ``paste``, pixels that a field gives exactly are left as decoded. ``on_step`` is told of each
        step of each batch, as in :meth:`Sampler.sample`. ``original`` are pictures to begin with; ``noise`` of unit
        variance, B times what :meth:`invert` gives, is in place of the seeds'.

        Raises ConfigError when a field is missing, unknown, of the wrong form or one value instead of B, lengths or
        sizes differ, or a number of steps or pictures makes no sense.
        """
        fields, negative = dict(fields or {}), dict(negative or {})
        specs = specs_of(self.conditioners, self.data)
        for each in (fields, negative):
            check_fields(each, specs, self.data.channels)
        self.check_weaker()
        least_of = (("steps", steps, 1), ("batch_size", batch_size, 1), ("count", count, 0), ("window", window, 1))
        for name, value, least in least_of:
            if value is not None and value < least:
                raise ConfigError(f"{name} must be {least} or more, got {value}")
        steps = self.sampler.steps if steps is None else steps
        size = picture_size(fields, specs, size)
        if original is not None:
            size = original.fitting(size)
        latent_size, windows = self.latent_size(size), self._windows(window)
        begun = {"original pictures": original, "noise": noise}
        total = rows_of({**fields, **{n: v for n, v in begun.items() if v is not None}}, count, seeds, negative)
        seeds = list(seeds) if seeds is not None else [seed + index for index in range(total)]
        pictures = []
        with _evaluating(self):
            for start in range(0, total, batch_size):
                rows = slice(start, min(start + batch_size, total))
                part, unwanted = ({name: value[rows] for name, value in each.items()} for each in (fields, negative))
                estimate = self._estimate(part, unwanted, len(seeds[rows]), latent_size)
                begin = None if original is None else original[rows]
                drawn = self._noise(seeds[rows], latent_size) if noise is None else noise[rows].to(self.device)
                z0 = self._sample(estimate, windows, seeds[rows], drawn, begin, steps=steps, on_step=on_step)
                decoded = self.decode(z0, tiling) if begin is None else begin.paste(self.decode(z0, tiling))
                pictures.append(self.conditioners.paste(decoded, to_device(part, decoded.device)) if paste else decoded)
        return torch.cat(pictures) if pictures else torch.empty(0, self.data.channels, *(size or (self.data.size,) * 2))

    def _windows(self, window: int | None) -> Windows | None:
        if window is None:
            return None
        self._check_multiple("a window", window)
        return Windows(window // self.first_stage.spec.factor)

    @torch.no_grad()
    def invert(self, images: Tensor, fields: Fields | None = None, *, steps: int = 100) -> Tensor:
        """The noise (B, c, h, w) from which ``images``, pixels in [-1, 1] (B, C, H, W), are sampled again.

        By DDIM inversion in ``steps`` steps, of the conditional estimate: with another guidance than ``none``, sampling
        from it gives another picture of the same make.
        """
        with _evaluating(self):
            z0 = self.encode(images)
            estimate = self._estimate(dict(fields or {}), {}, len(images), (z0.shape[2], z0.shape[3]))
            prepared = estimate.prepare(estimate.told(estimate.conditioners))
            levels = self.objective.levels(steps).to("cpu")
            return invert(lambda z, level: estimate(z, level, prepared), z0, levels) / levels.scale[0]

    def _noise(self, seeds: Sequence[int], latent_size: tuple[int, int]) -> Tensor:
        random = RowRandom([(seed, "sample") for seed in seeds])
        return random.normal("noise", (self.first_stage.spec.channels, *latent_size), device=self.device)

    def _sample(
        self,
        estimate: X0Estimate,
        windows: Windows | None,
        seeds: Sequence[int],
        noise: Tensor,
        original: Original | None,
        *,
        steps: int,
        on_step: OnStep,
    ) -> Tensor:
        def seen(estimate: X0Estimate) -> ConditionalDenoise:
            return estimate if windows is None else windows.over(estimate, (noise.shape[2], noise.shape[3]))

        shown = seen(estimate)
        denoise = self.guidance.guide(shown, shown.told(shown.conditioners), shown.told(()))
        levels = self.objective.levels(steps, self.sampler.spacing).to("cpu")
        z = levels.scale[0] * noise
        if original is not None:
            known, levels = self.encode(original.images), original.left(levels)
            denoise = original.kept(denoise, known, noise)
            z = levels.alpha[0] * known + levels.sigma[0] * noise
        if self.sampler.learned_variance:
            denoise = WithVariance(denoise, seen(replace(estimate, of_variance=True)))
        random = RowRandom([(seed, "sample") for seed in seeds])
        return self.sampler.sample(denoise, z, levels, random, on_step)

    def _estimate(self, fields: Fields, negative: Fields, batch: int, latent_size: tuple[int, int]) -> X0Estimate:
        """The x0-estimate for ``batch`` rows; fields that no conditioner reads are left out."""
        needs, device, weaker = self.conditioners.needs, self.device, self.weaker
        asked, unwanted = (
            to_device({name: value for name, value in each.items() if name in needs}, device)
            for each in (fields, negative)
        )
        told = self.conditioners.told(asked, batch, latent_size, unwanted)
        return X0Estimate(
            self.denoiser,
            self.objective,
            [name for name, _ in self.conditioners.items()],
            lambda names: told(names).to(device),
            None if weaker is None else lambda: weaker._estimate(fields, negative, batch, latent_size),
        )


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

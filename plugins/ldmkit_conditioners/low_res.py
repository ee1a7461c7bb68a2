"""Condition on the same picture at a lower resolution: super-resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.latent_space import LatentSpace
from ldmkit.errors import ConfigError
from ldmkit.protocols import Conditioner
from ldmkit.registry.ranges import at_least, below_one, between
from ldmkit.specs import CondSpec, DataSpec, FieldSpec
from ldmkit.values import Conditioning, Fields, to_pixels, to_uint8
from ldmkit_conditioners.fourier import fourier_features

FREQUENCIES = 2.0 ** torch.arange(-2, 6)
"""At which the level of noise is told, in cycles per unit."""


class LowRes(Conditioner):
    """The low-resolution picture as it is, beside the noisy latent (Rombach et al. 2022, section 4.4).

    It is concatenated at latent size: unchanged where sizes agree, as the paper's 64 x 64 on a first stage of factor 4;
    a larger one has its pixels folded into channels, so that none is lost, a smaller one is enlarged bicubically.

    With ``noise``, Gaussian noise is added to it while training, sqrt(1 - s^2) y + s eps, s uniform in 0..``noise``,
    and s is told as a vector: sampling then bears low-resolution pictures of another origin (Ho et al. 2022, "Cascaded
    diffusion models", section 4; Saharia et al. 2022, SR3). The null conditioning is zeros: of the map a grey picture,
    of the vector no level of noise at all.
    """

    in_latents: ClassVar[bool] = True
    sampling_only: ClassVar[frozenset[str]] = frozenset({"sampling_noise"})

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``cond=low-res``."""

        name: str
        field: str
        dropout: float
        factor: int
        noise: float
        sampling_noise: float
        width: int

        def __post_init__(self) -> None:
            between(0, 1, dropout=self.dropout)
            at_least(2, factor=self.factor)
            below_one(noise=self.noise)
            between(0, self.noise, sampling_noise=self.sampling_noise)
            at_least(1, width=self.width)

    def __init__(self, config: Config, *, data: DataSpec, latents: LatentSpace) -> None:
        super().__init__()
        _check_sizes(config.name, config.factor, data.size, latents.spec.factor)
        self.config, self.dropout = config, config.dropout
        self.needs = {config.field: "image"}
        self.observed = {config.field: FieldSpec("image", factor=config.factor)}
        self.fold = max(latents.spec.factor // config.factor, 1)
        self.spec = CondSpec(map=data.channels * self.fold**2, vector=config.width if config.noise else 0)
        self.to_vector = nn.Linear(2 * len(FREQUENCIES), config.width) if config.noise else None

    def observe(self, images: Tensor, random: RowRandom) -> Fields:
        """Smaller views, uint8; in training mode noisy pixels instead, beside their level ``<field> noise`` (B,)."""
        field, low = self.config.field, shrink(images, self.config.factor)
        if not (self.training and self.config.noise):
            return {field: low}
        level = self.config.noise * random.uniform(f"{field} noise level", device=low.device)
        noise = random.normal(f"{field} noise", low.shape[1:], device=low.device)
        return {field: _noisy(to_pixels(low), noise, level), f"{field} noise": level}

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        low, level = self._with_level(fields)
        height, width = (side * self.fold for side in latent_size)
        if low.shape[2:] != (height, width):
            low = F.interpolate(low, size=(height, width), mode="bicubic", antialias=True)
        folded = rearrange(low, "b c (h y) (w x) -> b (c y x) h w", y=self.fold, x=self.fold)
        vector = None if self.to_vector is None else self.to_vector(fourier_features(level, FREQUENCIES))
        return Conditioning(map=folded, vector=vector)

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        vector = None if self.to_vector is None else self.to_vector.weight.new_zeros(batch, self.spec.vector)
        device = None if vector is None else vector.device
        return Conditioning(map=torch.zeros(batch, self.spec.map, *latent_size, device=device), vector=vector)

    def _with_level(self, fields: Fields) -> tuple[Tensor, Tensor]:
        """Pixels (B, C, H, W) and the level of the noise in them (B,): training's own, or that of sampling."""
        given: Any = fields[self.config.field]
        low = to_pixels(given) if given.dtype == torch.uint8 else given
        if f"{self.config.field} noise" in fields:
            return low, fields[f"{self.config.field} noise"]
        level = torch.full((len(low),), self.config.sampling_noise, device=low.device)
        if self.config.sampling_noise:
            # One noise for all pictures: each then has noise of the right law, and is the same alone and in a batch.
            same = RowRandom([("low-res", "sampling")]).normal("noise", low.shape[1:], device=low.device)
            low = _noisy(low, same, level)
        return low, level


def shrink(images: Tensor, factor: int) -> Tensor:
    """uint8 (B, C, H, W) => uint8 (B, C, H/``factor``, W/``factor``), bicubic with antialiasing."""
    size = (images.shape[2] // factor, images.shape[3] // factor)
    return to_uint8(F.interpolate(to_pixels(images), size=size, mode="bicubic", antialias=True))


def _noisy(pixels: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    level = level.view(-1, 1, 1, 1)
    return (1 - level.square()).sqrt() * pixels + level * noise


def _check_sizes(cond: str, factor: int, size: int, latent_factor: int) -> None:
    if size % factor:
        raise ConfigError(f"pictures of {size} pixels do not divide by cond.{cond}.factor={factor}")
    if latent_factor > factor and latent_factor % factor:
        raise ConfigError(
            f"cond.{cond}.factor={factor} does not divide the first stage's factor {latent_factor}, "
            "so that its pixels cannot be folded into latents; choose a power of two"
        )

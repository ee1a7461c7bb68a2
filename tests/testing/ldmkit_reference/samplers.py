"""A sampler with fresh noise, and a guidance that goes half of the way."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import ConditionalDenoise, Denoise, Guidance, OnStep, Sampler, unwatched
from ldmkit.values import Conditioning, Levels


class Ancestral(Sampler):
    """At each step: estimate x0, take ``fresh`` of the noise that a step may take anew, the rest from the estimate."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        steps: int
        fresh: float

    def __init__(self, config: Config) -> None:
        self.steps, self.fresh = config.steps, config.fresh

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        noise = levels.sigma / levels.alpha
        for step in range(len(levels) - 1):
            x0 = denoise(z, levels[step])
            on_step(step, levels[step], z, x0)
            eps = (z - levels.alpha[step] * x0) / levels.sigma[step]
            share = self.fresh * (1 - (noise[step + 1] / noise[step]).square()).sqrt()
            fresh = random.normal(f"fresh {step}", z.shape[1:], device=z.device, dtype=z.dtype)
            eps = (1 - share.square()).sqrt() * eps + share * fresh
            z = levels.alpha[step + 1] * x0 + levels.sigma[step + 1] * eps
        return z


class Halfway(Guidance):
    """The null estimate, and ``scale`` times the way from there to the conditional one, by two calls."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        scale: float

    def __init__(self, config: Config) -> None:
        self.scale = config.scale

    def guide(self, denoise: ConditionalDenoise, conditioning: Conditioning, null: Conditioning) -> Denoise:
        asked, nothing = denoise.prepare(conditioning), denoise.prepare(null)

        def guided(z: Tensor, level: Levels) -> Tensor:
            x0 = denoise(z, level, nothing)
            return x0 + self.scale * (denoise(z, level, asked) - x0)

        return guided

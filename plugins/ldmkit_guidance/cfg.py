"""Classifier-free guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.protocols import ConditionalDenoise, Denoise, Guidance
from ldmkit.registry.ranges import finite
from ldmkit.values import Conditioning, Levels


class CFG(Guidance):
    """Ho and Salimans 2022, "Classifier-free diffusion guidance", eq. 6, with ``scale`` = 1 + w.

    x0 = x0_null + scale (x0_cond - x0_null): 1 is the conditional estimate, at the cost of one; 0 the null one. The
    same weights on eps or v give the same z_t, all being linear in x0.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``guidance=cfg``."""

        name: str
        scale: float

        def __post_init__(self) -> None:
            finite(scale=self.scale)

    def __init__(self, config: Config) -> None:
        self.scale = config.scale

    def guide(self, denoise: ConditionalDenoise, conditioning: Conditioning, null: Conditioning) -> Denoise:
        says_nothing = conditioning.tokens is None and conditioning.vector is None and conditioning.map is None
        if self.scale == 1 or says_nothing:
            prepared = denoise.prepare(conditioning)
            return lambda z, level: denoise(z, level, prepared)
        prepared = denoise.prepare(Conditioning.batch([null, conditioning]))

        def guided(z: Tensor, level: Levels) -> Tensor:
            x0_null, x0_cond = denoise(torch.cat([z, z]), level, prepared).chunk(2)
            return x0_null + self.scale * (x0_cond - x0_null)

        return guided

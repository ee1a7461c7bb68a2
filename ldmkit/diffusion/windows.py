"""Sampling beyond the size trained on: the denoiser sees a large latent grid window by window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ldmkit.diffusion.tiling import Span, spans
from ldmkit.protocols import ConditionalDenoise
from ldmkit.values import Conditioning, Levels


@dataclass(frozen=True)
class Windows:
    """Windows of ``side`` x ``side`` latents, of which neighbours share half: x0 is the mean of their estimates.

    Bar-Tal et al. 2023, "MultiDiffusion", equation 5: of all x0 this one is nearest to what every window asks for.
    The weights fall off towards a window's edge as a raised cosine, so that no seam shows. The denoiser needs memory
    for one window at a time, and its attention sees as many latents as in training, if ``side`` is the side trained on;
    what lies further apart than a window agrees only through the windows between.
    """

    side: int

    def over(self, estimate: ConditionalDenoise, latent_size: tuple[int, int]) -> ConditionalDenoise:
        """``estimate`` as one of a grid of (h, w) latents; itself where one window holds the grid."""
        if max(latent_size) <= self.side:
            return estimate
        down, across = (
            spans(length, self.side, self.side // 2, exact=False, inputs=1, outputs=1) for length in latent_size
        )
        return _Windowed(estimate, [*product(down, across)])


@dataclass(frozen=True)
class _Windowed:
    estimate: ConditionalDenoise
    windows: list[tuple[Span, Span]]

    def prepare(self, conditioning: Conditioning) -> Any:
        """What the estimate prepares, for each window; once for all of them where there is no map."""
        if conditioning.map is None:
            return [self.estimate.prepare(conditioning)] * len(self.windows)
        return [
            self.estimate.prepare(replace(conditioning, map=conditioning.map[..., y.source, x.source]))
            for y, x in self.windows
        ]

    def __call__(self, z: Tensor, level: Levels, prepared: Any) -> Tensor:
        x0 = torch.zeros_like(z)
        for (y, x), part in zip(self.windows, prepared, strict=True):
            seen = self.estimate(z[..., y.source, x.source], level, part)
            weight = (y.weight[:, None] * x.weight).to(z)
            x0[..., y.target, x.target] += seen[..., y.kept, x.kept] * weight
        return x0

"""What goes with every guidance: where it acts, and what is done to its estimate afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.protocols import Denoise
from ldmkit.registry.ranges import above, at_least, between
from ldmkit.values import Levels

Guided = Callable[[Tensor, Levels], tuple[Tensor, Tensor]]
"""(z, level) => the guided x0-estimate and the conditional one."""


@dataclass(frozen=True, kw_only=True)
class Adjustments:
    """Keys that every guidance has. Each can be turned off, and they act in the order in which they stand here."""

    name: str
    interval: tuple[float, float] | None
    rescale: float
    threshold: float | None
    threshold_floor: float

    def __post_init__(self) -> None:
        between(0, 1, rescale=self.rescale, threshold=self.threshold)
        above(0, threshold_floor=self.threshold_floor)
        if self.interval is not None:
            low, high = self.interval
            at_least(0, interval=low)
            if high <= low:
                raise ValueError(f"interval is {list(self.interval)} but must go from a lower to a higher noise level")


def adjusted(keys: Adjustments, guided: Guided, conditional: Callable[[], Denoise]) -> Denoise:
    """``guided`` with the adjustments of ``keys``; ``conditional()`` prepares the estimate for outside the interval."""
    outside = None if keys.interval is None else conditional()

    def denoise(z: Tensor, level: Levels) -> Tensor:
        if keys.interval is not None and outside is not None and not within(keys.interval, level):
            x0 = outside(z, level)
        else:
            x0, x0_cond = guided(z, level)
            x0 = rescaled(x0, x0_cond, keys.rescale) if keys.rescale else x0
        return x0 if keys.threshold is None else thresholded(x0, keys.threshold, keys.threshold_floor)

    return denoise


def within(interval: tuple[float, float], level: Levels) -> bool:
    """Whether low < sigma / alpha <= high; at alpha = 0 the noise level is infinite.

    Kynkaanniemi et al. 2024, "Applying guidance in a limited interval improves sample and distribution quality".
    """
    low, high = interval
    return low < float(level.sigma / level.alpha) <= high


def rescaled(x0: Tensor, x0_cond: Tensor, share: float) -> Tensor:
    """Give ``x0`` a ``share`` of the way the standard deviation, over each picture, of ``x0_cond``.

    Lin et al. 2024, "Common diffusion noise schedules and sample steps are flawed", section 3.4, on x0.
    """
    spread, spread_cond = (
        (rows - rows.mean(1, keepdim=True)).norm(dim=1) for rows in (x0.flatten(1), x0_cond.flatten(1))
    )
    ratio = (spread_cond / spread.clamp_min(torch.finfo(x0.dtype).tiny))[:, None, None, None]
    return share * (x0 * ratio) + (1 - share) * x0


def thresholded(x0: Tensor, share: float, floor: float) -> Tensor:
    """Clip each picture at the absolute value that a ``share`` of its elements stay below; bring that to ``floor``.

    Saharia et al. 2022, "Photorealistic text-to-image diffusion models with deep language understanding", dynamic
    thresholding, where the floor is 1, the largest value of a pixel. Latents of unit variance have no largest value:
    ``floor`` is in their standard deviations, and pictures that stay below it are left as they are.
    """
    sizes = x0.flatten(1).abs()
    rank = max(1, math.ceil(share * sizes.shape[1]))
    bound = sizes.kthvalue(rank, dim=1).values.clamp_min(floor).view(-1, 1, 1, 1)
    return x0.clamp(-bound, bound) * (floor / bound)

"""CFG-Zero*."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.protocols import ConditionalDenoise, Denoise, Guidance
from ldmkit.registry.ranges import between, finite
from ldmkit.values import Conditioning, Levels
from ldmkit_guidance.adjustments import Adjustments, adjusted
from ldmkit_guidance.estimates import estimate, estimates, says_nothing


class CFGZeroStar(Guidance):
    """Fan et al. 2025, "CFG-Zero*: improved classifier-free guidance for flow matching models".

    With v the velocity of the straight flow from data to noise,

        v = s v_null + scale (v_cond - s v_null),   s = <v_cond, v_null> / |v_null|^2   of each picture,

    and v = 0 on the first part ``zero_init`` of the way from pure noise. Levels of any kind have such a velocity: with
    t = sigma / (alpha + sigma), z / (alpha + sigma) = (1 - t) z0 + t eps lies on the flow.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Adjustments):
        """Keys of ``guidance=cfg-zero-star``."""

        scale: float
        zero_init: float
        batched: bool

        def __post_init__(self) -> None:
            super().__post_init__()
            finite(scale=self.scale)
            between(0, 1, zero_init=self.zero_init)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.nulls = () if config.scale == 1 else None

    def guide(self, denoise: ConditionalDenoise, conditioning: Conditioning, null: Conditioning) -> Denoise:
        if says_nothing(conditioning):
            null = conditioning
        ask = estimates(denoise, [null, conditioning], self.config.batched)

        def guided(z: Tensor, level: Levels) -> tuple[Tensor, Tensor]:
            on_flow, t = z / (level.alpha + level.sigma), level.sigma / (level.alpha + level.sigma)
            x0_null, x0_cond = ask(z, level)
            if t > 1 - self.config.zero_init:
                return on_flow, x0_cond
            v_null, v_cond = (on_flow - x0_null) / t, (on_flow - x0_cond) / t
            v_null = projection(v_cond, v_null) * v_null
            return on_flow - t * (v_null + self.config.scale * (v_cond - v_null)), x0_cond

        return adjusted(self.config, guided, lambda: estimate(denoise, conditioning))


def projection(v: Tensor, onto: Tensor) -> Tensor:
    """<v, onto> / |onto|^2 of each picture: (B, 1, 1, 1)."""
    v, onto = v.flatten(1), onto.flatten(1)
    share = (v * onto).sum(1) / onto.square().sum(1).clamp_min(torch.finfo(v.dtype).tiny)
    return share.view(-1, 1, 1, 1)

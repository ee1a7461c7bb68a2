"""Autoguidance: a weaker model shows where to go away from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ldmkit.protocols import ConditionalDenoise, Denoise, Guidance
from ldmkit.registry.ranges import finite
from ldmkit.values import Conditioning, Levels
from ldmkit_guidance.adjustments import Adjustments, adjusted
from ldmkit_guidance.estimates import estimate


class Autoguidance(Guidance):
    """Karras et al. 2024, "Guiding a diffusion model with a bad version of itself".

    x0 = x0_weak + scale (x0_cond - x0_weak), where the weaker model, smaller or trained for fewer steps, is told the
    same. The null conditioning is never looked at.
    """

    nulls = ()

    @dataclass(frozen=True, kw_only=True)
    class Config(Adjustments):
        """Keys of ``guidance=autoguidance``."""

        scale: float
        run: str

        def __post_init__(self) -> None:
            super().__post_init__()
            finite(scale=self.scale)

    def __init__(self, config: Config) -> None:
        self.config, self.weaker = config, config.run

    def guide(self, denoise: ConditionalDenoise, conditioning: Conditioning, null: Conditioning) -> Denoise:
        weaker = denoise.weaker()
        strong = estimate(denoise, conditioning)
        weak = estimate(weaker, weaker.told(weaker.conditioners))

        def guided(z: Tensor, level: Levels) -> tuple[Tensor, Tensor]:
            x0_cond, x0_weak = strong(z, level), weak(z, level)
            return x0_weak + self.config.scale * (x0_cond - x0_weak), x0_cond

        return adjusted(self.config, guided, lambda: strong)

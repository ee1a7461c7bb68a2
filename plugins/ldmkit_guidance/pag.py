"""Perturbed-attention guidance."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ldmkit.protocols import ConditionalDenoise, Denoise, Guidance, Perturbation
from ldmkit.registry.ranges import finite
from ldmkit.values import Conditioning, Levels
from ldmkit_guidance.adjustments import Adjustments, adjusted
from ldmkit_guidance.estimates import estimate, estimates, says_nothing


class PAG(Guidance):
    """Ahn et al. 2024, "Self-rectifying diffusion sampling with perturbed-attention guidance".

    x0 = x0_cond + (cfg_scale - 1) (x0_cond - x0_null) + scale (x0_cond - x0_perturbed), x0_perturbed being what the
    network says when its self-attention, ``where`` it is told to, is the identity. It works without conditioners too. A
    ``cfg_scale`` of 1 leaves classifier-free guidance, and its evaluation, out.
    """

    perturbs = True

    @dataclass(frozen=True, kw_only=True)
    class Config(Adjustments):
        """Keys of ``guidance=pag``."""

        scale: float
        cfg_scale: float
        where: Perturbation

        def __post_init__(self) -> None:
            super().__post_init__()
            finite(scale=self.scale, cfg_scale=self.cfg_scale)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.nulls = () if config.cfg_scale == 1 else None

    def guide(self, denoise: ConditionalDenoise, conditioning: Conditioning, null: Conditioning) -> Denoise:
        by_cfg = self.config.cfg_scale != 1 and not says_nothing(conditioning)
        ask = estimates(denoise, [null, conditioning] if by_cfg else [conditioning], batched=True)
        perturbed = estimate(denoise.perturbed(self.config.where), conditioning)

        def guided(z: Tensor, level: Levels) -> tuple[Tensor, Tensor]:
            each = ask(z, level)
            x0_cond, x0_null = each[-1], each[0]  # the same one where there is no null estimate
            away = self.config.scale * (x0_cond - perturbed(z, level))
            return x0_cond + (self.config.cfg_scale - 1) * (x0_cond - x0_null) + away, x0_cond

        return adjusted(self.config, guided, lambda: estimate(denoise, conditioning))

"""Classifier-free guidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import dropwhile

from torch import Tensor

from ldmkit.protocols import ConditionalDenoise, Denoise, Guidance
from ldmkit.registry.ranges import finite
from ldmkit.values import Conditioning, Levels
from ldmkit_guidance.adjustments import Adjustments, adjusted
from ldmkit_guidance.estimates import estimate, estimates, says_nothing


class CFG(Guidance):
    """Ho and Salimans 2022, "Classifier-free diffusion guidance": the guided score, with ``scale`` = 1 + w.

    x0 = x0_null + scale (x0_cond - x0_null): 1 is the conditional estimate, at the cost of one; 0 the null one. The
    same weights on eps or v give the same z_t, all being linear in x0.

    A scale for each of n conditioners, in the order c_1 .. c_n of the keys, is the compositional rule in its nested
    form, that of Brooks et al. 2023, "InstructPix2Pix", for two conditions (Liu et al. 2022, "Compositional visual
    generation with composable diffusion models", tell each conditioner alone, which takes them to be independent):

        x0 = x0(null) + sum_i scale_i (x0(c_1 .. c_i) - x0(c_1 .. c_i-1))

    with one evaluation for each, and one more. Equal neighbours are one term, so that equal scales are one scale.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Adjustments):
        """Keys of ``guidance=cfg``."""

        scale: float | dict[str, float]
        batched: bool

        def __post_init__(self) -> None:
            super().__post_init__()
            by_name = self.scale if isinstance(self.scale, Mapping) else {"": self.scale}
            finite(**{f"scale.{name}".rstrip("."): scale for name, scale in by_name.items()})

    def __init__(self, config: Config) -> None:
        self.config = config
        self.conditioners = list(config.scale) if isinstance(config.scale, Mapping) else None
        if isinstance(config.scale, Mapping):  # leading scales of 1 tell all that they tell
            self.nulls = [name for name, _ in dropwhile(lambda item: item[1] == 1, config.scale.items())]
        else:
            self.nulls = () if config.scale == 1 else None

    def guide(self, denoise: ConditionalDenoise, conditioning: Conditioning, null: Conditioning) -> Denoise:
        steps = self.steps(denoise, conditioning)
        start = null
        if says_nothing(conditioning):
            start, steps = conditioning, []
        elif steps[0][0] == 1:  # the null estimate would fall out of the sum
            start, steps = steps[0][1], steps[1:]
        ask = estimates(denoise, [start, *(told for _, told in steps)], self.config.batched)

        def guided(z: Tensor, level: Levels) -> tuple[Tensor, Tensor]:
            each = ask(z, level)
            x0 = each[0]
            for (scale, _), before, after in zip(steps, each, each[1:], strict=False):
                x0 = x0 + scale * (after - before)
            return x0, each[-1]

        return adjusted(self.config, guided, lambda: estimate(denoise, conditioning))

    def steps(self, denoise: ConditionalDenoise, conditioning: Conditioning) -> list[tuple[float, Conditioning]]:
        """The scale of each term, and all that is told from that term on."""
        if not isinstance(self.config.scale, Mapping):
            return [(self.config.scale, conditioning)]
        names, scales = list(self.config.scale), list(self.config.scale.values())
        last = [index for index in range(len(scales)) if scales[index + 1 : index + 2] != [scales[index]]]
        return [(scales[index], denoise.told(names[: index + 1])) for index in last]

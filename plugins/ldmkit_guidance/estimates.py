"""x0-estimates of one denoiser under several conditionings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ldmkit.protocols import ConditionalDenoise, Denoise
from ldmkit.values import Conditioning, Levels


def estimate(denoise: ConditionalDenoise, conditioning: Conditioning) -> Denoise:
    """The x0-estimate under one conditioning, which is prepared now."""
    prepared = denoise.prepare(conditioning)
    return lambda z, level: denoise(z, level, prepared)


def estimates(
    denoise: ConditionalDenoise, conditionings: Sequence[Conditioning], batched: bool
) -> Callable[[Tensor, Levels], Sequence[Tensor]]:
    """The x0-estimates under each of ``conditionings``, which are prepared now.

    ``batched`` asks for all of them in one batch; otherwise they come one after the other, in the memory of one.
    """
    if not batched or len(conditionings) == 1:
        each = [estimate(denoise, conditioning) for conditioning in conditionings]
        return lambda z, level: [x0(z, level) for x0 in each]
    together, count = estimate(denoise, Conditioning.batch(conditionings)), len(conditionings)
    return lambda z, level: together(torch.cat([z] * count), level).chunk(count)


def says_nothing(conditioning: Conditioning) -> bool:
    """Whether it has no form at all, as that of a model without conditioners."""
    return conditioning.tokens is None and conditioning.vector is None and conditioning.map is None

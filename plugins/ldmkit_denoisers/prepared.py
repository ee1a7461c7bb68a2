"""What a UNet is told that stays the same over the steps of a sampling run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.protocols import Perturbation
from ldmkit.specs import CondSpec
from ldmkit.values import Conditioning
from ldmkit_denoisers.attention import KeysValues


@dataclass(frozen=True)
class Prepared:
    """Conditioning of B rows, as far as it can be computed without the noisy latents.

    ``keys_values`` has, for each spatial transformer, K and V of each of its blocks (None: attend to yourself);
    ``bias`` (B, 1, 1, M) is added to the scores of the tokens; ``vector`` (B, 4 * channels) is added to the embedded
    time; ``map`` (B, K, h, w) is concatenated to the input; ``perturbed`` says where self-attention is the identity.
    """

    keys_values: Sequence[Sequence[KeysValues | None]]
    bias: Tensor | None
    vector: Tensor | None
    map: Tensor | None
    perturbed: Perturbation | None = None


def check(conditioning: Conditioning, spec: CondSpec) -> None:
    """Raise ConfigError unless ``conditioning`` has exactly the forms and widths of ``spec``."""
    axes = {"tokens": 2, "vector": 1, "map": 1}
    for form, axis in axes.items():
        value, width = getattr(conditioning, form), getattr(spec, form)
        if value is None and width:
            raise ConfigError(f"denoiser 'unet' got no {form} but expected {form} of width {width}")
        if value is not None and not width:
            raise ConfigError(
                f"denoiser 'unet' got {form} {tuple(value.shape)} but expected none: it was built without"
            )
        if value is not None and (value.ndim <= axis or value.shape[axis] != width):
            raise ConfigError(f"denoiser 'unet' got {form} {tuple(value.shape)} but expected a width of {width}")
    tokens, mask = conditioning.tokens, conditioning.mask
    if tokens is not None and mask is not None and mask.shape != tokens.shape[:2]:
        raise ConfigError(
            f"denoiser 'unet' got a mask {tuple(mask.shape)} but expected {tuple(tokens.shape[:2])}, one for each token"
        )

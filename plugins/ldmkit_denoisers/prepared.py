"""What a denoiser is told that stays the same over the steps of a sampling run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.protocols import Perturbation
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.values import Conditioning
from ldmkit_denoisers.attention import MASKED, KeysValues


@dataclass(frozen=True)
class Prepared:
    """Conditioning of B rows for a UNet, as far as it can be computed without the noisy latents.

    ``keys_values`` has, for each spatial transformer, K and V of each of its blocks (None: attend to yourself);
    ``bias`` (B, 1, 1, M) is added to the scores of the tokens; ``vector`` (B, 4 * channels) is added to the embedded
    time; ``map`` (B, K, h, w) is concatenated to the input; ``perturbed`` says where self-attention is the identity.
    """

    keys_values: Sequence[Sequence[KeysValues | None]]
    bias: Tensor | None
    vector: Tensor | None
    map: Tensor | None
    perturbed: Perturbation | None = None


@dataclass(frozen=True)
class PreparedSequence:
    """Conditioning of B rows for a transformer of width D, as far as it can be computed without the noisy latents.

    ``tokens`` (B, M, D) stand in the sequence; ``keys_values`` has K and V for each block whose patches attend to
    tokens that do not. ``bias`` (B, 1, 1, M) is added to the scores of either. ``vector`` (B, D) is the embedded one,
    ``map`` (B, K, h, w) is concatenated to the input.
    """

    tokens: Tensor | None
    keys_values: Sequence[KeysValues]
    bias: Tensor | None
    vector: Tensor | None
    map: Tensor | None


def check(conditioning: Conditioning, spec: CondSpec, denoiser: str) -> None:
    """Raise ConfigError unless ``conditioning`` has exactly the forms and widths of ``spec``."""
    axes = {"tokens": 2, "vector": 1, "map": 1}
    for form, axis in axes.items():
        value, width = getattr(conditioning, form), getattr(spec, form)
        if value is None and width:
            raise ConfigError(f"denoiser '{denoiser}' got no {form} but expected {form} of width {width}")
        if value is not None and not width:
            raise ConfigError(
                f"denoiser '{denoiser}' got {form} {tuple(value.shape)} but expected none: it was built without"
            )
        if value is not None and (value.ndim <= axis or value.shape[axis] != width):
            raise ConfigError(f"denoiser '{denoiser}' got {form} {tuple(value.shape)} but expected a width of {width}")
    tokens, mask = conditioning.tokens, conditioning.mask
    if tokens is not None and mask is not None and mask.shape != tokens.shape[:2]:
        raise ConfigError(
            f"denoiser '{denoiser}' got a mask {tuple(mask.shape)} but expected {tuple(tokens.shape[:2])},"
            " one for each token"
        )


def silence_pads(conditioning: Conditioning) -> tuple[Tensor | None, Tensor | None]:
    """Tokens (B, M, D) with zeros in place of pads, and what to add to their scores, (B, 1, 1, M); None: nothing.

    Whatever pads hold, NaN included, is gone; behind the bias no attention gives them weight. In a row of nothing but
    pads all get the same weight, and where K and V are linear without a bias that comes to nothing.
    """
    tokens, mask = conditioning.tokens, conditioning.mask
    if tokens is None or mask is None:
        return tokens, None
    bias = torch.zeros_like(mask, dtype=tokens.dtype).masked_fill(~mask, MASKED)
    return tokens.masked_fill(~mask[:, :, None], 0), bias[:, None, None, :]


def with_map(z: Tensor, map: Tensor | None, *, latent: LatentSpec, multiple: int, denoiser: str, remedy: str) -> Tensor:
    """Concatenate ``map`` to noisy latents ``z``: (B, c + K, h, w), in the type of ``z``.

    Raises ConfigError, which ends in ``remedy``, when h or w is no multiple of ``multiple``, and when channels or sizes
    are not those that the denoiser was built for.
    """
    if z.shape[1] != latent.channels or z.shape[2] % multiple or z.shape[3] % multiple:
        raise ConfigError(
            f"denoiser '{denoiser}' got latents {tuple(z.shape)} but expected (B, {latent.channels}, h, w)"
            f" with h and w multiples of {multiple}; {remedy}"
        )
    if map is None:
        return z
    if map.shape[2:] != z.shape[2:]:
        raise ConfigError(
            f"denoiser '{denoiser}' got a map {tuple(map.shape)} but expected one of latent size {tuple(z.shape[2:])}"
        )
    return torch.cat([z, map.to(z.dtype)], dim=1)

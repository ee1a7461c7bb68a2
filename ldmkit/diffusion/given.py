"""The fields that somebody gives who samples: checked, before anything is computed with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ldmkit.diffusion.conditioners import Conditioners
from ldmkit.errors import ConfigError, did_you_mean
from ldmkit.specs import DataSpec, FieldSpec
from ldmkit.values import Fields


def specs_of(conditioners: Conditioners, data: DataSpec) -> dict[str, FieldSpec]:
    """What each field that the conditioners read is, whether the data offers it or they observe it."""
    known = {**data.fields, **conditioners.observed}
    return {name: known.get(name, FieldSpec(kind)) for name, kind in conditioners.needs.items()}


def check_fields(fields: Fields, specs: Mapping[str, FieldSpec], channels: int) -> None:
    """Raise ConfigError for a field that is unknown, one value instead of B, or no image or mask where it must be.

    ``channels`` are those of pictures.
    """
    for name, value in fields.items():
        if name not in specs:
            raise ConfigError(f"this model has no field '{name}'{did_you_mean(name, specs)}")
        if isinstance(value, str | int | float) or (isinstance(value, Tensor) and value.ndim == 0):
            raise ConfigError(
                f"the field '{name}' is one value; give a list, with a value for each picture: [{value!r}]"
            )
        wanted = {"image": f"a tensor uint8 (B, {channels}, H, W)", "mask": "a tensor bool (B, H, W)"}
        kind = specs[name].kind
        if kind in wanted and not _is_picture(value, kind, channels):
            got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"the field '{name}' must be {wanted[kind]}, got {got}")


def _is_picture(value: object, kind: str, channels: int) -> bool:
    if not isinstance(value, Tensor):
        return False
    if kind == "mask":
        return value.dtype == torch.bool and value.ndim == 3
    return value.dtype == torch.uint8 and value.ndim == 4 and value.shape[1] == channels


def picture_size(
    fields: Fields, specs: Mapping[str, FieldSpec], asked: tuple[int, int] | None
) -> tuple[int, int] | None:
    """(H, W) of the picture that images and masks among ``fields`` belong to, or ``asked``, which they must agree with.

    None where neither says it.
    """
    sizes = {"the size asked for": asked} if asked else {}
    for name, value in fields.items():
        if factor := specs[name].factor:
            height, width = value.shape[-2:]
            belongs = "" if factor == 1 else f" of {height}x{width}"
            sizes[f"'{name}'{belongs}"] = (height * factor, width * factor)
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{height}x{width} by {name}" for name, (height, width) in sizes.items())
        raise ConfigError(f"the picture would have several sizes: {said}")
    return next(iter(sizes.values()), None)


def rows_of(fields: Fields, count: int | None, seeds: Sequence[int] | None) -> int:
    """How many pictures; ConfigError where fields, ``count`` and ``seeds`` say different numbers."""
    lengths = {name: len(value) for name, value in fields.items()}
    if count is not None:
        lengths["count"] = count
    if seeds is not None:
        lengths["seeds"] = len(seeds)
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"the fields have different lengths: {', '.join(f'{k} {v}' for k, v in lengths.items())}")
    return next(iter(lengths.values()), 1)

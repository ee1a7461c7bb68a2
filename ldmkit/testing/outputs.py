"""What goes into parts and what comes out of them: made-up numbers, and how results are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ldmkit.artifacts.random import generator
from ldmkit.values import Levels

ROWS = range(3)
"""Rows of the largest batch that checks use."""


def normal(name: str, *shape: int) -> Tensor:
    """Standard normal numbers of ``shape``, the same ones for a ``name`` at all times."""
    return torch.from_numpy(generator("testing", name).standard_normal(shape, "float32"))


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of what is not equal, bit for bit, or not in both."""
    return [name for name in {**one, **other} if not _equal(one.get(name), other.get(name))]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(type(one) is type(other) and one == other)


def largest_difference(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference, 0 where there is nothing; not a number counts as infinitely far away."""
    apart = (one.detach().double() - other.detach().double()).abs().nan_to_num(nan=torch.inf)
    return float(apart.max()) if apart.numel() else 0.0


def relative_difference(one: Tensor, other: Tensor) -> float:
    """Root mean square of the difference, divided by that of ``other``; 0 where there is nothing."""
    apart, size = ((value.double().square().mean()).sqrt() for value in (one.double() - other.double(), other))
    return float(apart / size) if apart > 0 else 0.0


def each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with ``change`` applied to each tensor in tuples, lists, mappings and dataclasses, except in levels."""
    if isinstance(value, Levels):
        return value
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)(each_tensor(inner, change) for inner in value)
    if isinstance(value, Mapping):
        return {name: each_tensor(inner, change) for name, inner in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: each_tensor(getattr(value, f.name), change) for f in fields(value)})
    return value


def scattered(value: Tensor) -> Tensor:
    """The same numbers in another order in memory: the last dimension outermost; (B,) each beside a stranger."""
    if value.ndim > 1:
        return value.transpose(0, -1).contiguous().transpose(0, -1)
    return torch.stack([value, torch.zeros_like(value)], dim=-1)[..., 0] if value.ndim else value


def randomise(module: nn.Module) -> None:
    """Draw every trainable weight anew, so that features keep about unit variance."""
    for name, weight in module.named_parameters():
        if weight.requires_grad:
            drawn = normal(name, *weight.shape)
            fan_in = weight[0].numel() if weight.ndim > 1 else 1
            weight.data = drawn / fan_in**0.5 if weight.ndim > 1 else weight.data + 0.2 * drawn

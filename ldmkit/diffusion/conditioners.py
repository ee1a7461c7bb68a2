"""Several conditioners as one: their forms joined, each dropped out by its own rate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError
from ldmkit.protocols import Conditioner
from ldmkit.specs import CondSpec, FieldSpec
from ldmkit.values import Conditioning, Fields


class Conditioners(nn.Module):
    """Joins the conditioning of ``parts``: tokens along the sequence, vectors and maps along channels.

    Where token widths differ, each is projected to the widest one. With no parts the conditioning is empty. Raises
    ConfigError when two parts read one field as different kinds, or observe it at different sizes.
    """

    def __init__(self, parts: Mapping[str, Conditioner]) -> None:
        super().__init__()
        _check_kinds(parts)
        self.observed = _observed(parts)
        self.parts = nn.ModuleDict(parts)
        specs = {name: part.spec for name, part in parts.items()}
        width = max((spec.tokens for spec in specs.values()), default=0)
        self.spec = CondSpec(
            tokens=width,
            vector=sum(spec.vector for spec in specs.values()),
            map=sum(spec.map for spec in specs.values()),
        )
        self.projections = nn.ModuleDict(
            {name: nn.Linear(s.tokens, width, bias=False) for name, s in specs.items() if s.tokens not in {0, width}}
        )

    @property
    def needs(self) -> dict[str, str]:
        """Every field that some part reads, with the kind it must have."""
        return {field: kind for _, part in self.items() for field, kind in part.needs.items()}

    def observe(self, images: Tensor, random: RowRandom) -> dict[str, Any]:
        """What the parts make out of pictures, uint8 (B, C, H, W), by the rows' own streams."""
        return {field: value for _, part in self.items() for field, value in part.observe(images, random).items()}

    def paste(self, images: Tensor, fields: Fields) -> Tensor:
        """Put back into decoded pixels (B, C, H, W) those that some part knows exactly."""
        for _, part in self.items():
            images = part.paste(images, fields)
        return images

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        """Conditioning of B rows, nothing dropped."""
        self.check_fields(fields)
        return self._join({name: part(fields, latent_size) for name, part in self.items()})

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        """Null conditioning of every part."""
        return self._join(self._nulls(batch, latent_size))

    def told(
        self, fields: Fields, batch: int, latent_size: tuple[int, int], negative: Fields | None = None
    ) -> Callable[[Collection[str]], Conditioning]:
        """Return ``told(names)``: the conditioning of B rows by some of the parts, computed once for all choices.

        The parts that are not named are null; one whose fields are all in ``negative`` says these instead, as a
        negative prompt does. ``told(())`` is so the null conditioning.
        """
        self.check_fields(fields)
        asked = {name: part(fields, latent_size) for name, part in self.items()}
        others = self._nulls(batch, latent_size)
        for name, part in self.items():
            if negative and part.needs.keys() <= negative.keys():
                others[name] = part(negative, latent_size)
        return lambda names: self._join({name: (asked if name in names else others)[name] for name in asked})

    def check_fields(self, fields: Fields) -> None:
        """Raise ConfigError where ``fields`` lack one that a part reads."""
        missing = [field for field in self.needs if field not in fields]
        if missing:
            raise ConfigError(
                f"this model is conditioned on {', '.join(sorted(self.needs))}, but {', '.join(missing)} is missing; "
                f"given were: {', '.join(sorted(fields)) or 'no fields'}"
            )

    def with_dropout(self, fields: Fields, latent_size: tuple[int, int], random: RowRandom) -> Conditioning:
        """Conditioning as training sees it: each row of each part is null with that part's own rate."""
        dropped = {}
        for name, part in self.items():
            conditioning = part(fields, latent_size)
            if part.dropout:
                keep = random.uniform(f"dropout of {name}") >= part.dropout
                conditioning = conditioning.where(keep, part.null(len(random), latent_size))
            dropped[name] = conditioning
        return self._join(dropped)

    def items(self) -> list[tuple[str, Conditioner]]:
        """The parts by name."""
        return list(self.parts.items())  # type: ignore[arg-type]

    def _nulls(self, batch: int, latent_size: tuple[int, int]) -> dict[str, Conditioning]:
        return {name: part.null(batch, latent_size) for name, part in self.items()}

    def _join(self, conditionings: Mapping[str, Conditioning]) -> Conditioning:
        for name, part in self.items():
            check_conditioning(conditionings[name], part.spec, f"cond '{name}'")
        device = _common_device(conditionings)
        conditionings = {name: c.to(device) for name, c in conditionings.items()}
        tokens, masks = [], []
        for name, c in conditionings.items():
            if c.tokens is not None:
                tokens.append(self.projections[name](c.tokens) if name in self.projections else c.tokens)
                masks.append(
                    torch.ones(c.tokens.shape[:2], dtype=torch.bool, device=c.tokens.device)
                    if c.mask is None
                    else c.mask
                )
        return Conditioning(
            tokens=_cat(tokens),
            mask=_cat(masks),
            vector=_cat([c.vector for c in conditionings.values() if c.vector is not None]),
            map=_cat([c.map for c in conditionings.values() if c.map is not None]),
        )


def _cat(values: Sequence[Tensor]) -> Tensor | None:
    if not values:
        return None
    return values[0] if len(values) == 1 else torch.cat(list(values), dim=1)


def _common_device(conditionings: Mapping[str, Conditioning]) -> torch.device:
    """The accelerator where any is on one: a part without weights may not know of it, and stay on the CPU."""
    there = (c.device for c in conditionings.values())
    return next((device for device in there if device.type != "cpu"), torch.device("cpu"))


def _check_kinds(parts: Mapping[str, Conditioner]) -> None:
    """Raise ConfigError when two parts read one field as different kinds."""
    first: dict[str, str] = {}
    for name, part in parts.items():
        for field, kind in part.needs.items():
            other = first.setdefault(field, name)
            if (before := parts[other].needs[field]) != kind:
                raise ConfigError(
                    f"cond.{other} reads the field '{field}' as {before}, but cond.{name} as {kind}; "
                    "let one of them read another field"
                )


def _observed(parts: Mapping[str, Conditioner]) -> dict[str, FieldSpec]:
    """What the parts observe; of one field the spec that says its size, on which all that do must agree."""
    specs: dict[str, FieldSpec] = {}
    first: dict[str, str] = {}
    for name, part in parts.items():
        for field, spec in part.observed.items():
            if not spec.factor:
                specs.setdefault(field, spec)
                continue
            other = first.setdefault(field, name)
            if (before := parts[other].observed[field].factor) != spec.factor:
                raise ConfigError(
                    f"cond.{other} observes the field '{field}' with sides divided by {before}, but cond.{name} by "
                    f"{spec.factor}; let one of them read another field"
                )
            specs[field] = spec
    return specs


def check_conditioning(conditioning: Any, spec: CondSpec, where: str) -> None:
    """Raise ConfigError when a conditioner yields other forms or widths than its ``spec`` declares."""
    if not isinstance(conditioning, Conditioning):
        raise ConfigError(f"{where} yields a {type(conditioning).__name__}; it must yield a Conditioning")
    widths = {}
    for form, (shape, axis) in _SHAPES.items():
        value = getattr(conditioning, form)
        if value is not None and (not isinstance(value, Tensor) or value.ndim != len(shape)):
            got = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ConfigError(f"{where} yields {form} {got}; it must be a tensor ({', '.join(shape)})")
        widths[form] = 0 if value is None else value.shape[axis]
    if CondSpec(**widths) != spec:
        raise ConfigError(f"{where} yields {CondSpec(**widths)} but declares {spec}")


_SHAPES = {"tokens": ("BMD", 2), "vector": ("BE", 1), "map": ("BKhw", 1)}
"""Of each form the letters of its shape, and which of them its spec declares."""

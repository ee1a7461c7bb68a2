"""What a conditioner asks of the data, and what it says when the data cannot give it."""

from __future__ import annotations

from torch import Tensor

from ldmkit.errors import ConfigError, DataError
from ldmkit.specs import DataSpec, FieldSpec


def require_field(cond: str, field: str, kind: str, data: DataSpec, *, key: str = "field") -> FieldSpec:
    """Return the spec of ``field``, which ``cond`` reads; raise :class:`ConfigError` unless it is of ``kind``.

    ``key`` is that of the config which names the field.
    """
    spec = data.fields.get(field)
    if spec is not None and spec.kind == kind:
        return spec
    offer = ", ".join(f"{name} ({other.kind})" for name, other in sorted(data.fields.items())) or "no fields"
    fitting = sorted(name for name, other in data.fields.items() if other.kind == kind)
    way_out = (
        f"point cond.{cond}.{key} at {'one of ' if len(fitting) > 1 else ''}{', '.join(fitting)}"
        if fitting
        else f"choose other data or leave '{cond}' out of cond"
    )
    raise ConfigError(f"cond '{cond}' needs the field '{field}' ({kind}), but the data offers: {offer}; {way_out}")


def require_names(cond: str, field: str, spec: FieldSpec) -> int:
    """Return how many classes ``field`` has; raise :class:`ConfigError` when the data does not name them."""
    if not spec.names:
        raise ConfigError(f"cond '{cond}' needs the names of the classes of '{field}', but the data gives none")
    return len(spec.names)


def require_indices(field: str, indices: Tensor, classes: int) -> None:
    """Raise :class:`DataError` unless all ``indices`` lie in 0..``classes`` - 1; those on a GPU are not waited for."""
    if indices.device.type == "cpu" and indices.numel() and (int(indices.min()) < 0 or int(indices.max()) >= classes):
        low, high = int(indices.min()), int(indices.max())
        raise DataError(f"field '{field}' holds classes {low} to {high}, but there are 0 to {classes - 1}")

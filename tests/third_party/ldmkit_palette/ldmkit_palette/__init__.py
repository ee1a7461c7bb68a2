"""Condition on the colours that a caption names."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Return the parts of this package."""
    return [Component("cond", "palette", "ldmkit_palette.palette:Palette", "colour words of a caption, as a vector")]

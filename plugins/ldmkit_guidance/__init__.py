"""Guidance of ldmkit: whose estimate a sampler follows."""

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Return the parts of this package."""
    return [
        Component("guidance", "cfg", "ldmkit_guidance.cfg:CFG", "classifier-free guidance (Ho and Salimans 2022)"),
        Component("guidance", "none", "ldmkit_guidance.unguided:Unguided", "the conditional estimate as it is"),
    ]

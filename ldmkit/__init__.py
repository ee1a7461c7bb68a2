"""ldmkit: latent diffusion from exchangeable parts.

    config = ldmkit.compose(["model=kl-f8", "cond=[text]"])     what `ldmkit run` with these overrides would use
    model = ldmkit.build(config)                                untrained
    model = ldmkit.load("outputs/runs/<id>")                    trained

Names are imported when they are used: `import ldmkit` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldmkit.diffusion.tiling import Tiling as Tiling
    from ldmkit.errors import CheckpointError as CheckpointError
    from ldmkit.errors import ConfigError as ConfigError
    from ldmkit.errors import DataError as DataError
    from ldmkit.errors import LdmkitError as LdmkitError
    from ldmkit.models import build as build
    from ldmkit.models import load as load
    from ldmkit.registry.components import Component as Component
    from ldmkit.registry.composing import check as check
    from ldmkit.registry.composing import compose as compose
    from ldmkit.registry.hooks import hookimpl as hookimpl

    __version__: str

_HOMES = {
    "CheckpointError": "ldmkit.errors",
    "Component": "ldmkit.registry.components",
    "ConfigError": "ldmkit.errors",
    "DataError": "ldmkit.errors",
    "LdmkitError": "ldmkit.errors",
    "Tiling": "ldmkit.diffusion.tiling",
    "build": "ldmkit.models",
    "check": "ldmkit.registry.composing",
    "compose": "ldmkit.registry.composing",
    "hookimpl": "ldmkit.registry.hooks",
    "load": "ldmkit.models",
}

__all__ = [
    "CheckpointError",
    "Component",
    "ConfigError",
    "DataError",
    "LdmkitError",
    "Tiling",
    "__version__",
    "build",
    "check",
    "compose",
    "hookimpl",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ldmkit")
    if name not in _HOMES:
        raise AttributeError(f"module 'ldmkit' has no attribute '{name}'")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""One installed plugin, as data, and which of them the environment asks for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ldmkit.errors import ConfigError, did_you_mean
from ldmkit.registry.components import Component
from ldmkit.registry.source import package_digest

DISABLE, ALLOW = "LDMKIT_DISABLE", "LDMKIT_PLUGINS"
"""Environment variables with names of plugins, or of their distributions, separated by commas."""

OWN = "ldmkit"
"""The distribution whose plugins are not subject to LDMKIT_PLUGINS."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """What one entry point provides, or those of one package that are parts themselves, and how loading it went.

    ``name`` is that of the entry point of the group ``ldmkit``, or else from its distribution's. ``error`` is one line
    that says why the ``status`` is not ``ok``. ``package`` is the folder of its import package, or its one file.
    ``api`` is the number that it states as ``LDMKIT_API``, None where it states none. ``hooks`` are those that it
    implements.
    """

    name: str
    distribution: str
    version: str
    status: Literal["ok", "failed", "disabled"]
    error: str = ""
    components: tuple[Component, ...] = ()
    package: Path | None = None
    api: int | None = None
    hooks: tuple[str, ...] = ()

    @property
    def config_dir(self) -> Path | None:
        """Where the package carries its option files, if it does: ``conf/<group>/<option>.yaml``."""
        place = self.package / "conf" if self.package is not None else None
        return place if place is not None and place.is_dir() else None

    def digest(self) -> str:
        """sha256 over what the Python files of the package say, without comments and docstrings."""
        return package_digest(self.package)

    @property
    def label(self) -> str:
        """How messages name this plugin: its distribution, and its own name where that differs."""
        return self.distribution if self.name == self.distribution else f"{self.distribution} ({self.name})"

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is that of the plugin or its distribution; ``-``, ``_``, ``.`` and capitals are all one."""
        return _plain(name) in (_plain(self.name), _plain(self.distribution))


def called(name: str, plugins: Sequence[Plugin]) -> list[Plugin]:
    """Those of ``plugins`` that are called ``name``; ConfigError with the nearest name where none is."""
    found = [plugin for plugin in plugins if plugin.is_called(name)]
    if not found:
        names = {other for plugin in plugins for other in (plugin.name, plugin.distribution)}
        raise ConfigError(f"no plugin is called '{name}'{did_you_mean(name, names)}")
    return found


@dataclass(frozen=True)
class Selection:
    """The plugins that are left out, and those that alone are taken in, if the environment says so.

    ``LDMKIT_PLUGINS=`` with nothing behind it takes in those of ldmkit itself alone.
    """

    disabled: tuple[str, ...]
    allowed: tuple[str, ...] | None

    @classmethod
    def of_environment(cls) -> Selection:
        """What the environment variables say now."""
        allowed = os.environ.get(ALLOW)
        return cls(_names(os.environ.get(DISABLE, "")), None if allowed is None else _names(allowed))

    def leaves_out(self, plugin: Plugin) -> str:
        """The variable that leaves ``plugin`` out; "" where none does."""
        if any(plugin.is_called(name) for name in self.disabled):
            return DISABLE
        if self.allowed is None or plugin.distribution == OWN:
            return ""
        return "" if any(plugin.is_called(name) for name in self.allowed) else ALLOW

    def unknown(self, plugins: Iterable[Plugin]) -> list[str]:
        """One line for each name in the variables that no plugin has."""
        plugins = list(plugins)
        named = [(DISABLE, name) for name in self.disabled] + [(ALLOW, name) for name in self.allowed or ()]
        return [
            f"{variable}: no plugin is called '{name}'"
            for variable, name in named
            if not any(plugin.is_called(name) for plugin in plugins)
        ]


def _names(text: str) -> tuple[str, ...]:
    return tuple(sorted({name.strip() for name in text.split(",")} - {""}))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

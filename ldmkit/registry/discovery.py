"""Which packages provide which parts.

    registry().plugins                     every installed plugin, also the failed and the disabled ones
    registry().lookup("cond", "text")      -> (Component, Plugin), or a ConfigError with the nearest name
    registry().part("cond", "text")        -> the class, imported now
    registry().option_owners("cond", "text")   who carries conf/cond/text.yaml
    registry().clashes()                   what two packages provide under one name

A package says what it provides in one of two ways. An entry point of the group ``ldmkit.KIND``, such as
``palette = "ldmkit_palette:Palette"`` of ``ldmkit.cond``, is itself a part, and nothing is imported to know of it. An
entry point of the group ``ldmkit`` names a module (or an instance) with a hook ``components``, which lists any number
of parts.

Each plugin is loaded by itself: whatever goes wrong in one costs that one alone. ``LDMKIT_DISABLE=a,b`` leaves plugins
out, by their name or their distribution's, before they are imported; ``LDMKIT_PLUGINS=a,b`` leaves out all but those
and ldmkit's own. Imports neither torch nor hydra.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ldmkit.errors import ConfigError, LdmkitError, did_you_mean
from ldmkit.registry.components import KINDS, Component
from ldmkit.registry.loading import entries, load, one_line
from ldmkit.registry.plugin import ALLOW, DISABLE, Plugin, Selection

_HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Registry:
    """All plugins of this installation."""

    plugins: tuple[Plugin, ...]

    def components(self, kind: str | None = None) -> Iterator[tuple[Component, Plugin]]:
        """Yield every part, of one ``kind`` or of all, with its plugin, sorted by kind and name."""
        found = [(part, plugin) for plugin in self.plugins for part in plugin.components if kind in (None, part.kind)]
        yield from sorted(found, key=lambda pair: (list(KINDS).index(pair[0].kind), pair[0].name, pair[1].label))

    def lookup(self, kind: str, name: str) -> tuple[Component, Plugin]:
        """Return the part ``name`` of ``kind`` and its plugin.

        Raises ConfigError for an unknown kind or name, with the nearest one, and for a name that two packages provide.
        """
        if kind not in KINDS:
            raise ConfigError(f"there is no kind of part '{kind}'{did_you_mean(kind, KINDS)}")
        found = [(part, plugin) for part, plugin in self.components(kind) if part.name == name]
        if not found:
            names = {part.name for part, _ in self.components(kind)}
            raise ConfigError(f"no plugin provides {kind} '{name}'{did_you_mean(name, names)}{self.absent()}")
        if len(found) > 1:
            raise ConfigError(provided_twice(f"{kind} '{name}'", [plugin for _, plugin in found]))
        return found[0]

    def part(self, kind: str, name: str) -> type[Any]:
        """Import and return the class of the part ``name`` of ``kind``.

        Raises ConfigError as :meth:`lookup` does, and LdmkitError naming the package when the import fails.
        """
        component, plugin = self.lookup(kind, name)
        module, _, attribute = component.target.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for step in attribute.split("."):
                found = getattr(found, step)
        except Exception as error:
            raise LdmkitError(
                f"{kind} '{name}' of {plugin.label} {plugin.version} cannot be imported from {component.target}: "
                f"{one_line(error)}{_extra(plugin, error)}"
            ) from error
        if not inspect.isclass(found):
            raise LdmkitError(f"{kind} '{name}' of {plugin.label}: {component.target} is not a class")
        return found

    def option_owners(self, group: str, option: str) -> list[Plugin]:
        """Return the plugins that carry the file ``<group>/<option>.yaml``."""
        return [
            plugin
            for plugin in self.plugins
            if plugin.config_dir is not None and (plugin.config_dir / group / f"{option}.yaml").is_file()
        ]

    def options(self) -> Iterator[tuple[str, str, Plugin]]:
        """Yield (group, option, plugin) for every option file of every plugin."""
        for plugin in self.plugins:
            if plugin.config_dir is not None:
                for path in sorted(plugin.config_dir.rglob("*.yaml")):
                    group, _, option = path.relative_to(plugin.config_dir).with_suffix("").as_posix().partition("/")
                    if option:
                        yield group, option, plugin

    def clashes(self) -> list[str]:
        """Return one line for each part and each option file that more than one package provides."""
        parts: dict[tuple[str, str], list[Plugin]] = defaultdict(list)
        files: dict[tuple[str, str], list[Plugin]] = defaultdict(list)
        for component, plugin in self.components():
            parts[component.kind, component.name].append(plugin)
        for group, option, plugin in self.options():
            files[group, option].append(plugin)
        named = {f"{kind} '{name}'": found for (kind, name), found in sorted(parts.items())}
        named |= {f"the option file {group}/{option}.yaml": found for (group, option), found in sorted(files.items())}
        return [provided_twice(what, found) for what, found in named.items() if len(found) > 1]

    def absent(self) -> str:
        """Return what to say behind 'not found': the plugins that failed to load or are disabled, or nothing."""
        failed = [plugin.label for plugin in self.plugins if plugin.status == "failed"]
        text = f". Failed to load, see 'ldmkit plugins': {', '.join(failed)}" if failed else ""
        for variable in (DISABLE, ALLOW):
            disabled = [plugin.label for plugin in self.plugins if plugin.error.endswith(variable)]
            text += f". Disabled by {variable}: {', '.join(disabled)}" if disabled else ""
        return text


def kernel_conf() -> Path:
    """Return the directory of ``config.yaml``: inside the package in a wheel, beside it in a checkout."""
    inside, beside = _HERE / "conf", _HERE.parent / "conf"
    return inside if inside.is_dir() else beside


@cache
def registry() -> Registry:
    """Return the registry of this process; the plugins are loaded at the first call."""
    return discover()


def discover() -> Registry:
    """Load every installed plugin afresh."""
    selection = Selection.of_environment()
    return Registry(tuple(load(entry, selection) for entry in entries()))


def _extra(plugin: Plugin, error: Exception) -> str:
    """What to type where the module that is missing belongs to an extra of the plugin's distribution."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    wanted = error.name.partition(".")[0].replace("_", "-").lower()
    for line in importlib.metadata.distribution(plugin.distribution).requires or ():
        found = re.match(r"""([\w.-]+)[^;]*;.*\bextra\s*==\s*["']([\w.-]+)["']""", line)
        if found and re.sub("[-_.]+", "-", found[1]).lower() == wanted:
            return f"; type: pip install '{plugin.distribution}[{found[2]}]'"
    return ""


def provided_twice(what: str, plugins: list[Plugin]) -> str:
    """Say that several ``plugins`` provide ``what``, and how to leave one of them out."""
    labels = " and ".join(f"{plugin.label} {plugin.version}" for plugin in plugins)
    ways = " or ".join(f"LDMKIT_DISABLE={name}" for name in _names_to_disable(plugins))
    return f"{what} is provided by more than one package: {labels}; leave one out with {ways}"


def _names_to_disable(plugins: list[Plugin]) -> list[str]:
    """What tells the plugins apart: their own names, or those of their distributions."""
    names = [plugin.name for plugin in plugins]
    return names if len(set(names)) == len(names) else [plugin.distribution for plugin in plugins]

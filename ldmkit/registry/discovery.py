"""Which packages provide which parts.

    registry().plugins                     every installed plugin, also the failed and the disabled ones
    registry().lookup("cond", "text")      -> (Component, Plugin), or a ConfigError with the nearest name
    registry().part("cond", "text")        -> the class, imported now
    registry().option_owners("cond", "text")   who carries conf/cond/text.yaml
    registry().clashes()                   what two packages provide under one name

A package says what it provides in one of two ways. An entry point of the group ``ldmkit.KIND``, such as
``palette = "ldmkit_palette:Palette"`` of ``ldmkit.cond``, is itself a part, and nothing is imported to know of it. An entry
point of the group ``ldmkit`` names a module (or an instance) with a hook ``components``, which lists any number of parts.

Each plugin is loaded by itself: whatever goes wrong in one costs that one alone. ``LDMKIT_DISABLE=a,b`` leaves plugins
out, by the name of the plugin or of the distribution, before they are imported. Imports neither torch nor hydra.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pluggy

from ldmkit.errors import ConfigError, LdmkitError, did_you_mean
from ldmkit.registry.components import KINDS, Component
from ldmkit.registry.hooks import API_VERSION, PluginSpec

GROUP = "ldmkit"
_HERE = Path(__file__).resolve().parents[1]
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """What one entry point provides, or those of one package that are parts themselves, and how loading it went.

    ``name`` is that of the entry point of the group ``ldmkit``, or else of the distribution. ``error`` is one line where ``status`` is ``failed``; ``config_dir`` holds ``<group>/<option>.yaml``.
    """

    name: str
    distribution: str
    version: str
    status: Literal["ok", "failed", "disabled"]
    error: str = ""
    components: tuple[Component, ...] = ()
    package: Path | None = None

    @property
    def config_dir(self) -> Path | None:
        """Where the package carries its option files, if it does."""
        place = self.package / "conf" if self.package is not None else None
        return place if place is not None and place.is_dir() else None

    def digest(self) -> str:
        """sha256 over the package's Python files: what a result of its parts depends on beside their configs."""
        found = hashlib.sha256()
        for path in sorted(self.package.rglob("*.py")) if self.package is not None else []:
            name = path.relative_to(self.package).as_posix() if self.package else ""
            if not name.startswith("tests/"):
                found.update(f"{name}\0{path.read_text(encoding='utf-8', errors='replace')}\0".encode())
        return found.hexdigest()

    @property
    def label(self) -> str:
        """How messages name this plugin: its distribution, and its own name where that differs."""
        return self.distribution if self.name == self.distribution else f"{self.distribution} ({self.name})"


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
                f"{_one_line(error)}"
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
        disabled = [plugin.label for plugin in self.plugins if plugin.status == "disabled"]
        text = f". Failed to load, see 'ldmkit plugins': {', '.join(failed)}" if failed else ""
        return text + (f". Disabled by LDMKIT_DISABLE: {', '.join(disabled)}" if disabled else "")


def kernel_conf() -> Path:
    """Return the directory of ``config.yaml``: inside the package in a wheel, beside it in a checkout."""
    inside, beside = _HERE / "conf", _HERE.parent / "conf"
    return inside if inside.is_dir() else beside


@cache
def registry() -> Registry:
    """Return the registry of this process; the plugins are loaded at the first call."""
    return discover()


def discover() -> Registry:
    """Load every installed plugin afresh, sorted by distribution and name: no order depends on chance."""
    disabled = {name.strip() for name in os.environ.get("LDMKIT_DISABLE", "").split(",")} - {""}
    plugins = []
    parts: dict[tuple[str, str, str], list[importlib.metadata.EntryPoint]] = defaultdict(list)
    for distribution, name, version, entry in _entries():
        if entry.group == GROUP:
            plugins.append(_load(distribution, name, version, entry, disabled))
        else:
            parts[distribution, version, _top_package(entry.value)].append(entry)
    plugins += [_announced(*key, entries, disabled) for key, entries in parts.items()]
    return Registry(tuple(sorted(plugins, key=lambda plugin: (plugin.distribution, plugin.name))))


def _entries() -> Iterator[tuple[str, str, str, importlib.metadata.EntryPoint]]:
    """Yield (distribution, name, version, entry point) of our groups, sorted.

    Not ``importlib.metadata.entry_points()``, which one malformed file of any package brings down. Of two
    distributions with one name, the first on ``sys.path`` is the one that is imported.
    """
    seen: set[str] = set()
    found = []
    for distribution in importlib.metadata.distributions():
        try:
            entries = [entry for entry in distribution.entry_points if entry.group.partition(".")[0] == GROUP]
            name, version = (distribution.name, distribution.version) if entries else ("", "")
        except Exception:  # not readable, so nobody can tell whether it is a plugin
            continue
        if entries and name not in seen:
            seen.add(name)
            found += [(name or "unknown", entry.name, version or "unknown", entry) for entry in entries]
    yield from sorted(found, key=lambda found: found[:2])


def _load(
    distribution: str, name: str, version: str, entry: importlib.metadata.EntryPoint, disabled: set[str]
) -> Plugin:
    """Load one plugin, whatever it does."""

    def plugin(status: Literal["ok", "failed", "disabled"], **rest: Any) -> Plugin:
        return Plugin(name=name, distribution=distribution, version=version, status=status, **rest)

    if disabled & {name, distribution}:
        return plugin("disabled")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a package prints must not mix with our output
            found = entry.load()
            components = _components(found)
        return plugin("ok", components=components, package=_folder(sys.modules[entry.module].__file__))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit and whatever else a stranger raises: it costs that plugin alone
        return plugin("failed", error=_one_line(error))


def _announced(
    distribution: str,
    version: str,
    package: str,
    entries: Iterable[importlib.metadata.EntryPoint],
    disabled: set[str],
) -> Plugin:
    """The plugin of a ``package`` whose entry points are its parts; none of it is imported."""

    def plugin(status: Literal["ok", "failed", "disabled"], **rest: Any) -> Plugin:
        return Plugin(name=distribution, distribution=distribution, version=version, status=status, **rest)

    if distribution in disabled:
        return plugin("disabled")
    try:
        parts = [Component(entry.group.removeprefix(f"{GROUP}."), entry.name, entry.value, "") for entry in entries]
        components = _checked([parts])
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise ModuleNotFoundError(f"No module named '{package}'")
        return plugin("ok", components=components, package=_folder(spec.origin))
    except Exception as error:
        return plugin("failed", error=_one_line(error))


def _top_package(target: str) -> str:
    return target.partition(":")[0].partition(".")[0].strip()


def _components(found: Any) -> tuple[Component, ...]:
    """Ask one plugin for its parts, on a manager of its own, and check what it says."""
    if inspect.isclass(found):
        raise TypeError(f"the entry point names the class {found.__name__}; name a module or an instance")
    written_for = getattr(found, "LDMKIT_API", API_VERSION)
    if written_for != API_VERSION:
        raise TypeError(f"written for plugin API {written_for}; this ldmkit has {API_VERSION}")
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(PluginSpec)
    manager.register(found, "plugin")
    hooks = {caller.name for caller in manager.get_hookcallers(found) or ()}
    if unknown := hooks - {"components"}:
        raise TypeError(f"implements hooks that do not exist: {', '.join(sorted(unknown))}; there is: components")
    if not hooks:
        raise TypeError("implements no hook; write a function components() under @hookimpl")
    return _checked(manager.hook.components())


def _checked(results: list[Iterable[Component]]) -> tuple[Component, ...]:
    components = tuple(component for result in results for component in result)
    seen: set[tuple[str, str]] = set()
    for component in components:
        if not isinstance(component, Component):
            raise TypeError(f"components() must return Components; it returned {component!r}")
        if component.kind not in KINDS:
            raise TypeError(f"there is no kind of part '{component.kind}'{did_you_mean(component.kind, KINDS)}")
        if not _TARGET.fullmatch(component.target):
            raise TypeError(f"{component.kind} '{component.name}': '{component.target}' is not 'package.module:Class'")
        if (component.kind, component.name) in seen:
            raise TypeError(f"provides {component.kind} '{component.name}' twice")
        seen.add((component.kind, component.name))
    return components


def _folder(file: str | None) -> Path | None:
    """The folder of the package that ``file`` begins; None for a module that is a single file, which has none."""
    return Path(file).parent if file and Path(file).name == "__init__.py" else None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def provided_twice(what: str, plugins: list[Plugin]) -> str:
    """Say that several ``plugins`` provide ``what``, and how to leave one of them out."""
    labels = " and ".join(f"{plugin.label} {plugin.version}" for plugin in plugins)
    ways = " or ".join(f"LDMKIT_DISABLE={name}" for name in _names_to_disable(plugins))
    return f"{what} is provided by more than one package: {labels}; leave one out with {ways}"


def _names_to_disable(plugins: list[Plugin]) -> list[str]:
    """What tells the plugins apart: their own names, or those of their distributions."""
    names = [plugin.name for plugin in plugins]
    return names if len(set(names)) == len(names) else [plugin.distribution for plugin in plugins]

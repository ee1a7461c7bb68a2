"""Loading plugins, each by itself: whatever goes wrong in one costs that one alone.

    for entry in entries():         everything installed under the group ``ldmkit``, nothing of it imported
        load(entry)                 -> Plugin, imported and asked for its parts

Contained is all that Python can contain: every exception, SystemExit too, and what is printed. Not contained is what
takes the process with it, ``os._exit`` or an import that never ends: ``ldmkit plugins check`` finds such a plugin in a
process of its own. Imports neither torch nor hydra.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pluggy

from ldmkit.errors import did_you_mean
from ldmkit.registry.components import KINDS, Component
from ldmkit.registry.hooks import API_VERSION, PluginSpec
from ldmkit.registry.plugin import DISABLE, Plugin, Selection

GROUP = "ldmkit"
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Entry:
    """An entry point of our group, with its distribution's name, version and requirements."""

    distribution: str
    name: str
    version: str
    requires: tuple[str, ...]
    point: importlib.metadata.EntryPoint

    def plugin(self, status: Literal["ok", "failed", "disabled"], **rest: Any) -> Plugin:
        """The plugin behind it, once it is known how it went."""
        return Plugin(name=self.name, distribution=self.distribution, version=self.version, status=status, **rest)


def entries() -> list[Entry]:
    """Return the entry points of our group, sorted by distribution and name: no order depends on chance.

    Not ``importlib.metadata.entry_points()``, which one malformed file of any package brings down. Of two
    distributions with one name, the first on ``sys.path`` is the one that is imported.
    """
    seen: set[str] = set()
    found: list[Entry] = []
    for distribution in importlib.metadata.distributions():
        try:
            points = [point for point in distribution.entry_points if point.group == GROUP]
            if not points:
                continue
            name, version = distribution.name or "unknown", distribution.version or "unknown"
            requires = tuple(distribution.requires or ())
        except Exception:  # not readable, so nobody can tell whether it is a plugin
            continue
        if name not in seen:
            seen.add(name)
            found += [Entry(name, point.name, version, requires, point) for point in points]
    return sorted(found, key=lambda entry: (entry.distribution, entry.name))


def load(entry: Entry, selection: Selection | None = None) -> Plugin:
    """Load one plugin, whatever it does, unless ``selection`` leaves it out."""
    if selection is not None and (variable := selection.leaves_out(entry.plugin("disabled"))):
        return entry.plugin("disabled", error=f"disabled by {variable}")
    try:
        _check_requirements(entry)
        with contextlib.redirect_stdout(sys.stderr):  # what a package prints must not mix with our output
            found = entry.point.load()
            components = _components(found)
        return entry.plugin("ok", components=components, package=_package(entry.point.module), api=_stated_api(found))
    except KeyboardInterrupt:
        where = f"while plugin {entry.plugin('failed').label} was loaded; {DISABLE}={entry.name} leaves it out"
        raise KeyboardInterrupt(where) from None
    except BaseException as error:  # also SystemExit and whatever else a stranger raises: it costs that plugin alone
        return entry.plugin("failed", error=one_line(error))


def one_line(error: BaseException) -> str:
    """The type of ``error`` and what it says, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check_requirements(entry: Entry) -> None:
    """Raise where the package needs another ldmkit than this one: pip says so once, and installs it all the same."""
    lines = [line for line in entry.requires if re.match(r"ldmkit\b(?![-_.])", line, re.IGNORECASE)]
    if not lines:
        return
    from packaging.requirements import Requirement

    here = importlib.metadata.version("ldmkit")
    for requirement in map(Requirement, lines):
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(here, prereleases=True):
            raise ImportError(f"needs ldmkit{requirement.specifier}; this is {here}")


def _stated_api(found: Any) -> int | None:
    stated: int | None = getattr(found, "LDMKIT_API", None)
    return stated


def _components(found: Any) -> tuple[Component, ...]:
    """Ask one plugin for its parts, on a manager of its own, and check what it says."""
    if inspect.isclass(found):
        raise TypeError(f"the entry point names the class {found.__name__}; name a module or an instance")
    if _stated_api(found) not in (None, API_VERSION):
        raise TypeError(f"written for plugin API {_stated_api(found)}; this ldmkit has {API_VERSION}")
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


def _package(module: str) -> Path | None:
    """The folder of the package, or the file of a module that has no folder of its own."""
    file = sys.modules[module].__file__
    if file is None:
        return None
    return Path(file).parent if Path(file).name == "__init__.py" else Path(file)

"""Loading plugins, each by itself: whatever goes wrong in one costs that one alone.

    for entry in entries():         everything installed under our groups, nothing of it imported
        load(entry)                 -> Plugin, asked for its parts, for which one with a hook is imported

Contained is all that Python can contain: every exception, SystemExit too, and what is printed. Not contained is what
takes the process with it, ``os._exit`` or an import that never ends: ``ldmkit plugins check`` finds such a plugin in a
process of its own. Imports neither torch nor hydra.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
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
    """What makes one plugin, with its distribution's name, version and requirements.

    ``points`` is one entry point of the group ``ldmkit``, which gives the plugin its name, or all those of groups
    ``ldmkit.KIND`` that name parts of one package; then its name is what the distribution's has behind ``ldmkit-``.
    """

    distribution: str
    name: str
    version: str
    requires: tuple[str, ...]
    points: tuple[importlib.metadata.EntryPoint, ...]

    def plugin(self, status: Literal["ok", "failed", "disabled"], **rest: Any) -> Plugin:
        """The plugin behind it, once it is known how it went."""
        return Plugin(name=self.name, distribution=self.distribution, version=self.version, status=status, **rest)


def entries() -> list[Entry]:
    """Return what is installed under our groups, sorted by distribution and name: no order depends on chance.

    Not ``importlib.metadata.entry_points()``, which one malformed file of any package brings down. Of two
    distributions with one name, the first on ``sys.path`` is the one that is imported.
    """
    seen: set[str] = set()
    found: list[Entry] = []
    for distribution in importlib.metadata.distributions():
        try:
            points = [point for point in distribution.entry_points if point.group.partition(".")[0] == GROUP]
            if not points:
                continue
            name, version = distribution.name or "unknown", distribution.version or "unknown"
            requires = tuple(distribution.requires or ())
        except Exception:  # not readable, so nobody can tell whether it is a plugin
            continue
        if name not in seen:
            seen.add(name)
            found += [Entry(name, label, version, requires, each) for label, each in _by_plugin(name, points)]
    return sorted(found, key=lambda entry: (entry.distribution, entry.name))


def _by_plugin(
    distribution: str, points: Iterable[importlib.metadata.EntryPoint]
) -> Iterator[tuple[str, tuple[importlib.metadata.EntryPoint, ...]]]:
    """Yield the name and the entry points of each plugin of a distribution."""
    parts: dict[str, list[importlib.metadata.EntryPoint]] = defaultdict(list)
    for point in points:
        if point.group == GROUP:
            yield point.name, (point,)
        else:
            parts[_top_package(point.value)].append(point)
    yield from ((re.sub(r"^ldmkit[-_.]", "", distribution), tuple(each)) for each in parts.values())


def load(entry: Entry, selection: Selection | None = None) -> Plugin:
    """Load one plugin, whatever it does, unless ``selection`` leaves it out."""
    if selection is not None and (variable := selection.leaves_out(entry.plugin("disabled"))):
        return entry.plugin("disabled", error=f"disabled by {variable}")
    try:
        _check_requirements(entry)
        if entry.points[0].group != GROUP:
            return entry.plugin("ok", components=_announced(entry), package=_package(_source(entry.points[0].value)))
        with contextlib.redirect_stdout(sys.stderr):  # what a package prints must not mix with our output
            found = entry.points[0].load()
            components = _components(found)
        package = _package(sys.modules[entry.points[0].module].__file__)
        said = {"components": components, "hooks": ("components",), "api": _stated_api(found)}
        return entry.plugin("ok", package=package, **said)
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


def _announced(entry: Entry) -> tuple[Component, ...]:
    """The parts that entry points of the groups ``ldmkit.KIND`` are; nothing is imported."""
    return _checked([[Component(p.group.removeprefix(f"{GROUP}."), p.name, p.value, "") for p in entry.points]])


def _top_package(target: str) -> str:
    return target.partition(":")[0].partition(".")[0].strip()


def _source(target: str) -> str | None:
    """The file with which the top-level package of ``target`` begins."""
    name = _top_package(target)
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named '{name}'")
    return spec.origin


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


def _package(file: str | None) -> Path | None:
    """The folder of the package that ``file`` begins, or the file of a module that has no folder of its own."""
    if file is None:
        return None
    return Path(file).parent if Path(file).name == "__init__.py" else Path(file)

"""What a process of ``ldmkit plugins check`` does: it examines one plugin, and writes down what it finds as it goes.

    python -m ldmkit.examiner load|parts FILE DISTRIBUTION NAME

FILE gets a line of JSON for each step that begins, for each fault, and at last one with what was found as a whole:
where the plugin ends the process, or never lets go of it, the step is known all the same.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from ldmkit.errors import LdmkitError
from ldmkit.registry.components import Component
from ldmkit.registry.discovery import Registry, registry
from ldmkit.registry.loading import Entry, entries, load, one_line
from ldmkit.registry.plugin import Plugin

HEAVY = ("torch", "hydra", "omegaconf")
"""What importing a plugin, which every verb does, must not import."""


class Notes:
    """What is written down: ``with notes.step("cond/text"): notes.fault("it has no Config")``."""

    def __init__(self, file: Path) -> None:
        self._out = file.open("a", encoding="utf-8", buffering=1)
        self._step = ""

    @contextmanager
    def step(self, where: str) -> Iterator[None]:
        """Within, faults are those of ``where``; an exception is one, too."""
        self._step = where
        self._write(step=where)
        try:
            yield
        except (LdmkitError, ValueError) as error:
            self.fault(" ".join(str(error).split()))
        except Exception as error:
            self.fault(one_line(error))

    def fault(self, what: str) -> None:
        """Write down a fault of this step."""
        self._write(fault=(self._step, what))

    def found(self, **found: Any) -> None:
        """Write down what was found as a whole, at the end."""
        self._write(found=found)

    def _write(self, **row: Any) -> None:
        self._out.write(json.dumps(row) + "\n")


def examine_loading(entry: Entry, notes: Notes) -> None:
    """Import the plugin and ask it for its parts, as every verb does."""
    with notes.step("loading"):
        said = io.StringIO()
        with redirect_stderr(said):
            plugin = load(entry)
        if plugin.status == "failed":
            notes.fault(plugin.error)
        elif said.getvalue().strip():
            notes.fault(f"importing it prints {said.getvalue().strip().splitlines()[0]!r}")
        if heavy := [name for name in HEAVY if name in sys.modules]:
            notes.fault(f"importing it imports {', '.join(heavy)}, for which every verb would wait")
        components = [dataclasses.asdict(component) for component in plugin.components]
        notes.found(components=components, package=str(plugin.package or ""))


def examine_parts(entry: Entry, notes: Notes) -> None:
    """Import every part of the plugin, and read every option file."""
    importlib.import_module("ldmkit.testing")  # and torch with it, whose settings are compared below
    with notes.step("loading"):
        _leave_untouched(registry, notes)
    plugin = next(p for p in registry().plugins if (p.distribution, p.name) == (entry.distribution, entry.name))
    for part in plugin.components:
        with notes.step(f"{part.kind}/{part.name}"):
            _examine_part(plugin, part, notes)
    files = list(Registry((plugin,)).options())
    named: set[tuple[str, Any]] = set()
    for group, option, _ in files:
        with notes.step(f"conf/{group}/{option}.yaml"):
            named.add((group, _examine_option(plugin, group, option, notes)))
    for part in plugin.components:
        if (part.kind, part.name) not in named:
            with notes.step(f"{part.kind}/{part.name}"):
                notes.fault(f"no option file of {part.kind} has 'name: {part.name}', so that no run can choose it")
    notes.found(parts=len(plugin.components), options=len(files))


def _examine_part(plugin: Plugin, part: Component, notes: Notes) -> None:
    from ldmkit.registry.schema import field_types
    from ldmkit.testing import SUITES

    found = _leave_untouched(lambda: Registry((plugin,)).part(part.kind, part.name), notes)
    protocol = SUITES[part.kind].protocol
    if not issubclass(found, protocol):
        notes.fault(f"{part.target} is no {protocol.__name__}")
    config = getattr(found, "Config", None)
    if config is None:
        notes.fault(f"{part.target} has no nested class Config")
        return
    field_types(config)  # refuses what is no dataclass, or cannot be read
    if not config.__dataclass_params__.frozen:
        notes.fault("its Config is not frozen; write @dataclass(frozen=True, kw_only=True)")
    unset = (dataclasses.MISSING, dataclasses.MISSING)
    defaults = [each.name for each in dataclasses.fields(config) if (each.default, each.default_factory) != unset]
    if defaults:
        notes.fault(f"its Config has defaults for {', '.join(defaults)}; they belong into the option file")


def _examine_option(plugin: Plugin, group: str, option: str, notes: Notes) -> Any:
    """Examine an option file and return the name of the part that it is for."""
    assert plugin.config_dir is not None
    path = plugin.config_dir / group / f"{option}.yaml"
    from ldmkit.registry.option_file import faults_of_option, read_option, unknown_group
    from ldmkit.testing import SUITES

    if unknown := unknown_group(group):
        notes.fault(unknown)
    node = read_option(path)
    if group not in SUITES:
        return None
    name = node.get("name") if isinstance(node, dict) else None
    if not isinstance(name, str):
        notes.fault("it names no part; its first key must be name")
        return None
    own = any((part.kind, part.name) == (group, name) for part in plugin.components)
    config = getattr((Registry((plugin,)) if own else registry()).part(group, name), "Config", None)
    for fault in faults_of_option(path, group, option, config) if config is not None else ():
        notes.fault(fault)
    return name


def _leave_untouched(action: Callable[[], Any], notes: Notes) -> Any:
    """Do ``action``, which imports; what it prints, and changes of the process, are faults."""
    from ldmkit.testing.process import changed, generators, settings

    before, printed = {**settings(), **generators()}, io.StringIO()
    with redirect_stdout(printed):
        result = action()
    if touched := changed(before, {**settings(), **generators()}):
        notes.fault(f"importing it changes {', '.join(touched)}, which belong to the user's process")
    if printed.getvalue().strip():
        notes.fault(f"importing it prints {printed.getvalue().strip().splitlines()[0]!r}")
    return result


def main(what: str, file: str, distribution: str, name: str) -> None:
    """Examine one plugin."""
    entry = next(each for each in entries() if (each.distribution, each.name) == (distribution, name))
    {"load": examine_loading, "parts": examine_parts}[what](entry, Notes(Path(file)))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Whose code an unexpected error comes from, as a note that stands below its traceback."""

from __future__ import annotations

import traceback
from pathlib import Path

from ldmkit.registry.discovery import registry
from ldmkit.registry.plugin import OWN, Plugin


def name_builder(error: BaseException, kind: str, name: str, where: str) -> None:
    """Note that ``error`` was raised while the part ``name`` of ``kind`` was built from the config at ``where``."""
    _, plugin = registry().lookup(kind, name)
    error.add_note(f"while {where} was built: {kind} '{name}' of {_told(plugin)}")


def name_culprit(error: BaseException) -> None:
    """Note the plugin in whose code ``error`` was raised, or which called what raised it, with the part of that file.

    Nothing is noted where no plugin took part, or something is noted already.
    """
    if getattr(error, "__notes__", None):
        return
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        for plugin in registry().plugins:
            if plugin.package is not None and file.is_relative_to(plugin.package):
                error.add_note(f"in code of {_parts(plugin, file)}{_told(plugin)}")
                return


def _parts(plugin: Plugin, file: Path) -> str:
    """The parts whose module is ``file``."""
    modules = {part: part.target.partition(":")[0].rpartition(".")[2] for part in plugin.components}
    names = [f"{part.kind} '{part.name}'" for part, module in modules.items() if module == file.stem]
    return f"{', '.join(names)} of " if names else ""


def _told(plugin: Plugin) -> str:
    whom = "" if plugin.distribution == OWN else f"; 'ldmkit plugins info {plugin.name}' says whom to tell"
    return f"{plugin.label} {plugin.version}{whom}"

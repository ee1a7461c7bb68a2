"""Whose code an unexpected error comes from."""

from __future__ import annotations

import traceback
from pathlib import Path

from ldmkit.registry.discovery import registry
from ldmkit.registry.plugin import OWN, Plugin


def name_culprit(error: BaseException) -> None:
    """Note on ``error`` the plugin in whose code it was raised, or which called what raised it; its parts there, too.

    The note stands below the traceback. Nothing is noted where no plugin took part.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        for plugin in registry().plugins:
            if plugin.package is not None and Path(frame.filename).is_relative_to(plugin.package):
                error.add_note(_note(plugin, Path(frame.filename)))
                return


def _note(plugin: Plugin, file: Path) -> str:
    module = file.stem
    parts = [f"{part.kind} '{part.name}'" for part in plugin.components if _module_name(part.target) == module]
    of = f"{', '.join(parts)} of " if parts else ""
    report = "" if plugin.distribution == OWN else f"; 'ldmkit plugins info {plugin.name}' says whom to tell"
    return f"in code of {of}{plugin.label} {plugin.version}{report}"


def _module_name(target: str) -> str:
    return target.partition(":")[0].rpartition(".")[2]

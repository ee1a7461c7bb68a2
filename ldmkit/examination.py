"""``ldmkit plugins check``: every plugin is imported and examined in processes of its own, whatever that does.

    examine() -> verdicts, clashes      of all plugins; none of them is imported here

What such a process does is in :mod:`ldmkit.examiner`: the first, ``load``, imports the plugin alone, without torch; the
second, ``parts``, its parts, beside the plugins of ldmkit itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ldmkit.registry.components import Component
from ldmkit.registry.discovery import Registry
from ldmkit.registry.loading import entries
from ldmkit.registry.plugin import ALLOW, Plugin, Selection, called

SECONDS = {"load": 20.0, "parts": 300.0}
"""How long each process may take: to import a plugin is a matter of milliseconds, its parts may bring torch."""

PROCESSES = 4
"""That run at once, at most: each that imports parts takes some 400 MB."""


@dataclass(frozen=True)
class Fault:
    """What is wrong, and where: ``loading``, a part as ``cond/text``, or an option file as ``conf/cond/text.yaml``."""

    where: str
    what: str


@dataclass(frozen=True)
class Verdict:
    """What was found about one plugin."""

    name: str
    distribution: str
    version: str
    status: Literal["ok", "faulty", "disabled"]
    faults: tuple[Fault, ...] = ()


def examine(name: str | None = None) -> tuple[list[Verdict], list[str]]:
    """Examine all plugins, or those called ``name``; return what was found, and the clashes among them.

    Raises ConfigError where no plugin is called ``name``.
    """
    there = [entry.plugin("disabled") for entry in entries()]
    chosen = there if name is None else called(name, there)
    with ThreadPoolExecutor(min(PROCESSES, os.cpu_count() or 1)) as pool:
        examined = list(pool.map(_examine, chosen))
    return [verdict for _, verdict in examined], Registry(tuple(plugin for plugin, _ in examined)).clashes()


def _examine(plugin: Plugin) -> tuple[Plugin, Verdict]:
    """Return ``plugin`` as it was loaded, and what was found about it."""

    def verdict(status: Literal["ok", "faulty", "disabled"], faults: Sequence[Fault] = ()) -> Verdict:
        return Verdict(plugin.name, plugin.distribution, plugin.version, status, tuple(faults))

    if Selection.of_environment().leaves_out(plugin):
        return plugin, verdict("disabled")
    found, faults = _process("load", plugin)
    if not faults:
        plugin = dataclasses.replace(
            plugin,
            status="ok",
            components=tuple(Component(**part) for part in found["components"]),
            package=Path(found["package"]) if found["package"] else None,
        )
        _, faults = _process("parts", plugin)
    return plugin, verdict("faulty" if faults else "ok", faults)


def _process(what: str, plugin: Plugin) -> tuple[dict[str, Any], list[Fault]]:
    """Start a process and return what it found, with its own end as a fault where that is one."""
    with tempfile.TemporaryDirectory(prefix="ldmkit-check-") as folder, Path(folder, "stderr").open("w+b") as errors:
        file = Path(folder, "found")
        file.touch()
        words = [sys.executable, "-m", "ldmkit.examiner", what, str(file), plugin.distribution, plugin.name]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), ALLOW: plugin.distribution},
        )
        try:
            code: int | None = process.wait(SECONDS[what])
        except subprocess.TimeoutExpired:
            code = None
            process.kill()
            process.wait()
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        errors.seek(0)
        last = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
    faults = [Fault(*row["fault"]) for row in rows if "fault" in row]
    found: dict[str, Any] = next((row["found"] for row in rows if "found" in row), {})
    if not found:
        step = next((row["step"] for row in reversed(rows) if "step" in row), "loading")
        faults.append(Fault(step, _end(code, SECONDS[what], last)))
    return found, faults


def _end(code: int | None, seconds: float, last: str) -> str:
    if code is None:
        return f"it had not ended after {seconds:g} s"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"it ended the process with {how}{f': {last}' if last else ''}"

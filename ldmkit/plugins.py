"""``ldmkit plugins``: what is installed, what it says of itself, and what is wrong with it.

    ldmkit plugins                list all of them
    ldmkit plugins info NAME      one of them: its distribution, its parts, its options
    ldmkit plugins check [NAME]   import everything of it, in a process of its own

Each takes ``--json``; docs/plugins.md says what that holds. Listing imports neither torch nor hydra.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ldmkit.errors import ConfigError, did_you_mean
from ldmkit.exits import Arguments
from ldmkit.listing import options
from ldmkit.registry.class_source import docstring
from ldmkit.registry.components import Component
from ldmkit.registry.discovery import registry
from ldmkit.registry.hooks import API_VERSION
from ldmkit.registry.plugin import Plugin, Selection, called


def main(argv: Sequence[str]) -> int:
    """Carry out ``ldmkit plugins``; the exit code is 1 when a plugin failed, is faulty, or clashes with another."""
    what = next((word for word in argv if not word.startswith("-")), "list")
    if what not in _SHOWN:
        raise ConfigError(f"there is no 'ldmkit plugins {what}'{did_you_mean(what, _SHOWN)}")
    rest = list(argv)
    if what in rest:
        rest.remove(what)
    return _SHOWN[what](rest)


def _listed(argv: Sequence[str]) -> int:
    parser = Arguments(prog="ldmkit plugins", description="List the installed plugins.", epilog=_EPILOG)
    parser.add_argument("--json", action="store_true", help="for programs")
    asked = parser.parse_args(argv)
    found, clashes = registry().plugins, registry().clashes()
    unknown = Selection.of_environment().unknown(found)
    if asked.json:
        rows = [_row(plugin) for plugin in found]
        print(json.dumps({"plugins": rows, "clashes": clashes, "unknown": unknown}, indent=2))
    else:
        print("\n".join([*_table(found), *(f"clash: {line}" for line in clashes), *unknown]))
    return int(bool(clashes) or any(plugin.status == "failed" for plugin in found))


_EPILOG = "'ldmkit plugins info NAME' tells all of one, 'ldmkit plugins check [NAME]' imports and examines its parts."


def _row(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": plugin.status,
        "error": plugin.error,
        "components": [f"{part.kind}/{part.name}" for part in plugin.components],
    }


def _table(found: Iterable[Plugin]) -> Iterator[str]:
    rows = [("plugin", "distribution", "version", "status", "components")]
    for plugin in found:
        what = plugin.error or " ".join(f"{part.kind}/{part.name}" for part in plugin.components)
        rows.append((plugin.name, plugin.distribution, plugin.version, plugin.status, what))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]]).rstrip()


def _info(argv: Sequence[str]) -> int:
    parser = Arguments(prog="ldmkit plugins info", description="All that one plugin says of itself.")
    parser.add_argument("name", metavar="NAME", help="of a plugin, or of a distribution for all that it has")
    parser.add_argument("--json", action="store_true", help="for programs")
    asked = parser.parse_args(argv)
    found = called(asked.name, registry().plugins)
    pages = [_facts(plugin) for plugin in found]
    print(json.dumps({"plugins": pages}, indent=2) if asked.json else "\n\n".join("\n".join(_page(p)) for p in pages))
    return int(any(plugin.status == "failed" for plugin in found))


def _facts(plugin: Plugin) -> dict[str, Any]:
    said = importlib.metadata.metadata(plugin.distribution)

    def field(*names: str) -> str:
        values = [value for name in names for value in said.get_all(name) or []]
        return values[0].partition("\n")[0] if values else ""

    links = [link.partition(",") for link in said.get_all("Project-URL") or []]
    links.sort(key=lambda link: link[0].strip().lower() not in ("homepage", "home", "repository", "source"))
    return {
        **_row(plugin),
        "summary": field("Summary"),
        "author": field("Author", "Author-email"),
        "home_page": field("Home-page") or next((link.strip() for _, _, link in links), ""),
        "license": field("License-Expression", "License"),
        "requires": [line for line in said.get_all("Requires-Dist") or [] if "extra ==" not in line],
        "api": plugin.api,
        "package": str(plugin.package or ""),
        "digest": plugin.digest() if plugin.package is not None else "",
        "hooks": list(plugin.hooks),
        "parts": [asdict(part) | {"summary": _summary(part)} for part in plugin.components],
        "options": [
            {"group": option.group, "name": option.name, "summary": option.summary, "path": str(option.path)}
            for option in options()
            if option.plugin == plugin
        ],
    }


def _summary(part: Component) -> str:
    """What the part is, in its plugin's words or the first of its class."""
    return part.summary or docstring(part.target).partition("\n")[0]


def _page(facts: dict[str, Any]) -> Iterator[str]:
    yield f"{facts['name']}, a plugin of {facts['distribution']} {facts['version']}"
    api = f"{API_VERSION}, not stated" if facts["api"] is None else facts["api"]
    rows = {
        "summary": facts["summary"],
        "author": facts["author"],
        "home page": facts["home_page"],
        "license": facts["license"],
        "requires": ", ".join(facts["requires"]),
        "status": ": ".join(filter(None, [facts["status"], facts["error"]])),
        "plugin API": str(api) if facts["hooks"] else "",
        "hooks": ", ".join(facts["hooks"]),
        "package": facts["package"],
        "digest": facts["digest"],
    }
    yield from (f"  {name:12}{text}" for name, text in rows.items() if text)
    parts = [(f"{part['kind']}/{part['name']}", part["summary"], part["target"]) for part in facts["parts"]]
    chosen = [(f"{option['group']}={option['name']}", option["summary"], option["path"]) for option in facts["options"]]
    for heading, lines in (("parts", parts), ("options", chosen)):
        if lines:
            yield f"  {heading}"
            width = max(len(name) for name, _, _ in lines)
            yield from (f"    {name:{width}}  {summary}\n    {'':{width}}  {where}" for name, summary, where in lines)


def _checked(argv: Sequence[str]) -> int:
    from ldmkit.examination import examine

    parser = Arguments(
        prog="ldmkit plugins check",
        description="Import every part of every plugin, or of one, in a process of its own, and name what is wrong.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="of a plugin, or of a distribution for all that it has")
    parser.add_argument("--json", action="store_true", help="for programs")
    asked = parser.parse_args(argv)
    verdicts, clashes = examine(asked.name)
    if asked.json:
        print(json.dumps({"plugins": [asdict(verdict) for verdict in verdicts], "clashes": clashes}, indent=2))
    else:
        for verdict in verdicts:
            print(f"{verdict.distribution} ({verdict.name}) {verdict.version}: {verdict.status}")
            for fault in verdict.faults:
                print(f"  {fault.where}: {fault.what}")
        print(*(f"clash: {line}\n" for line in clashes), sep="", end="")
    return int(bool(clashes) or any(verdict.status == "faulty" for verdict in verdicts))


_SHOWN = {"list": _listed, "info": _info, "check": _checked}

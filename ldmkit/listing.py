"""``ldmkit ls`` and ``show``: the options there are, read without importing any part, torch or hydra."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ldmkit.errors import ConfigError, did_you_mean
from ldmkit.exits import Arguments
from ldmkit.registry.class_source import docstring
from ldmkit.registry.components import KINDS, Component
from ldmkit.registry.discovery import Plugin, kernel_conf, registry

KERNEL_GROUPS = {
    "scale": "sizes of networks and lengths of training, which option files read",
    "experiment": "recipes, each a whole run: +experiment=NAME",
}
"""Groups that choose no part."""


@dataclass(frozen=True)
class Option:
    """One option file, with the part that it configures where it is of a kind, and the plugin that carries it."""

    group: str
    name: str
    path: Path
    plugin: Plugin | None
    component: Component | None

    @property
    def summary(self) -> str:
        """The comment at the head of the file, or the part's own line."""
        head = re.match(
            r"(?:# @package.*\n)?\s*# (?!@package)(.+)$",
            self.path.read_text(encoding="utf-8", errors="replace"),
            re.MULTILINE,
        )
        if head is not None:
            return head[1]
        return self.component.summary if self.component is not None else ""


def ls(argv: Sequence[str]) -> int:
    """List the options of every group, or of one."""
    parser = Arguments(prog="ldmkit ls", description="List the options of every group, or of one.")
    parser.add_argument("kind", nargs="?", help=", ".join([*KINDS, *KERNEL_GROUPS]))
    asked = parser.parse_args(argv)
    groups = {**KINDS, **KERNEL_GROUPS}
    if asked.kind is not None:
        _check_group(asked.kind)
        groups = {asked.kind: groups[asked.kind]}
    found = list(options())
    width = max([len(option.name) for option in found], default=0)
    for group, meaning in groups.items():
        print(f"{group}: {meaning}")
        for option in found:
            if option.group == group:
                print(f"  {option.name.ljust(width)}  {option.summary}".rstrip())
    return 0


def show(argv: Sequence[str]) -> int:
    """Show one option: what it is, the package it is from, the docstring of its part, its keys with their comments."""
    parser = Arguments(prog="ldmkit show", description="Show one option of a group.")
    parser.add_argument("kind", help=", ".join([*KINDS, *KERNEL_GROUPS]))
    parser.add_argument("name", help="an option, as 'ldmkit ls KIND' lists it")
    asked = parser.parse_args(argv)
    _check_group(asked.kind)
    there = [option for option in options() if option.group == asked.kind]
    found = [option for option in there if option.name == asked.name]
    if not found:
        hint = did_you_mean(asked.name, {option.name for option in there})
        raise ConfigError(f"{asked.kind} has no option '{asked.name}'{hint}{registry().absent()}")
    for option in found:
        print("\n".join(_page(option)))
    return 0


def options() -> Iterator[Option]:
    """Yield every option file, sorted by group and name."""
    from_plugins = [
        Option(group, name, plugin.config_dir / group / f"{name}.yaml", plugin, _component(group, name, plugin))
        for group, name, plugin in registry().options()
        if plugin.config_dir is not None
    ]
    kernel = [
        Option(group, path.relative_to(kernel_conf() / group).with_suffix("").as_posix(), path, None, None)
        for group in KERNEL_GROUPS
        for path in sorted((kernel_conf() / group).rglob("*.yaml"))
    ]
    yield from sorted([*from_plugins, *kernel], key=lambda option: (option.group, option.name))


def _component(group: str, name: str, plugin: Plugin) -> Component | None:
    assert plugin.config_dir is not None
    text = (plugin.config_dir / group / f"{name}.yaml").read_text(encoding="utf-8", errors="replace")
    named = re.search(r"^name:\s*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
    wanted = named[1] if named else name
    own = [part for part in plugin.components if (part.kind, part.name) == (group, wanted)]
    others = [part for part, _ in registry().components() if (part.kind, part.name) == (group, wanted)]
    return next(iter([*own, *others]), None)


def _check_group(group: str) -> None:
    if group not in KINDS and group not in KERNEL_GROUPS:
        raise ConfigError(f"there is no group '{group}'{did_you_mean(group, [*KINDS, *KERNEL_GROUPS])}")


def _page(option: Option) -> Iterator[str]:
    yield f"{option.group}={option.name}: {option.summary}"
    if option.plugin is not None:
        yield f"from {option.plugin.label} {option.plugin.version}, {option.path}"
    else:
        yield f"from ldmkit itself, {option.path}"
    if option.component is not None:
        yield f"part '{option.component.name}', {option.component.target}"
        if text := docstring(option.component.target):
            yield f"\n{textwrap.indent(text, '  ')}"
    yield f"\n{option.path.read_text(encoding='utf-8', errors='replace').rstrip()}"

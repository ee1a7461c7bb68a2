"""Where the parts of a run are from: recorded in every run and checkpoint, compared when they are loaded.

    origins(config)                         -> [Origin(where="cond.text", distribution="ldmkit", ...), ...]
    check_origins(recorded, kinds, what)    refuses what is missing or somebody else's, warns of what has changed

Nothing is ever installed: a message says what to type.
"""

from __future__ import annotations

import importlib.metadata
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.registry.composing import part_nodes
from ldmkit.registry.discovery import registry
from ldmkit.registry.plugin import DISABLE, OWN
from ldmkit.registry.schema import typed
from ldmkit.registry.source import code_digest

logger = logging.getLogger("ldmkit")

_TYPED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
"""What may stand behind ``pip install`` in a message."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a part is from; ``where`` is its path in the config, such as ``cond.text``.

    ``code`` is the digest of its module and of what that imports of its own package.
    """

    where: str
    kind: str
    name: str
    target: str
    plugin: str
    distribution: str
    version: str
    code: str

    @classmethod
    def of(cls, kind: str, name: str, where: str = "") -> Origin:
        """The origin of the registered part ``name`` of ``kind``."""
        component, plugin = registry().lookup(kind, name)
        return cls(
            where=where or kind,
            kind=kind,
            name=name,
            target=component.target,
            plugin=plugin.name,
            distribution=plugin.distribution,
            version=plugin.version,
            code=code_digest(component.target),
        )

    @property
    def part(self) -> str:
        """How messages name the part."""
        return f"{self.kind} '{self.name}'"

    @property
    def package(self) -> str:
        """The distribution with its version."""
        return f"{self.distribution} {self.version}"


def origins(config: Mapping[str, Any]) -> list[Origin]:
    """The origins of all parts that a composed ``config`` names."""
    return [Origin.of(kind, node["name"], where) for kind, where, node in part_nodes(config)]


def read_origins(value: Any, what: str) -> list[Origin]:
    """Read back what was recorded of ``what``; CheckpointError where that is damaged, or could not be shown."""
    try:
        found = [typed(Origin, node, "parts") for node in value]
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{what} does not say where its parts are from: {error}") from error
    for origin in found:
        shown = all(str(word).isprintable() for word in vars(origin).values())
        if not shown or not _TYPED.fullmatch(origin.distribution) or not _TYPED.fullmatch(origin.version):
            raise CheckpointError(f"{what} does not say where its parts are from: {vars(origin)!r}")
    return found


def check_origins(recorded: Iterable[Origin], kinds: Collection[str], what: str) -> None:
    """Compare the parts of ``kinds`` with those that are installed, which ``what``, a run or checkpoint, was made with.

    Raises CheckpointError, with what to type, where one is missing or is a part of another package; says in a warning
    which packages have changed.
    """
    changed: dict[tuple[str, str], list[str]] = {}
    for then in recorded:
        if then.kind not in kinds:
            continue
        _check_provided(then, what)
        now = Origin.of(then.kind, then.name)
        if now.distribution != then.distribution and now.target != then.target:
            raise CheckpointError(
                f"{what} needs {then.part} of {then.package}, but here that is of {now.package}; {_install(then)}"
                f" and leave the other out with {DISABLE}={now.plugin if now.distribution == OWN else now.distribution}"
            )
        if (now.package, now.code) != (then.package, then.code):
            differs = f"{then.part}: code {then.code[:8]}, now {now.code[:8]}"
            same = f"{then.part}: its code is the same"
            changed.setdefault((then.package, now.package), []).append(differs if now.code != then.code else same)
    for (before, after), parts in changed.items():
        packages = f"{before}, and this is {after}" if before != after else f"other code of {before}"
        logger.warning("%s was made with %s (%s); what it draws may differ", what, packages, "; ".join(parts))


def _check_provided(then: Origin, what: str) -> None:
    if any(part.name == then.name for part, _ in registry().components(then.kind)):
        return
    needs = f"{what} needs {then.part} of {then.package}, which"
    for plugin in registry().plugins:
        if (plugin.distribution, plugin.name) == (then.distribution, then.plugin) and plugin.error:
            raise CheckpointError(f"{needs} {'is' if plugin.status == 'disabled' else 'fails to load:'} {plugin.error}")
    try:
        installed = importlib.metadata.version(then.distribution)
    except importlib.metadata.PackageNotFoundError:
        raise CheckpointError(f"{needs} is not installed; {_install(then)}") from None
    raise CheckpointError(f"{needs} the installed {then.distribution} {installed} does not have; {_install(then)}")


def _install(then: Origin) -> str:
    trust = "" if then.distribution == OWN else "if you trust it, "
    return f"{trust}type: pip install {then.distribution}=={then.version}"

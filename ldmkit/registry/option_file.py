"""What is wrong with an option file, held against the class that it configures."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ldmkit.errors import did_you_mean
from ldmkit.registry.components import KINDS, MULTIPLE
from ldmkit.registry.schema import field_types

OTHER_GROUPS = ("experiment", "hydra", "scale")
"""Groups that choose no part; a package may have options of these too."""


def read_option(path: Path) -> Any:
    """The plain data of an option file, its interpolations unresolved; ValueError where it cannot be read."""
    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:  # of the YAML reader, of which there are many kinds
        raise ValueError(f"cannot be read: {' '.join(str(error).split())}") from error


def faults_of_option(path: Path, group: str, option: str, config_class: type[Any]) -> Iterator[str]:
    """Yield a line for each thing wrong with ``path``, the option of ``group`` for a part with ``config_class``.

    Every key of ``config_class`` has to be there, in its order, nested ones too, each with a comment.
    """
    text, node = path.read_text(encoding="utf-8", errors="replace"), read_option(path)
    yield from _differing_keys(node, config_class, "")
    for line in text.splitlines():
        key = re.match(r"\s*([A-Za-z_]\w*):", line)
        if key and key[1] != "name" and " # " not in line and not line.rstrip().endswith(":"):
            yield f"its key {key[1]} has no comment"
    if not re.search(r"^(# (?!@package)|name: .* # )\S", text, re.MULTILINE):
        yield "no comment at its head says what the option is"
    package = re.findall(r"^# @package (.+)$", text, re.MULTILINE)
    expected = [f"{group}.{option.replace('/', '.')}"] if group in MULTIPLE else []
    if package != expected and "/" not in option:
        yield f"its first line must be '# @package {expected[0]}'" if expected else "it must have no line '# @package'"
    for word in ("_target_", "oc.env"):
        if word in text:
            yield f"it holds {word}, which is refused: a config is data"


def unknown_group(group: str) -> str:
    """What to say of a folder of options that is no group; "" where it is one."""
    known = [*KINDS, *OTHER_GROUPS]
    return "" if group in known else f"there is no group '{group}'{did_you_mean(group, known)}"


def _differing_keys(node: Any, config_class: type[Any], where: str) -> Iterator[str]:
    if not isinstance(node, Mapping):
        yield f"{where or 'it'} is not a mapping"
        return
    expected, got = field_types(config_class), list(node)  # type: ignore[arg-type] # as in ldmkit.registry.schema
    prefix = f"{where}: " if where else ""
    if missing := [key for key in expected if key not in node]:
        yield f"{prefix}it lacks {', '.join(missing)}"
    if more := [f"{key}{did_you_mean(str(key), expected)}" for key in got if key not in expected]:
        yield f"{prefix}Config has no key {', '.join(more)}"
    if not missing and not more and got != list(expected):
        yield f"{prefix}its keys are {', '.join(got)}, and Config has them as {', '.join(expected)}"
    for key, kind in expected.items():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(node.get(key), Mapping):
            yield from _differing_keys(node[key], kind, f"{where}.{key}" if where else key)

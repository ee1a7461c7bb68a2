"""What is wrong with an override, said in one line. Knows groups, options and keys; composes nothing.

Hydra's own parser reads the override, so what passes here means to Hydra what it meant here. Each function raises
ConfigError naming what was asked, the nearest valid one and what there is, or returns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from omegaconf import DictConfig, ListConfig, OmegaConf

from ldmkit.errors import ConfigError, did_you_mean, nearest
from ldmkit.registry.components import KINDS, MULTIPLE

Groups = Mapping[str, Sequence[str]]
"""Config groups with their options."""

NO_PYTHON = "a config names no Python to be called; write a logger to listen to a run (docs/plugins.md)"

_EXAMPLE = "an override is key=value, such as seed=1 or cond=[text,semantic]"


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def parse(line: str, groups: Groups, keys: Iterable[str]) -> Override:
    """Read one override. ``keys`` are the top-level keys of the config, to guess from where nothing can be read."""
    if not line.isprintable():
        raise ConfigError(f"{line!a} holds a character that cannot be printed, {_EXAMPLE}")
    try:
        return _parser().parse_overrides([line])[0]
    except Exception as error:  # Hydra raises several classes of its own and of antlr here
        raise ConfigError(_unreadable(line, groups, [*groups, *keys])) from error


def line_of(override: Override) -> str:
    """Return the override as it was typed."""
    return override.input_line or override.key_or_group


def _unreadable(line: str, groups: Groups, names: list[str]) -> str:
    key, equals, value = line.partition("=")
    first = re.split(r"[.@\[]", key.strip().lstrip("+~"))[0]
    if equals and first in names:
        return f"'{line}' cannot be read: {_what_is_wrong(key, value)}"
    if not equals and first in groups:
        return f"'{line}' names no option; type {first}=OPTION. There is: {', '.join(groups[first])}"
    if not equals and first in names:
        return f"'{line}' has no value; type {key}=VALUE"
    if not equals and (found := _group_of(line, groups)):
        return f"'{line}' is not key=value; did you mean '{found}'?"
    return f"'{line}' cannot be read, {_EXAMPLE}{did_you_mean(first, names)}"


def _what_is_wrong(key: str, value: str) -> str:
    try:
        _parser().parse_overrides([f"{key}=1"])
    except Exception:  # then it is the key, whatever the value is
        path = ".".join(_steps(key.strip().strip("+~")))
        return f"'{key}' is not a key" + (f"; did you mean '{path}'?" if path != key else "")
    if any(value.count(mark) % 2 for mark in "'\"") or any(
        value.count(a) != value.count(b) for a, b in ("[]", "{}", "()")
    ):
        return "its brackets or quotes do not match"
    return f"quote what is not a plain word: {key}='\"{value.strip()}\"'"


def _group_of(word: str, groups: Groups) -> str | None:
    """``model=kl-f8`` for ``kl-f8``, for ``kl-f9`` and for ``modelkl-f8``."""
    spelt = {
        form: f"{group}={option}"
        for group in groups
        for option in groups[group]
        for form in (f"{group}{option}", option)
    }
    near = nearest(word, spelt)
    return spelt[near] if near else None


def check_group(override: Override, groups: Groups, chosen: Iterable[str]) -> None:
    """Check an override whose key is a group. ``chosen`` are the groups that are in the run without being added."""
    group, line = override.key_or_group, line_of(override)
    if override.package is not None:
        raise ConfigError(f"'{line}': options cannot be put elsewhere with '@'; type {group}=OPTION")
    if override.is_delete():
        if group not in chosen:
            raise ConfigError(f"'{line}': {group} is not in the run, so it cannot be left out")
        if group in KINDS:
            none = f"; type {group}=[] for none" if group in MULTIPLE else ""
            raise ConfigError(f"'{line}': {group} cannot be left out of a run{none}")
        return
    for value in values(override):
        _check_options(group, value, line, groups)
    if override.is_force_add():
        raise ConfigError(f"'{line}': a group takes no '++'; type {line.lstrip('+')}")
    if override.is_add() and group in chosen and group not in MULTIPLE:
        raise ConfigError(f"'{line}': {group} is already in the run; type {line.lstrip('+')}")
    if not override.is_add() and group not in chosen:
        raise ConfigError(f"'{line}': {group} is not in the run by itself; type +{line}")


def _check_options(group: str, value: Any, line: str, groups: Groups) -> None:
    options = groups[group]
    if isinstance(value, list):
        if group in KINDS and group not in MULTIPLE:
            raise ConfigError(f"'{line}': {group} takes one option. There is: {', '.join(options)}")
        twice = {str(option) for option in value if value.count(option) > 1}
        if twice:
            raise ConfigError(f"'{line}' names {', '.join(sorted(twice))} twice")
    for option in value if isinstance(value, list) else [value]:
        if option in (None, ""):
            none = f"; type {group}=[] for none" if group in MULTIPLE else f"; type {group}=OPTION"
            raise ConfigError(f"'{line}' names no option{none}. There is: {', '.join(options)}")
        if str(option) not in options:
            none = f"; type {group}=[] for none" if group in MULTIPLE and option == "none" else ""
            raise ConfigError(f"{group} has no option '{option}'{none}{did_you_mean(str(option), options)}")


def values(override: Override) -> list[Any]:
    """Return the value of an override, or each of its values where it is a sweep over choices."""
    if not override.is_sweep_override():
        return [override.value()]
    if override.is_discrete_sweep() and override.value_type is not ValueType.GLOB_CHOICE_SWEEP:
        return [_parser().parse_overrides([f"x={text}"])[0].value() for text in override.sweep_string_iterator()]
    return []


def end(override: Override, index: int) -> str:
    """Return the override with one value, the first of those that it is swept over or, with ``index`` -1, the last."""
    if not override.is_sweep_override():
        return line_of(override)
    if override.is_discrete_sweep():
        return f"{override.get_key_element()}={list(override.sweep_string_iterator())[index]}"
    interval: Any = override.value()
    return f"{override.get_key_element()}={interval.end if index else interval.start}"


def check_single(override: Override) -> None:
    """Refuse a sweep in a single run."""
    if override.is_sweep_override():
        key, line = override.key_or_group, line_of(override)
        joined = (
            ",".join(override.sweep_string_iterator()) if override.value_type is ValueType.SIMPLE_CHOICE_SWEEP else ""
        )
        listed = f", or {key}=[{joined}] for one run with a list" if joined else ""
        raise ConfigError(f"'{line}' has more than one value: type -m to run each{listed}")


def check_twice(overrides: Iterable[Override]) -> None:
    """Refuse two values for one key: which of them would win is Hydra's secret."""
    seen: dict[str, str] = {}
    for override in overrides:
        key, line = override.key_or_group, line_of(override)
        if key in seen and not (override.is_add() and key in MULTIPLE):
            raise ConfigError(f"{key} is given twice: '{seen[key]}' and '{line}'")
        seen[key] = line


def check_first_step(override: Override, groups: Groups, keys: Iterable[str]) -> None:
    """Check that an override of a key begins with a key or group that there is; needs nothing composed."""
    key = override.key_or_group
    if "/" in key or override.package is not None:
        raise ConfigError(f"there is no group '{key}'{did_you_mean(key, groups)}")
    first = _steps(key)[0] if _steps(key) else key
    if first not in {*groups, *keys, "hydra"}:
        raise ConfigError(f"there is no group or key '{first}'{did_you_mean(first, {*groups, *keys})}")
    if first == "hydra" and ("callbacks" in _steps(key) or "_target_" in line_of(override)):
        raise ConfigError(f"'{line_of(override)}': {NO_PYTHON}")


def check_key(override: Override, base: DictConfig, groups: Groups) -> None:
    """Check an override of a key against ``base``, the config with the chosen options and no key changed."""
    key, line = override.key_or_group, line_of(override)
    steps = _steps(key)
    node: Any = base
    for index, step in enumerate(steps):
        is_last = index == len(steps) - 1
        if source := _read_from(node, step) if not is_last else None:
            rest = ".".join(steps[index + 1 :])
            raise ConfigError(
                f"'{line}': {'.'.join(steps[: index + 1])} is read from {source}; type {source}.{rest}=VALUE"
            )
        node, found = _child(node, step)
        if not found:
            if (override.is_add() or override.is_force_add()) and is_last and steps[0] != "scale":
                return  # whether a key may be added is known to the class that reads it
            raise ConfigError(_no_key(steps[:index], step, base, groups, line))
    if override.is_delete():
        return
    if override.is_add() and not isinstance(node, DictConfig | ListConfig):
        raise ConfigError(f"'{line}': {key} is already in the config; type {line.lstrip('+')}")
    for value in values(override):
        _check_value(node, value, steps, line)


def _check_value(node: Any, value: Any, path: list[str], line: str) -> None:
    """Check what replaces ``node``: a mapping by a mapping with no other keys, a number of a scale by its like."""
    where = ".".join(path)
    if isinstance(node, DictConfig):
        if isinstance(value, Mapping) and len(node):
            for key, inner in value.items():
                below, found = _child(node, str(key))
                if not found:
                    raise ConfigError(
                        f"{_label(path, node)} has no key '{key}'{did_you_mean(str(key), map(str, node))}"
                    )
                _check_value(below, inner, [*path, str(key)], line)
        elif not isinstance(value, Mapping) and value is not None and not _interpolation(value):
            keys = ", ".join(map(str, node))
            raise ConfigError(f"'{line}': {where} is a mapping; type {where}.KEY=VALUE with one of its keys {keys}")
    elif path[0] == "scale" and not _alike(node, value):
        raise ConfigError(f"{where}: {_text(value)} is not like {_text(node)}, which it has by default")


def _no_key(path: list[str], step: str, base: DictConfig, groups: Groups, line: str) -> str:
    """Say that the node at ``path`` has no key ``step``."""
    if not path:  # the key has been taken out of the config, or a recipe has renamed it
        return f"'{line}': this run has no {step}"
    where = ".".join(path)
    node = OmegaConf.select(base, where)
    if path[0] in MULTIPLE and len(path) == 1:
        there = list(map(str, node))
        if step in groups.get(path[0], ()):
            wanted = ",".join([*there, step])
            return f"'{line}': {path[0]} '{step}' is not in this run; type {path[0]}=[{wanted}] as well"
        return f"this run has no {path[0]} '{step}'{did_you_mean(step, there)}"
    if isinstance(node, ListConfig):
        return f"'{line}': {where} is a list of {len(node)}, without an element '{step}'"
    if not isinstance(node, DictConfig):
        return f"'{line}': {where} is {_text(node)}, without keys of its own"
    return f"{_label(path, node)} has no key '{step}'{did_you_mean(step, map(str, node))}"


def _label(path: list[str], node: DictConfig) -> str:
    """``cond 'text'`` for a whole part, as :func:`ldmkit.registry.schema.typed` has it; the path for what is inside."""
    whole = 2 if path[0] in MULTIPLE else 1
    if path[0] in KINDS and len(path) == whole and "name" in node:
        return f"{path[0]} '{OmegaConf.to_container(node, resolve=False)['name']}'"  # type: ignore[call-overload,index]
    return ".".join(path)


def _steps(key: str) -> list[str]:
    """``a.b[0].c`` => ``a``, ``b``, ``0``, ``c``."""
    return [step for step in re.split(r"[.\[\]]+", key) if step]


def _child(node: Any, step: str) -> tuple[Any, bool]:
    """The value below ``node``, unresolved where it is an interpolation to nowhere, and whether there is one."""
    if isinstance(node, DictConfig):
        for key in node:
            if str(key) == step:
                return _value(node, key), True
    if isinstance(node, ListConfig) and re.fullmatch(r"-?\d+", step) and -len(node) <= int(step) < len(node):
        return _value(node, int(step)), True
    return None, False


def _value(node: DictConfig | ListConfig, key: Any) -> Any:
    if OmegaConf.is_missing(node, key):
        return None
    try:
        return node[key]
    except Exception:  # an interpolation that cannot be resolved yet; composing says so where it stays
        return None


def _read_from(node: Any, step: str) -> str | None:
    """``scale.x`` where ``node`` has ``${scale.x}`` at ``step``: nothing below such a key can be set."""
    inner = node._get_node(step, validate_access=False) if isinstance(node, DictConfig) else None
    if inner is None or not inner._is_interpolation():
        return None
    simple = re.fullmatch(r"\$\{([\w.]+)\}", str(inner._value()))
    return simple[1] if simple else "an interpolation"


def _interpolation(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _alike(old: Any, new: Any) -> bool:
    """Whether ``new`` could stand where ``old`` does. Numbers of scales have no class that says their type."""
    if old is None or new is None or _interpolation(new):
        return True
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    if isinstance(old, int | float):
        return isinstance(new, int | float)
    if isinstance(old, ListConfig):
        return isinstance(new, list)
    return isinstance(new, str)


def _text(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return repr(OmegaConf.to_container(value) if isinstance(value, DictConfig | ListConfig) else value)

"""Check plain data against a frozen dataclass, key by key, and make an instance of it.

    typed(TextConditioner.Config, {"name": "text", "width": 64, ...}, "cond.text") -> TextConditioner.Config(...)

A part's ``Config`` has no defaults, so every key must be there and no other may be. Fields may be bool, int, float,
str, None, Any, Path, Literal, a union of these, list, tuple, dict, and further dataclasses, nested at will. Every
mistake is one ConfigError that names the key, what it holds, and what it should hold. Nothing here runs what it is
given: strings with ``${`` are refused, so an interpolation in somebody's checkpoint is never looked up. Imports neither
torch nor hydra.

What a type cannot say, such as a range, a dataclass checks in ``__post_init__``. A ValueError whose message begins with
the key, as those of ``ldmkit.registry.ranges`` do, becomes a ConfigError with the path before it: ``width is 0 but must
be 1 or more`` => ``cond.text.width is 0 but must be 1 or more``.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from ldmkit.errors import ConfigError, LdmkitError, did_you_mean

Config = TypeVar("Config")


def typed(config_class: type[Config], node: Any, where: str) -> Config:
    """Return ``config_class`` made from the plain mapping ``node``.

    ``where`` is the path of the node in the run's config, such as ``"cond.text"``; messages begin with it. Raises
    ConfigError for unknown and missing keys, wrong types and what the class refuses, LdmkitError where the class
    itself cannot be read.
    """
    kind, _, option = where.partition(".")
    name = node.get("name", option) if isinstance(node, Mapping) else option
    label = f"{kind} '{name}'" if isinstance(name, str) and name else where
    refuse_interpolations(node, where)
    return _instance(config_class, node, where, label)


def refuse_interpolations(node: Any, where: str) -> None:
    """Raise ConfigError when a string anywhere in ``node`` holds ``${``: a config that is used has only values."""
    if isinstance(node, str) and "${" in node:
        raise ConfigError(f"{where}: {_shown(node)} holds an interpolation; a config that is used has only values")
    if isinstance(node, Mapping):
        for key, value in node.items():
            refuse_interpolations(key, _below(where, str(key)))
            refuse_interpolations(value, _below(where, str(key)))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            refuse_interpolations(value, f"{where}[{index}]")


def _instance(config_class: type[Config], node: Any, where: str, label: str | None = None) -> Config:
    """``label`` is what to call the whole of a part, ``cond 'text'``; a nested dataclass is called by its path."""
    label = label or where or "the config"
    fields = field_types(config_class)  # type: ignore[arg-type] # mypy does not see that a class is hashable
    if not isinstance(node, Mapping):
        raise ConfigError(f"{label}: {_shown(node)} is not a mapping with the keys {', '.join(fields)}")
    for key in node:
        if key not in fields:
            raise ConfigError(f"{label} has no key '{key}'{did_you_mean(str(key), fields)}")
    missing = [name for name in fields if name not in node]
    if missing:
        raise ConfigError(f"{label} lacks the key{'s' * (len(missing) > 1)} {', '.join(missing)}")
    values = {name: _value(kind, node[name], _below(where, name)) for name, kind in fields.items()}
    try:
        return config_class(**values)
    except ValueError as error:
        raise ConfigError(_below(where, " ".join(str(error).split()))) from error


@cache
def field_types(config_class: type[Any]) -> dict[str, Any]:
    """Return the fields of a config dataclass in their order, with their types resolved."""
    if not dataclasses.is_dataclass(config_class):
        raise LdmkitError(f"{config_class.__qualname__} is not a dataclass, so it cannot be a Config")
    try:
        hints = typing.get_type_hints(config_class, localns=_scope(config_class))
    except NameError as error:
        full_name = f"{config_class.__module__}.{config_class.__qualname__}"
        raise LdmkitError(
            f"a type of {full_name} cannot be read: {error}; import it outside of TYPE_CHECKING"
        ) from error
    return {field.name: hints[field.name] for field in dataclasses.fields(config_class) if field.init}


def _scope(config_class: type[Any]) -> dict[str, Any]:
    """Names that an annotation in a nested class may use: those of the classes around it."""
    scope: dict[str, Any] = {}
    outer: Any = sys.modules.get(config_class.__module__)
    for step in config_class.__qualname__.split("."):
        outer = getattr(outer, step, None)
        scope.update(vars(outer) if isinstance(outer, type) else {})
    return scope


def _value(kind: Any, value: Any, where: str) -> Any:
    """Return ``value`` as the type ``kind``, or raise ConfigError."""
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        return _of_union(kind, value, where)
    if origin is Literal:
        return _of_literal(kind, value, where)
    if origin in (list, tuple, Sequence) or kind in (list, tuple):
        return _sequence(kind, value, where)
    if origin in (dict, Mapping) or kind is dict:
        return _mapping(kind, value, where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _instance(kind, value, where)
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if kind is float and type(value) in (int, float) and not math.isnan(value):
        return float(value)
    if kind is Path and type(value) is str:
        return Path(value)
    if kind in (None, type(None)) and value is None:
        return None
    if kind in (bool, int, str) and type(value) is kind:  # by type(): True is no int here
        return value
    if kind in (bool, int, float, str, Path, None, type(None)):
        raise ConfigError(f"{where}: {_shown(value)} is not {type_text(kind)}")
    raise LdmkitError(f"{where}: a Config cannot have the type {type_text(kind)}")


def _of_union(kind: Any, value: Any, where: str) -> Any:
    members = typing.get_args(kind)
    if value is None and type(None) in members:
        return None
    inner: list[ConfigError] = []
    for member in sorted(members, key=lambda member: member is float):  # int before float, so that 3 stays 3
        try:
            return _value(member, value, where)
        except ConfigError as error:
            if isinstance(value, Mapping | list | tuple) and not _is_scalar(member):
                inner.append(error)
    if len(inner) == 1:  # the one member of this form says best what is wrong inside
        raise inner[0]
    raise ConfigError(f"{where}: {_shown(value)} is not {type_text(kind)}{_near_literal(members, value)}")


def _of_literal(kind: Any, value: Any, where: str) -> Any:
    allowed = typing.get_args(kind)
    for choice in allowed:
        if type(choice) is type(value) and choice == value:
            return value
    raise ConfigError(f"{where}: {_shown(value)} is not one of its values{did_you_mean(str(value), map(str, allowed))}")


def _near_literal(members: tuple[Any, ...], value: Any) -> str:
    choices = [choice for member in members for choice in typing.get_args(member) if isinstance(choice, str)]
    return did_you_mean(value, choices) if choices and isinstance(value, str) else ""


def _is_scalar(kind: Any) -> bool:
    return kind in (bool, int, float, str, Path, None, type(None)) or typing.get_origin(kind) is Literal


def _sequence(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: {_shown(value)} is not {type_text(kind)}")
    is_tuple = (typing.get_origin(kind) or kind) is tuple
    inner = typing.get_args(kind)
    if is_tuple and inner and inner[-1] is not Ellipsis:
        if len(inner) != len(value):
            raise ConfigError(f"{where}: {_shown(value)} has {len(value)} elements; it must have {len(inner)}")
        types_of_elements = inner
    else:
        types_of_elements = (inner[0] if inner else Any,) * len(value)
    elements = [
        _value(element, item, f"{where}[{index}]")
        for index, (element, item) in enumerate(zip(types_of_elements, value, strict=True))
    ]
    return tuple(elements) if is_tuple else elements


def _mapping(kind: Any, value: Any, where: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {_shown(value)} is not {type_text(kind)}")
    of_key, of_value = typing.get_args(kind) or (Any, Any)
    return {
        _value(of_key, key, f"{where} (a key)"): _value(of_value, item, _below(where, str(key)))
        for key, item in value.items()
    }


def type_text(kind: Any) -> str:  # noqa: PLR0911 - one return for each form
    """Return how a message names a type: ``an int``, ``a list of int``, ``an int or null``."""
    names = {bool: "true or false", int: "an int", float: "a float", str: "a string", Path: "a path"}
    if kind in (None, type(None)):
        return "null"
    if kind in names:
        return names[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(member) for member in inner)
    if origin is Literal:
        return " or ".join(f"'{choice}'" if isinstance(choice, str) else str(choice) for choice in inner)
    if origin in (list, tuple, Sequence) or kind in (list, tuple):
        elements = ", ".join(dict.fromkeys(_bare(member) for member in inner if member is not Ellipsis))
        return f"a list of {elements}" if elements else "a list"
    if origin in (dict, Mapping) or kind is dict:
        return "a mapping"
    return str(getattr(kind, "__qualname__", kind))


def _bare(kind: Any) -> str:
    text = type_text(kind)
    return text.removeprefix("an ").removeprefix("a ")


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _shown(value: Any) -> str:
    """A value as YAML has it, cut where it is long."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

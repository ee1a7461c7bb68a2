"""From overrides to one plain, resolved, checked dictionary.

    compose(["model=kl-f8", "cond=[text,semantic]", "seed=1"]) -> dict     what ``ldmkit run`` with these would use
    check(config) -> RunConfig      every part against its class, every other key against the kernel's own
    Composer(config_dir=None)       the same for many compositions, keeping what they share
    register()                      lets hydra.main see the option files of all plugins

``compose`` may be called again and again, also inside a run and in a program that uses Hydra itself: it leaves Hydra's
global state as it was. Every mistake in an override is one ConfigError, with the nearest valid name where there is one.
Imports hydra, and no torch; :func:`check` imports the parts.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import hydra.version as hydra_version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import GroupDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import setup_globals
from hydra.errors import MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from ldmkit.errors import ConfigError, LdmkitError, did_you_mean
from ldmkit.registry import overrides as checks
from ldmkit.registry.components import KINDS, MULTIPLE
from ldmkit.registry.config import RunConfig
from ldmkit.registry.discovery import kernel_conf, provided_twice, registry
from ldmkit.registry.schema import refuse_interpolations, typed

VERSION_BASE = "1.3"
CONFIG_NAME = "config"
_KEYS = tuple(field.name for field in dataclasses.fields(RunConfig))


class PluginConfigs(SearchPathPlugin):
    """Adds the ``conf`` folder of every plugin to Hydra's search path.

    Registered by us where it is needed, not found by Hydra in its own namespace: other Hydra programs in the same
    environment never see our options.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for plugin in registry().plugins:
            if plugin.config_dir is not None:
                search_path.append(f"ldmkit:{plugin.name}", f"file://{plugin.config_dir}")


def register() -> None:
    """Let every later use of Hydra in this process see the plugins' options."""
    Plugins.instance().register(PluginConfigs)


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the run's config for ``overrides``, resolved, as plain dicts, lists and scalars.

    Raises ConfigError, in one line, for whatever is wrong with an override.
    """
    return Composer().compose(overrides)


def check(config: Mapping[str, Any], kinds: Collection[str] = frozenset(KINDS)) -> RunConfig:
    """Check every node of a composed ``config`` against the class it is for, and return the kernel's own part.

    With ``kinds``, parts of other kinds are left alone: who loads a checkpoint needs the parts that it is made of.

    Raises ConfigError for names that no plugin provides, unknown and missing keys, and wrong types.
    """
    if not isinstance(config, Mapping):
        raise ConfigError("a config is a mapping of groups and keys")
    refuse_interpolations(config, "")
    run = _check_kernel(config)
    for kind, where, node in part_nodes(config):
        if kind not in kinds:
            continue
        if not isinstance(node, Mapping) or not isinstance(node.get("name"), str):
            leftover = kind in MULTIPLE and isinstance(node, Mapping)
            way = f"leave its keys out with ~{where}" if leftover else f"type {kind}=OPTION"
            raise ConfigError(f"{where} names no part; {way}")
        part = registry().part(kind, node["name"])
        if not hasattr(part, "Config"):
            _, plugin = registry().lookup(kind, node["name"])
            raise LdmkitError(f"{kind} '{node['name']}' of {plugin.label} has no nested class Config")
        typed(part.Config, node, where)
    return run


def part_nodes(config: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield (kind, path, node) for every part that a composed config names, ``cond.text`` being such a path."""
    for kind in KINDS:
        node = config[kind]
        if kind in MULTIPLE:
            if not isinstance(node or {}, Mapping) or not all(
                re.fullmatch(r"[\w-]+", str(name)) for name in node or {}
            ):
                raise ConfigError(f"{kind} is not a mapping from the names of its options to their keys")
            yield from ((kind, f"{kind}.{option}", inner) for option, inner in (node or {}).items())
        else:
            yield kind, kind, node


def _check_kernel(config: Mapping[str, Any]) -> RunConfig:
    for kind in (*KINDS, "scale"):
        if kind not in config:
            raise ConfigError(f"the config lacks {kind}; type {kind}=OPTION")
    own = {key: value for key, value in config.items() if key not in {*KINDS, "scale"}}
    return typed(RunConfig, own, "")


class Composer:
    """Composes configs from one state of the installed plugins and YAML files.

    ``config_dir`` is a directory of the user's own groups and recipes, as with ``--config-dir``.
    """

    def __init__(self, config_dir: str | Path | None = None) -> None:
        self.config_dir = Path(config_dir).absolute() if config_dir is not None else None
        self._bases: dict[tuple[str, ...], DictConfig] = {}
        if self.config_dir is not None and not self.config_dir.is_dir():
            raise ConfigError(f"--config-dir: there is no directory '{self.config_dir}'")
        setup_globals()

    @cached_property
    def loader(self) -> ConfigLoaderImpl:
        """Hydra's loader over our search path, which is the one that hydra.main will have."""
        path = ConfigSearchPathImpl()
        path.append("hydra", "pkg://hydra.conf")
        path.append("main", str(kernel_conf()))
        found: list[Any] = Plugins.instance().discover(SearchPathPlugin)
        for plugin in found if PluginConfigs in found else [*found, PluginConfigs]:
            plugin().manipulate_search_path(path)
        if self.config_dir is not None:
            path.append("command-line", f"file://{self.config_dir}")
        path.append("schema", "structured://")
        return ConfigLoaderImpl(path)

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Every config group but Hydra's own, with its options; those in a sub-folder as ``folder/option``."""
        folders = [group for group in self._folders("") if group != "hydra"]
        return {group: sorted(self._options(group)) for group in sorted({*folders, *KINDS})}

    def group_options(self, group: str) -> list[str] | None:
        """Options of ``group``, which may be one of Hydra's own such as ``hydra/launcher``; None if it is no group."""
        if group in self.groups:
            return self.groups[group]
        return self._options(group) or None if group.startswith("hydra/") else None

    def compose(self, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """As :func:`compose`."""
        parsed = [checks.parse(line, self.groups, _KEYS) for line in overrides]
        for override in parsed:
            self._check_name(override)
        for override in parsed:
            checks.check_single(override)
        checks.check_twice(parsed)
        chosen, keys = self._split(parsed)
        base = self.base([checks.line_of(override) for override in chosen])
        for override in keys:
            checks.check_key(override, base, self.groups)
        config = copy.deepcopy(base)
        with _translated(overrides):
            ConfigLoaderImpl._apply_overrides_to_config(keys, config)
        return self._resolved(config, overrides)

    def jobs(self, overrides: Sequence[str]) -> Iterator[list[str]]:
        """Yield the overrides of each job of a sweep, checking every element of it on the way.

        What a recipe sweeps over by itself comes first; ``overrides`` win over it.
        """
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        parsed = [checks.parse(line, self.groups, _KEYS) for line in overrides]
        for override in parsed:
            self._check_name(override)
        checks.check_twice(parsed)
        every = [*self._swept_by_recipe(parsed), *parsed]
        for override in every:
            override.config_loader = self.loader
        with _translated(overrides):
            batches = BasicSweeper.split_arguments(every, max_batch_size=None)
        for batch in batches:
            yield from (list(job) for job in batch)

    def ends(self, overrides: Sequence[str]) -> list[list[str]]:
        """The overrides of two jobs of a sweep that searches: with every axis at its one end, and at its other."""
        parsed = [checks.parse(line, self.groups, _KEYS) for line in overrides]
        for override in parsed:
            self._check_name(override)
        checks.check_twice(parsed)
        every = {override.key_or_group: override for override in [*self._swept_by_recipe(parsed), *parsed]}
        for override in every.values():
            override.config_loader = self.loader
        return [[checks.end(override, index) for override in every.values()] for index in (0, -1)]

    def hydra(self, overrides: Sequence[str]) -> DictConfig:
        """Hydra's own part of the config, with the launcher and the sweeper of a sweep."""
        parsed = [checks.parse(line, self.groups, _KEYS) for line in overrides]
        for override in parsed:
            self._check_name(override)
        chosen, keys = self._split(override for override in parsed if not override.is_sweep_override())
        base = self.base([checks.line_of(override) for override in chosen])
        own = [override for override in keys if override.key_or_group.startswith("hydra.")]
        for override in own:
            checks.check_key(override, base, self.groups)
        config = copy.deepcopy(base)
        with _translated(overrides):
            ConfigLoaderImpl._apply_overrides_to_config(own, config)
        found: DictConfig = config.hydra
        return found

    def _swept_by_recipe(self, parsed: Iterable[Override]) -> list[Override]:
        """What the chosen recipe names in ``hydra.sweeper.params``, as Hydra's sweeper reads it."""
        single = [checks.line_of(each) for each in self._split(parsed)[0] if not each.is_sweep_override()]
        params = self.base(single).hydra.sweeper.get("params") or {}
        return [checks.parse(f"{key}={value}", self.groups, _KEYS) for key, value in params.items()]

    def base(self, choices: Sequence[str] = ()) -> DictConfig:
        """Compose the options that ``choices`` name, with no key changed. Kept: do not change the result."""
        key = tuple(choices)
        if key not in self._bases:
            with _translated(choices), _version_base(), warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # Hydra only warns of a search path that is not there
                config = self.loader.load_configuration(CONFIG_NAME, list(choices), RunMode.RUN, from_shell=False)
                files = self.loader.compute_defaults_list(CONFIG_NAME, list(choices), RunMode.RUN).defaults
            if config.hydra.callbacks:
                raise ConfigError(f"hydra.callbacks: {checks.NO_PYTHON}")
            for file in files:
                if file.config_path and "/" in file.config_path and not file.config_path.startswith("hydra/"):
                    self._check_owner(file.config_path)
            self._bases[key] = config
        return self._bases[key]

    @cached_property
    def _in_defaults(self) -> set[str]:
        """Groups of which the run has an option without any override."""
        primary = self.loader.repository.load_config(CONFIG_NAME)
        entries = primary.defaults_list if primary is not None and primary.defaults_list else []
        return {entry.group for entry in entries if isinstance(entry, GroupDefault) and entry.group}

    def _check_name(self, override: Override) -> None:
        """Check all that can be told before anything is composed."""
        key = override.key_or_group
        options = self.group_options(key)
        try:
            if options is None and key.startswith("hydra/"):
                raise ConfigError(f"there is no group '{key}'{did_you_mean(key, self._hydra_groups)}")
            if options is None:
                checks.check_first_step(override, self.groups, _KEYS)
            elif not isinstance(override._value, dict):
                chosen = {key} if key.startswith("hydra/") else self._in_defaults
                checks.check_group(override, {**self.groups, key: options}, chosen)
        except ConfigError as error:
            raise ConfigError(f"{error}{registry().absent()}") from error

    def _split(self, parsed: Iterable[Override]) -> tuple[list[Override], list[Override]]:
        """Overrides that choose options, and those that set keys; Hydra has to see its search path with the first."""
        chosen: list[Override] = []
        keys: list[Override] = []
        for override in parsed:
            is_group = self.group_options(override.key_or_group) is not None and not isinstance(override._value, dict)
            is_path = override.key_or_group == "hydra.searchpath"
            (chosen if is_group or is_path else keys).append(override)
        return chosen, keys

    def _check_owner(self, file: str) -> None:
        """Refuse an option file that two places carry, since Hydra would silently take the first."""
        owners = [plugin for plugin in registry().plugins if _has(plugin.config_dir, file)]
        if len(owners) > 1:
            raise ConfigError(provided_twice(f"the option file {file}.yaml", owners))
        places = (("ldmkit", kernel_conf()), ("--config-dir", self.config_dir))
        others = [name for name, place in places if _has(place, file)]
        if len(owners) + len(others) > 1:
            labels = " and ".join([*others, *(plugin.label for plugin in owners)])
            ways = "".join(f", or leave one out with LDMKIT_DISABLE={plugin.name}" for plugin in owners)
            raise ConfigError(f"the option file {file}.yaml is provided by {labels}; rename yours{ways}")

    def _resolved(self, config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
        """Turn ``config``, which is used up, into plain values."""
        with _translated(overrides):
            OmegaConf.set_struct(config, False)
            config.pop("hydra", None)
            plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
        for kind in MULTIPLE:
            if kind in plain and plain[kind] is None:
                plain[kind] = {}
        _check_kernel(plain)
        return plain

    @property
    def _hydra_groups(self) -> list[str]:
        return [f"hydra/{group}" for group in self._folders("hydra")]

    def _folders(self, parent: str) -> list[str]:
        with _version_base():
            return list(self.loader.get_group_options(parent, ObjectType.GROUP))

    def _options(self, group: str) -> list[str]:
        with _version_base():
            options = list(self.loader.get_group_options(group, ObjectType.CONFIG))
        for folder in self._folders(group):
            options += [f"{folder}/{option}" for option in self._options(f"{group}/{folder}")]
        return options


def _has(directory: Path | None, file: str) -> bool:
    return directory is not None and (directory / f"{file}.yaml").is_file()


@contextmanager
def _version_base() -> Iterator[None]:
    """Compose by the rules of Hydra 1.3, whatever the program around us has chosen for itself."""
    before: Any = copy.copy(Singleton._instances.get(hydra_version.VersionBase))
    hydra_version.setbase(VERSION_BASE)
    try:
        yield
    finally:
        if before is None:
            Singleton._instances.pop(hydra_version.VersionBase, None)
        else:
            hydra_version.VersionBase.set_instance(before)


@contextmanager
def _translated(overrides: Sequence[str]) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into one ConfigError."""
    try:
        yield
    except LdmkitError:
        raise
    except Exception as error:  # Hydra, OmegaConf, yaml and the file system, with many classes each
        raise ConfigError(_translate(error, overrides)) from error


def _translate(error: BaseException, overrides: Sequence[str]) -> str:
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    where = getattr(cause, "full_key", None)
    if isinstance(error, MissingConfigException):
        return f"there is no option file {error.missing_cfg_file}.yaml{registry().absent()}"
    if isinstance(cause, MissingMandatoryValue):
        return f"{where} has no value; type {where}=VALUE"
    if isinstance(cause, InterpolationKeyError) and (key := re.search(r"'([^']*)' not found", str(cause))):
        root = cause.parent_node._get_root() if cause.parent_node is not None else {}
        names = sorted(_paths(root)) if isinstance(root, DictConfig) else []
        hint = did_you_mean(key[1], names).split(" There is:")[0].rstrip(";")
        return f"{where} reads ${{{key[1]}}}, which the config does not have{hint}"
    text = " ".join(str(cause).partition("full_key:")[0].split())[:300] or type(cause).__name__
    asked = f" (of {' '.join(overrides)})" if overrides else ""
    return f"{f'{where}: ' if where else ''}{text}{asked}"


def _paths(node: DictConfig, above: str = "") -> Iterator[str]:
    for key in node:
        if key != "hydra":
            yield f"{above}{key!s}"
            inner = node._get_node(key)
            if isinstance(inner, DictConfig) and not inner._is_interpolation() and not inner._is_none():
                yield from _paths(inner, f"{above}{key!s}.")

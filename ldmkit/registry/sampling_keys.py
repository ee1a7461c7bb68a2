"""Keys of a run's config that only sampling reads: with another value of them nothing is trained again.

These are all keys of the groups in ``SAMPLING``, and those that a conditioner's class lists in ``sampling_only``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from ldmkit.errors import ConfigError, did_you_mean
from ldmkit.registry.discovery import registry

SAMPLING = ("sampler", "guidance")
"""Groups that no training reads."""


def trained(kind: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """``node``, a part's config, without the keys that only sampling reads."""
    return {key: value for key, value in node.items() if key not in _only_sampling(kind, node)}


def with_settings(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A run's ``config`` with other values of its sampling keys, by their paths: ``{"guidance.scale": 4}``.

    Raises ConfigError for a path that it does not have, or that training reads.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(config))
    keys = set(_paths(config))
    for path, value in settings.items():
        if path not in keys:
            raise ConfigError(f"{path} is no key of this run that sampling reads{did_you_mean(path, keys)}")
        *above, key = path.split(".")
        node = changed
        for name in above:
            node = node[name]
        node[key] = value
    return changed


def _paths(config: Mapping[str, Any]) -> Iterator[str]:
    for kind in SAMPLING:
        yield from (f"{kind}.{key}" for key in config[kind] if key != "name")
    for option, node in config["cond"].items():
        yield from (f"cond.{option}.{key}" for key in node if key in _only_sampling("cond", node))


def _only_sampling(kind: str, node: Mapping[str, Any]) -> frozenset[str]:
    return getattr(registry().part(kind, node["name"]), "sampling_only", frozenset())

"""The number that a run gives back to a sweep that searches, chosen by the config's key ``returns``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldmkit.errors import ConfigError, did_you_mean
from ldmkit.registry.discovery import registry

OWN = ("samples", "seconds")
"""Sections of ``metrics.json`` that no metric has to fill."""


def check_returns(config: Mapping[str, Any]) -> None:
    """Raise ConfigError where ``returns`` names a section that no metric of the run fills."""
    if config["returns"] is None:
        return
    section, _, last = config["returns"].partition(".")
    filled = {name: registry().part("metric", node["name"]).section for name, node in config["metric"].items()}
    if section not in (*filled.values(), *OWN):
        raise ConfigError(
            f"returns={config['returns']}: no metric of this run measures '{section}'"
            f"{did_you_mean(section, {*filled.values(), *OWN})}"
        )
    if not last:
        raise ConfigError(f"returns={section} names no number; type returns={section}.NAME")


def read_returned(directory: Path, returns: str | None) -> float | None:
    """Read the number ``returns``, as ``prompt.all``, of the finished run in ``directory``; None for none."""
    if returns is None:
        return None
    from ldmkit.artifacts.checkpoint import read_json  # imports torch

    measured = read_json(directory / "metrics.json")
    section, _, last = returns.partition(".")
    numbers = measured.get(section) or {}
    if last not in numbers:
        raise ConfigError(f"returns={returns}: this run measured no '{last}' of {section}{did_you_mean(last, numbers)}")
    return float(numbers[last])

"""What two runs differ in: configs, numbers, stages, packages; read without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ldmkit.records import RunRecord

FIRST, SECOND = "first", "second"
"""The names of the two runs in what is found; one that lacks a key has no entry for it."""

Sides = Mapping[str, Any]
"""Values by FIRST and SECOND."""


@dataclass(frozen=True)
class Difference:
    """What ``first`` and ``second`` differ in.

    ``config`` and ``versions`` have what is not the same, by key; ``metrics`` all numbers of both, with their change.
    ``stages`` are those whose results lie in the store: their digests, and whether they are ``shared``.
    """

    first: RunRecord
    second: RunRecord
    config: Mapping[str, Sides]
    metrics: Mapping[str, Sides]
    stages: Mapping[str, Sides]
    versions: Mapping[str, Sides]

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            FIRST: {"id": self.first.id, "state": self.first.state, "command": self.first.record.get("command")},
            SECOND: {"id": self.second.id, "state": self.second.state, "command": self.second.record.get("command")},
            "config": self.config,
            "metrics": self.metrics,
            "stages": self.stages,
            "versions": self.versions,
        }


def difference(first: RunRecord, second: RunRecord) -> Difference:
    """Compare two runs."""
    stages = beside(_digests(first), _digests(second))
    return Difference(
        first,
        second,
        config=unlike(beside(dict(_leaves(first.config)), dict(_leaves(second.config)))),
        metrics={name: _with_change(sides) for name, sides in beside(first.numbers, second.numbers).items()},
        stages={name: {**sides, "shared": sides.get(FIRST) == sides.get(SECOND)} for name, sides in stages.items()},
        versions=unlike(beside(_packages(first), _packages(second))),
    )


def beside(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Both values of every key, in the order of the first, then of the second."""
    return {
        key: {side: values[key] for side, values in ((FIRST, first), (SECOND, second)) if key in values}
        for key in dict.fromkeys([*first, *second])
    }


def unlike(values: Mapping[str, Sides]) -> dict[str, Sides]:
    """Those keys that one side lacks, or whose values are not the same."""
    return {key: sides for key, sides in values.items() if len(sides) < 2 or sides[FIRST] != sides[SECOND]}


def _with_change(sides: Sides) -> Sides:
    if len(sides) < 2 or not all(math.isfinite(value) for value in sides.values()):
        return sides
    return {**sides, "change": sides[SECOND] - sides[FIRST]}


def _leaves(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a config by their paths. Of a scale the name, since its numbers stand where they are read."""
    for key, value in config.items():
        if above == "" and key == "scale" and isinstance(value, dict):
            yield "scale", value.get("name")
        elif isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _digests(run: RunRecord) -> dict[str, str]:
    return {stage["name"]: stage["digest"] for stage in run.stages if stage.get("digest")}


def _packages(run: RunRecord) -> dict[str, str]:
    """What a run's numbers depend on beside its config: packages, the device, the code of each part."""
    parts = {
        f"code of {part['kind']} '{part['name']}'": f"{part['distribution']} {part['version']}, {part['code'][:12]}"
        for part in run.record.get("parts", [])
        if part.keys() >= {"kind", "name", "distribution", "version", "code"}
    }
    return {**run.record.get("versions", {}), **parts}

"""Objectives for the tests, from the keys that differ from a plain one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Objective
from ldmkit.registry.schema import typed
from ldmkit.values import Levels

PLAIN: dict[str, Any] = {
    "name": "plain",
    "schedule": {
        "kind": "linear",
        "steps": 1000,
        "start": 0.00085,
        "end": 0.012,
        "tau": 1.0,
        "shift": 1.0,
        "zero_terminal_snr": False,
    },
    "times": {"distribution": "uniform", "stratified": False, "mean": 0.0, "std": 1.0},
    "weight": "uniform",
    "min_snr_gamma": 5.0,
    "p2_gamma": 1.0,
    "norm": "l2",
    "offset_noise": 0.0,
    "variance": "fixed",
}

Build = Callable[..., Any]


@pytest.fixture(scope="session")
def build() -> Build:
    """Return ``build(Part, {"schedule.kind": "cosine"})``: the objective with those keys."""

    def build(part: Any, changes: Mapping[str, Any] | None = None) -> Objective:
        node = copy.deepcopy(PLAIN)
        if part.__name__ == "EDM":
            node["sigma_data"] = 1.0
        for path, value in (changes or {}).items():
            *groups, key = path.split(".")
            inner = node
            for group in groups:
                inner = inner[group]
            assert key in inner
            inner[key] = value
        built: Objective = part(typed(part.Config, node, "objective"))
        return built

    return build


def rows(count: int, step: int = 0) -> RowRandom:
    """Random streams of ``count`` rows of a training step."""
    return RowRandom.of(0, "denoiser", step, range(count))


@pytest.fixture
def latents() -> Callable[..., torch.Tensor]:
    """Return ``latents(count, step)``: standard normal latents in double precision, other ones for each ``step``."""
    return lambda count, step=99: rows(count, step).normal("z0", (4, 8, 8), dtype=torch.float64)


@pytest.fixture
def random_levels() -> Levels:
    """64 levels anywhere on the quarter circle, in double precision."""
    angle = torch.linspace(0.01, 1.56, 64, dtype=torch.float64)
    return Levels(angle.cos(), angle.sin(), angle)

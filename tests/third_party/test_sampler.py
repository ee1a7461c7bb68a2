"""A sampler that somebody else wrote is one folder, and covered by the suite by being registered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ldmkit.registry.discovery import registry
from ldmkit.testing import SamplerSuite, check

PART = '''
from dataclasses import dataclass

from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, OnStep, Sampler, unwatched
from ldmkit.specs import Spacing
from ldmkit.values import Levels


class Part(Sampler):
    """The midpoint method for the probability-flow ODE dz/dsigma = eps of z / alpha."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        steps: int
        spacing: Spacing

    order = 2

    def __init__(self, config: Config) -> None:
        self.steps, self.spacing = config.steps, config.spacing

    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1

    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        middle = levels.at((levels.log_snr[:-1] + levels.log_snr[1:]) / 2)
        for i in range(len(levels) - 1):
            x0 = denoise(z, levels[i])
            on_step(i, levels[i], z, x0)
            eps = (z - levels.alpha[i] * x0) / levels.sigma[i]
            if levels.alpha[i] > 0 and levels.sigma[i + 1] > 0:
                half = middle[i]
                ahead = half.alpha * x0 + half.sigma * eps
                eps = (ahead - half.alpha * denoise(ahead, half)) / half.sigma
                x0 = (z - levels.sigma[i] * eps) / levels.alpha[i]
            z = levels.alpha[i + 1] * x0 + levels.sigma[i + 1] * eps
        return z
'''
OPTION = """# The midpoint method: second order, two evaluations a step.
name: midpoint
steps: 10 # 1 or more; 2 evaluations of the denoiser each, the last 1
spacing: karras # where the steps lie
"""


@pytest.fixture
def results(install: Callable[..., Path], hook: Callable[..., str]) -> Callable[[str], dict[str, tuple[str, str]]]:
    """Return what the suite says of every registered option called midpoint, by check."""

    def results(part: str) -> dict[str, tuple[str, str]]:
        files = {"part.py": part, "conf/sampler/midpoint.yaml": OPTION}
        install("ldmkit-midpoint", hook("ldmkit_midpoint", "sampler", "midpoint"), files=files)
        assert ("sampler", "midpoint") in [(kind, option) for kind, option, _ in registry().options()]
        suite = type("Registered", (SamplerSuite,), {"component": "midpoint"})
        return {name: (status, why) for name, status, why in check(suite)}

    return results


def test_it_passes_every_check(results: Callable[[str], dict[str, tuple[str, str]]]) -> None:
    told = results(PART)
    assert {status for status, _ in told.values()} == {"passed"}, told
    assert len(told) > 15


def test_a_slip_in_its_formula_shows_in_its_order(results: Callable[[str], dict[str, tuple[str, str]]]) -> None:
    told = results(PART.replace("(levels.log_snr[:-1] + levels.log_snr[1:]) / 2", "levels.log_snr[:-1] + 0.1"))
    status, why = told["test_it_follows_the_exact_ode_with_its_stated_order"]
    assert status == "failed"
    assert "to fall with order 2" in why

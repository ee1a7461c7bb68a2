"""Parts built from their option files, and a denoiser that is told what to say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ldmkit_guidance
import pytest
import torch
import yaml
from torch import Tensor

from ldmkit.models import build_part
from ldmkit.protocols import Guidance
from ldmkit.values import Conditioning, Levels

CONF = Path(ldmkit_guidance.__file__).parent / "conf" / "guidance"


@pytest.fixture
def guidance() -> Callable[..., Guidance]:
    """Return ``guidance(option, key=value, ...)``: the part of an option file with some keys changed."""

    def make(option: str, **changes: Any) -> Guidance:
        part: Guidance = build_part("guidance", {**yaml.safe_load((CONF / f"{option}.yaml").read_text()), **changes})
        return part

    return make


@dataclass
class Gaussians:
    """The exact denoiser of data that is N(mean, std^2) under each conditioning, whose vector says (mean, std).

    ``by`` has the conditioning for each set of conditioners. ``other`` is what the weaker and the perturbed one say.
    """

    by: Mapping[tuple[str, ...], tuple[float, float]]
    rows: int = 3
    other: Gaussians | None = None
    calls: list[int] = field(default_factory=list)
    prepared: list[int] = field(default_factory=list)

    @property
    def conditioners(self) -> Sequence[str]:
        return max(self.by, key=len)

    def told(self, conditioners: Collection[str]) -> Conditioning:
        (key,) = (key for key in self.by if set(key) == set(conditioners))
        return Conditioning(vector=torch.tensor([self.by[key]] * self.rows, dtype=torch.float64))

    def prepare(self, conditioning: Conditioning) -> Tensor | None:
        self.prepared.append(0 if conditioning.vector is None else len(conditioning.vector))
        return conditioning.vector

    def __call__(self, z: Tensor, level: Levels, prepared: Tensor) -> Tensor:
        self.calls.append(len(z))
        return exact(prepared[:, :1, None, None], prepared[:, 1:, None, None], z, level)

    def perturbed(self, where: str) -> Gaussians:
        assert self.other is not None
        return self.other

    def weaker(self) -> Gaussians:
        assert self.other is not None
        return self.other

    def guided(self, part: Guidance) -> Callable[[Tensor, Levels], Tensor]:
        """What ``part`` makes of it, as the kernel asks."""
        return part.guide(self, self.told(self.conditioners), self.told(()))


def exact(mean: Any, std: Any, z: Tensor, level: Levels) -> Tensor:
    """E[z0 | z_t] of data N(mean, std^2): precision-weighted means."""
    alpha, sigma = level.alpha, level.sigma
    return (alpha * std**2 * z + sigma**2 * mean) / (alpha**2 * std**2 + sigma**2)


@pytest.fixture
def gaussians() -> type[Gaussians]:
    return Gaussians


@pytest.fixture
def exact_x0() -> Callable[..., Tensor]:
    return exact


@pytest.fixture
def z() -> Tensor:
    return torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(params=[(0.6, 0.8), (0.999, 0.0447), (0.068, 0.9977), (0.3, 0.7)], ids=["vp", "clean", "noisy", "flow"])
def level(request: pytest.FixtureRequest) -> Levels:
    """A noise level of a variance-preserving schedule, or of a straight flow."""
    alpha, sigma = request.param
    return Levels(*(torch.tensor(value, dtype=torch.float64) for value in (alpha, sigma, 500.0)))

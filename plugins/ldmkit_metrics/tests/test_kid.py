"""KID is the unbiased estimate of its definition."""

from __future__ import annotations

import pytest
import torch
from ldmkit_metrics.kid import squared_mmd


def normal(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def pair_by_pair(one: torch.Tensor, other: torch.Tensor) -> float:
    """Gretton et al. 2012, equation 3, in Python's own numbers."""

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return (sum(a * b for a, b in zip(x.tolist(), y.tolist(), strict=True)) / len(x) + 1) ** 3

    def within(rows: torch.Tensor) -> float:
        n = len(rows)
        return sum(kernel(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    between = sum(kernel(x, y) for x in one for y in other) / (len(one) * len(other))
    return within(one) + within(other) - 2 * between


def test_it_is_its_definition_pair_by_pair() -> None:
    one, other = normal(7, 5, 0), normal(9, 5, 1) + 0.5
    assert squared_mmd(one, other) == pytest.approx(pair_by_pair(one, other), rel=1e-10)


def test_it_is_that_of_torchmetrics_for_sets_of_one_size() -> None:
    from torchmetrics.image.kid import poly_mmd

    one, other = normal(60, 16, 0), 1.2 * normal(60, 16, 1)
    assert squared_mmd(one, other) == pytest.approx(poly_mmd(one.double(), other.double()).item(), rel=1e-10)


def test_the_size_of_the_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = normal(50, 8, 0), normal(40, 8, 1)
    before = squared_mmd(one, other)
    monkeypatch.setattr("ldmkit_metrics.kid.ROWS", 7)
    assert squared_mmd(one, other) == pytest.approx(before, rel=1e-12)


def test_of_sets_from_one_distribution_it_is_zero_in_the_mean() -> None:
    estimates = torch.tensor([squared_mmd(normal(40, 4, seed), normal(30, 4, seed + 1000)) for seed in range(200)])
    assert (estimates < 0).any()
    assert abs(estimates.mean()) < 4 * estimates.std() / len(estimates) ** 0.5

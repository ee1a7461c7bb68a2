"""The Frechet distance is that of its definition, whatever the covariances."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from ldmkit_metrics.frechet import Moments, frechet_distance


def moments(features: torch.Tensor, *batches: int) -> Moments:
    found = Moments()
    for part in features.split(list(batches) or [len(features)]):
        found.update(part)
    return found


def normal(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Features with correlated columns."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=draw, dtype=torch.float64)
    return torch.randn(count, width, generator=draw, dtype=torch.float64) @ mixing


def by_definition(one: torch.Tensor, other: torch.Tensor) -> float:
    """The distance with scipy's root of the product of the covariances."""
    (m1, s1), (m2, s2) = ((x.mean(0).numpy(), np.cov(x.numpy(), rowvar=False)) for x in (one, other))
    root = scipy.linalg.sqrtm(s1 @ s2)
    return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(root).real)


def test_moments_are_mean_and_unbiased_covariance_whatever_the_batches() -> None:
    features = normal(50, 6)
    for found in (moments(features), moments(features, 1, 30, 0, 19)):
        assert found.count == 50
        np.testing.assert_allclose(found.mean, features.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(features.numpy(), rowvar=False), rtol=1e-10, atol=1e-12)


def test_a_large_mean_takes_no_digits_from_the_covariance() -> None:
    features = normal(64, 4)
    near, far = moments(features, 32, 32).covariance, moments(features + 1e6, 32, 32).covariance
    np.testing.assert_allclose(far, near, rtol=1e-6)


def test_the_distance_of_two_gaussians_on_a_line_is_the_closed_form() -> None:
    one, other = normal(40, 1), 3 * normal(40, 1, seed=1) + 5
    apart, widths = one.mean() - other.mean(), one.std() - other.std()
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(float(apart**2 + widths**2))


def test_the_distance_is_that_of_the_definition_with_scipys_root() -> None:
    one, other = normal(200, 16), 0.5 * normal(150, 16, seed=1) + 0.3
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(by_definition(one, other), rel=1e-9)


def test_the_distance_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Flat(torch.nn.Module):
        num_features = 12

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.double()

    one, other = normal(100, 12).float(), normal(80, 12, seed=1).float()
    theirs = FrechetInceptionDistance(feature=Flat()).set_dtype(torch.float64)
    theirs.update(one, real=True)
    theirs.update(other, real=False)
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(theirs.compute().item(), rel=1e-8)


def test_fewer_pictures_than_features_have_the_distance_of_their_own_subspace() -> None:
    one, other = normal(5, 3), normal(6, 3, seed=1)
    turn = torch.linalg.qr(normal(40, 40, seed=2))[0][:3]  # three orthonormal rows of 40 numbers
    inside = frechet_distance(moments(one), moments(other))
    assert frechet_distance(moments(one @ turn), moments(other @ turn)) == pytest.approx(inside, rel=1e-6)


def test_equal_sets_are_at_distance_nothing_and_the_order_does_not_matter() -> None:
    one, other = moments(normal(10, 30)), moments(normal(12, 30, seed=1))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6 * float(one.covariance.trace()))
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-9)


def test_turning_all_features_changes_nothing() -> None:
    one, other = normal(60, 8), normal(60, 8, seed=1)
    turn = torch.linalg.qr(normal(8, 8, seed=2))[0]
    before = frechet_distance(moments(one), moments(other))
    assert frechet_distance(moments(one @ turn), moments(other @ turn)) == pytest.approx(before, rel=1e-9)

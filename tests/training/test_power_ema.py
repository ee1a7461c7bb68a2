"""Power-function averages have the profile that they are named after, and others can be made of them afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ldmkit.training.ema import EMA
from ldmkit.training.power_ema import WIDEST, WIDTHS, Profile, combination, power_function


def shares(profile: Profile, updates: int) -> np.ndarray:
    """Integral of the profile over each update: t^(gamma + 1) / step^(gamma + 1), differenced."""
    ends = np.minimum(np.arange(updates + 1) / profile.step, 1.0) ** (profile.gamma + 1)
    return np.diff(ends)


@pytest.mark.parametrize(("width", "gamma"), [(0.05, 16.97), (0.10, 6.94), (WIDEST - 1e-9, 0.0)])
def test_widths_have_the_exponents_of_the_paper(width: float, gamma: float) -> None:
    assert Profile(width, 1).gamma == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("width", [0.015, 0.05, 0.10, 0.25])
def test_the_width_is_the_standard_deviation_of_the_profile(width: float) -> None:
    profile, t = Profile(width, 1), (np.arange(200_000) + 0.5) / 200_000
    p = (profile.gamma + 1) * t**profile.gamma
    mean = (p * t).mean()
    assert p.mean() == pytest.approx(1, abs=1e-5)
    assert np.sqrt((p * (t - mean) ** 2).mean()) == pytest.approx(width, rel=1e-4)


def test_the_product_of_two_profiles_is_its_integral() -> None:
    one, other = Profile(0.05, 70), Profile(0.10, 100)
    t = (np.arange(200_000) + 0.5) / 2000
    p = [(x.gamma + 1) * (t / x.step) ** x.gamma / x.step * (t <= x.step) for x in (one, other)]
    assert one.dot(other) == pytest.approx(other.dot(one)) == pytest.approx((p[0] * p[1]).sum() / 2000, rel=1e-4)


@pytest.mark.parametrize("width", [0.05, 0.10, 0.2])
def test_running_averages_weigh_each_update_by_the_profile(width: float) -> None:
    """Update t sets weight t to 1, so that the average of it is the share of all later ones."""
    module = nn.Linear(40, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = EMA(module, power_function(width))
    for step in range(1, 41):
        with torch.no_grad():
            module.weight[0, step - 1] = 1
        ema.update(step)
    expected = shares(Profile(width, 40), 40)[::-1].cumsum()[::-1]
    np.testing.assert_allclose(ema.averages["weight"][0].numpy(), expected, atol=1e-5)


def test_a_stored_profile_is_made_of_itself_alone() -> None:
    stored = [Profile(width, step) for step in (20, 40, 60) for width in WIDTHS]
    weights, left = combination(stored, Profile(0.10, 40))
    np.testing.assert_allclose(weights, [0, 0, 0, 1, 0, 0], atol=1e-6)
    assert left < 1e-6


@pytest.mark.parametrize("step", [800, 1000])
@pytest.mark.parametrize("width", [0.03, 0.07, 0.12, 0.2])
def test_averages_of_other_widths_are_those_that_training_would_have_kept(width: float, step: int) -> None:
    """Weights on a random walk that settles, averaged directly with the wanted profile and out of stored averages."""
    updates, stored = 1000, [Profile(w, s) for s in range(50, 1001, 50) for w in WIDTHS]
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((updates, 64)) / np.sqrt(np.arange(1, updates + 1))[:, None], axis=0)
    usable = [profile for profile in stored if profile.step <= step]
    weights, left = combination(usable, Profile(width, step))
    made = weights @ np.array([shares(profile, updates) @ walk for profile in usable])
    direct = shares(Profile(width, step), updates) @ walk
    nearest = min(np.linalg.norm(shares(profile, updates) @ walk - direct) for profile in usable)
    assert np.linalg.norm(made - direct) < 0.1 * nearest
    assert np.linalg.norm(made - direct) < 0.003 * np.linalg.norm(direct)
    assert left < 0.05
    assert weights.sum() == pytest.approx(1)


def test_many_averages_need_no_condition_to_sum_to_one() -> None:
    """Then the weights are those of the paper, which are least squares and nothing else."""
    stored = [Profile(width, step) for step in range(50, 1001, 50) for width in WIDTHS]
    wanted = Profile(0.15, 1000)
    products = [[one.dot(other) for other in stored] for one in stored]
    papers = np.linalg.solve(products, [one.dot(wanted) for one in stored])
    assert np.abs(papers - combination(stored, wanted)[0]).max() < 0.02 * np.abs(papers).max()


def test_a_profile_that_is_narrower_than_the_snapshots_are_dense_is_said_to_be_off() -> None:
    stored = [Profile(width, step) for step in (500, 1000) for width in WIDTHS]
    assert combination(stored, Profile(0.015, 1000))[1] > 0.2

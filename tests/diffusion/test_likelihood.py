"""The likelihood of the probability-flow ODE is the density of the data where that is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.likelihood import log_likelihood
from ldmkit.testing.closed_forms import Gaussian, Mixture, log_snr_ramp
from ldmkit.values import Levels


def rows(count: int) -> RowRandom:
    return RowRandom.of(0, "likelihood", 0, range(count))


def latents(count: int) -> Tensor:
    return rows(count).normal("latents", (2, 2, 3), dtype=torch.float64)


@pytest.mark.parametrize("data", [Gaussian(), Mixture()], ids=["gaussian", "mixture"])
def test_it_is_the_density_of_the_data(data: Gaussian | Mixture) -> None:
    levels = log_snr_ramp(-20.0, 8.0, 70)
    got = log_likelihood(data.denoise, latents(4), levels, rows(4))
    torch.testing.assert_close(got, data.log_density(latents(4), levels[-1]), rtol=0, atol=2e-3)


def test_its_error_falls_with_the_fourth_order() -> None:
    data, errors = Mixture(), []
    for steps in (20, 40):
        levels = log_snr_ramp(-14.0, 6.0, steps)
        exact = log_likelihood(data.denoise, latents(1), log_snr_ramp(-14.0, 6.0, 100), rows(1))
        errors.append((log_likelihood(data.denoise, latents(1), levels, rows(1)) - exact).abs().max().item())
    assert errors[0] / errors[1] > 12  # 2^4, but for the higher orders


def test_levels_of_another_scale_give_the_density_of_their_own_latents() -> None:
    """With alpha + sigma = 1, as in rectified flow: the density of z counts, not that of z at unit variance."""
    data, unit = Gaussian(), log_snr_ramp(-20.0, 8.0, 70)
    total = unit.alpha + unit.sigma
    levels = Levels(unit.alpha / total, unit.sigma / total, unit.t)
    got = log_likelihood(data.denoise, latents(4), levels, rows(4))
    torch.testing.assert_close(got, data.log_density(latents(4), levels[-1]), rtol=0, atol=2e-3)


def test_random_projections_are_right_on_average() -> None:
    data, levels = Gaussian(), log_snr_ramp(-14.0, 4.0, 20)
    z = latents(1).expand(200, -1, -1, -1)
    got = log_likelihood(data.denoise, z, levels, rows(200), probes=1)
    exact = log_likelihood(data.denoise, z[:1], levels, rows(1)).item()
    assert got.std() > 0.01
    assert got.mean().item() == pytest.approx(exact, abs=4 * got.std().item() / 200**0.5)


def test_projections_of_signs_are_exact_where_elements_are_independent() -> None:
    data, levels = Mixture(), log_snr_ramp(-14.0, 4.0, 20)
    got = log_likelihood(data.denoise, latents(3), levels, rows(3), probes=1)
    torch.testing.assert_close(got, log_likelihood(data.denoise, latents(3), levels, rows(3)), rtol=0, atol=1e-9)

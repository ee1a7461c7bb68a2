"""Weights are those of the papers, and the same loss whatever the network predicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ldmkit_objectives.edm import EDM
from ldmkit_objectives.eps import Eps
from ldmkit_objectives.flow import Flow
from ldmkit_objectives.v import V
from ldmkit_objectives.weights import Weight
from ldmkit_objectives.x0 import X0
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError
from ldmkit.values import Levels

Latents = Callable[..., Tensor]


def weight_of(part: Any, level: Levels) -> Tensor:
    """What an error of 1 in the prediction of ``part`` counts at ``level``."""
    weighted: Tensor = part.weight(torch.ones_like(level.alpha), level, part.eps_per_raw(level))
    return weighted


FORMULAS: dict[Any, Callable[[Tensor, Any], Tensor]] = {
    Eps: lambda snr, least: least / snr,
    X0: lambda snr, least: least,
    V: lambda snr, least: least / (snr + 1),
    EDM: lambda snr, least: least / (snr + 1),
    Flow: lambda snr, least: least / (snr.sqrt() + 1).square(),
}


@pytest.mark.parametrize("gamma", [1.0, 5.0])
@pytest.mark.parametrize("part", FORMULAS, ids=lambda part: part.__name__)
def test_min_snr_has_its_form_in_every_parameterisation(
    part: Any, gamma: float, build: Any, random_levels: Levels
) -> None:
    objective = build(part, {"weight": "min-snr", "min_snr_gamma": gamma})
    level = objective.scaled(random_levels)
    snr = (level.alpha / level.sigma).square()
    expected = FORMULAS[part](snr, snr.clamp(max=gamma))
    torch.testing.assert_close(weight_of(objective, level), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_p2_is_its_formula_on_the_error_of_eps(gamma: float, build: Any, random_levels: Levels) -> None:
    objective = build(Eps, {"weight": "p2", "p2_gamma": gamma})
    snr = (random_levels.alpha / random_levels.sigma).square()
    torch.testing.assert_close(weight_of(objective, random_levels), 1 / (1 + snr) ** gamma)


@pytest.mark.parametrize("kind", ["min-snr", "p2"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "edm"])
def test_one_estimate_has_one_loss_in_every_parameterisation(
    kind: str, schedule: str, build: Any, latents: Latents
) -> None:
    """The networks answer differently, but all believe the same z0; flow is told of z_t in a scale of its own."""
    z0, believed = latents(32), latents(32) + 0.1 * latents(32, step=7)

    def loss(objective: Any) -> Tensor:
        part = build(objective, {"weight": kind, "schedule.kind": schedule})
        level = part.training_levels(RowRandom.of(0, "denoiser", 0, range(32)))
        at = Levels(level.alpha.double(), level.sigma.double(), level.t).beside(z0)

        def network(z_t: Tensor, t: Tensor, conditioning: None) -> Tensor:
            prediction: Tensor = part.target(believed, (z_t - at.alpha * believed) / at.sigma, at)
            return prediction

        found: Tensor = part.loss(network, z0, None, RowRandom.of(0, "denoiser", 0, range(32)))
        return found

    losses = torch.stack([loss(part).double() for part in FORMULAS])
    torch.testing.assert_close(losses, losses[:1].expand_as(losses), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("part", FORMULAS, ids=lambda part: part.__name__)
def test_uniform_counts_what_the_network_predicts_alike_everywhere(
    part: Any, build: Any, random_levels: Levels
) -> None:
    assert torch.equal(weight_of(build(part), random_levels), torch.ones(64, dtype=torch.float64))


def learned() -> Weight:
    return Weight("learned", min_snr_gamma=5.0, p2_gamma=1.0)


def test_a_learned_weight_begins_as_the_uniform_one(random_levels: Levels) -> None:
    error = torch.rand(64, dtype=torch.float64)
    assert torch.equal(learned()(error, random_levels, torch.ones(64)), error)


def test_a_learned_weight_finds_the_size_of_the_error_at_each_level(random_levels: Levels) -> None:
    """error / exp(u) + u is least where u is the logarithm of the error; all levels then count alike."""
    weight, error = learned().double(), torch.linspace(3, -3, 64, dtype=torch.float64).exp()
    optimizer = torch.optim.LBFGS(weight.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = weight(error, random_levels, torch.ones(64)).mean()
        loss.backward()
        return loss

    optimizer.step(step)
    u = weight.log_variance(random_levels).detach()
    assert (u - error.log()).abs().max() < 0.05
    assert step().item() == pytest.approx(1 + error.log().mean().item(), abs=1e-3)


def test_a_learned_weight_is_trained_saved_and_finite_at_both_ends() -> None:
    weight = learned()
    assert set(weight.state_dict()) == {"coefficients"}
    ends = Levels(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.zeros(2))
    loss = weight(torch.ones(2), ends, torch.ones(2))
    loss.sum().backward()
    assert weight.coefficients.grad is not None
    assert weight.coefficients.grad.isfinite().all()
    assert math.isfinite(loss.sum().item())


@pytest.mark.parametrize("key", ["min_snr_gamma", "p2_gamma"])
def test_numbers_out_of_range_are_refused_by_name(key: str, build: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^objective\.{key} is 0\.0 but must be more than 0$"):
        build(V, {key: 0.0})

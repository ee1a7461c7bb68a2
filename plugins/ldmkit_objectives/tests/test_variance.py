"""Learned variances: the range they are interpolated in, and the bound that trains them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ldmkit_objectives.eps import Eps
from ldmkit_objectives.flow import Flow
from ldmkit_objectives.v import V
from ldmkit_objectives.variance import log_variance, step_kl
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError
from ldmkit.values import Levels

Latents = Callable[..., Tensor]
LEARNED = {"variance": "learned"}


def rows(count: int) -> RowRandom:
    return RowRandom.of(0, "denoiser", 0, range(count))


def neighbours(part: Any, t: list[int]) -> tuple[Levels, Levels]:
    """Levels at the training steps ``t`` and one step before each, in double precision, to be set beside latents."""
    beside = torch.empty(len(t), 1, 1, 1, dtype=torch.float64)
    steps = torch.tensor(t)
    at, before = (part.scaled(part.schedule.step(step)) for step in (steps, steps - 1))
    exact = (Levels(level.alpha.double(), level.sigma.double(), level.t) for level in (at, before))
    one, other = (level.beside(beside) for level in exact)
    return one, other


def test_samplers_are_told_the_share_between_them(build: Any) -> None:
    part, raw = build(V, LEARNED), torch.randn(2, 6, 4, 4)
    assert part.learned_variance
    assert not build(V).learned_variance
    got = part.denoiser_to_variance(raw, torch.zeros(2, 3, 4, 4))
    at, before = neighbours(part, [10, 500])
    ends = [log_variance(torch.full((2, 1, 1, 1), end, dtype=torch.float64), at, before) for end in (-1.0, 1.0)]
    torch.testing.assert_close(torch.lerp(*ends, got.double()), log_variance(raw[:, 3:].double(), at, before))


def test_the_variance_lies_between_beta_and_that_of_the_posterior(build: Any) -> None:
    part = build(V)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    abar = (1 - betas).cumprod(0)
    t = [1, 10, 500, 999]
    at, before = neighbours(part, t)
    beta = betas[t].view(-1, 1, 1, 1)
    tilde_beta = beta * ((1 - abar[[s - 1 for s in t]]) / (1 - abar[t])).view(-1, 1, 1, 1)
    ends = [log_variance(torch.full((4, 1, 1, 1), raw, dtype=torch.float64), at, before) for raw in (-1.0, 0.0, 1.0)]
    torch.testing.assert_close(ends[0].exp(), tilde_beta, rtol=1e-3, atol=0)  # the tables are in single precision
    torch.testing.assert_close(ends[2].exp(), beta, rtol=1e-3, atol=0)
    torch.testing.assert_close(ends[1].exp(), (beta * tilde_beta).sqrt(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("objective", [Flow, V])
def test_the_bound_is_the_divergence_of_the_two_gaussians(objective: Any, build: Any, latents: Latents) -> None:
    at, before = neighbours(build(objective), [1, 10, 500, 999])
    z0, x0, raw, z_t = (latents(4, step) for step in range(4))
    beta = at.sigma**2 - (at.alpha / before.alpha * before.sigma) ** 2
    of_z0, of_zt = before.alpha * beta / at.sigma**2, at.alpha / before.alpha * (before.sigma / at.sigma) ** 2
    posterior = Normal(of_zt * z_t + of_z0 * z0, (beta.sqrt() * before.sigma / at.sigma).expand_as(z0))
    model = Normal(of_zt * z_t + of_z0 * x0, (0.5 * log_variance(raw, at, before)).exp())
    expected = kl_divergence(posterior, model).mean((1, 2, 3))
    torch.testing.assert_close(step_kl(z0, x0, raw, at, before), expected, rtol=1e-9, atol=1e-9)


def test_the_hybrid_loss_adds_a_thousandth_of_the_bound(build: Any, latents: Latents) -> None:
    z0, plain, learned = latents(16).float(), build(Eps), build(Eps, LEARNED)
    raw = torch.cat([latents(16, 1), 0.3 * latents(16, 2)], 1).float()
    simple = plain.loss(lambda z_t, t, _: raw[:, :4], z0, None, rows(16))
    seen: list[Tensor] = []

    def network(z_t: Tensor, t: Tensor, conditioning: None) -> Tensor:
        seen.append(z_t)
        return raw

    hybrid = learned.loss(network, z0, None, rows(16))
    level = plain.training_levels(rows(16))
    at, before = neighbours(plain, level.t.long().tolist())
    x0 = plain.denoiser_to_x0(raw[:, :4], seen[0], level)
    bound = 1000 * step_kl(z0.double(), x0.double(), raw[:, 4:].double(), at, before)
    torch.testing.assert_close(hybrid, simple + 0.001 * bound.float(), rtol=2e-3, atol=1e-5)


def test_the_bound_trains_the_variance_and_nothing_else(build: Any, latents: Latents) -> None:
    z0, raw = latents(8).float(), torch.cat([latents(8, 1), latents(8, 2)], 1).float().requires_grad_()
    gradients = []
    for part, output in ((build(V, LEARNED), raw), (build(V), raw[:, :4])):
        loss = part.loss(lambda z_t, t, _, output=output: output, z0, None, rows(8))
        gradients.append(torch.autograd.grad(loss.sum(), raw)[0])
    assert torch.equal(gradients[0][:, :4], gradients[1][:, :4])
    assert gradients[0][:, 4:].any()
    assert not gradients[1][:, 4:].any()


def test_the_variance_has_no_say_in_the_estimate(build: Any, latents: Latents) -> None:
    z_t, raw, level = latents(3), latents(3, 1), build(V).levels(7)[2]
    both = torch.cat([raw, latents(3, 2)], 1)
    assert torch.equal(build(V, LEARNED).denoiser_to_x0(both, z_t, level), build(V).denoiser_to_x0(raw, z_t, level))


def test_the_first_step_has_a_bound(build: Any, latents: Latents) -> None:
    part, z0 = build(V, LEARNED), latents(2).float()
    part.times.quantiles = lambda random, device: torch.zeros(len(random))
    loss = part.loss(lambda z_t, t, _: torch.cat([z_t, z_t], 1), z0, None, rows(2))
    assert loss.isfinite().all()


def test_a_denoiser_that_gives_no_variance_is_told_apart(build: Any, latents: Latents) -> None:
    with pytest.raises(ConfigError, match=r"gives 4 channels but the objective expects 8; .*objective\.variance=fixed"):
        build(V, LEARNED).loss(lambda z_t, t, _: z_t, latents(2), None, rows(2))

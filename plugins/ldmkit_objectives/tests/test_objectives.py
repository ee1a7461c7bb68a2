"""Every objective: levels, conversions and losses agree with the formulas and with each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ldmkit_objectives.edm import EDM
from ldmkit_objectives.eps import Eps
from ldmkit_objectives.flow import Flow
from ldmkit_objectives.v import V
from ldmkit_objectives.x0 import X0
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError
from ldmkit.values import Levels

PARTS = [EDM, Eps, Flow, V, X0]
Latents = Callable[..., Tensor]

TARGETS: dict[Any, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    EDM: lambda z0, eps, alpha, sigma: sigma * z0 - alpha * eps,
    Eps: lambda z0, eps, alpha, sigma: eps,
    Flow: lambda z0, eps, alpha, sigma: eps - z0,
    V: lambda z0, eps, alpha, sigma: alpha * eps - sigma * z0,
    X0: lambda z0, eps, alpha, sigma: z0,
}
"""What a perfect network answers, from the definition of each objective."""


def rows(count: int, step: int = 0) -> RowRandom:
    return RowRandom.of(0, "denoiser", step, range(count))


def raw_output(part: Any, z0: Tensor, eps: Tensor, level: Levels) -> Tensor:
    level = level.beside(z0)
    return TARGETS[type(part)](z0, eps, level.alpha, level.sigma)


@pytest.fixture(params=PARTS, ids=lambda part: part.__name__)
def part(request: pytest.FixtureRequest, build: Any) -> Any:
    return build(request.param)


def test_the_perfect_output_gives_back_z0_at_every_level(part: Any, latents: Latents, random_levels: Levels) -> None:
    z0, eps, level = latents(64), latents(64).flip(0), part.scaled(random_levels)
    z_t = part.add_noise(z0, eps, level)
    x0 = part.denoiser_to_x0(raw_output(part, z0, eps, level), z_t, level)
    scale = level.alpha.view(-1, 1, 1, 1) if isinstance(part, Eps) else 1
    assert ((x0 - z0) * scale).abs().max() < 1e-12


@pytest.mark.parametrize(("one", "other"), [*itertools.permutations(PARTS, 2)], ids=lambda part: part.__name__)
def test_an_estimate_survives_the_way_to_another_parameterisation_and_back(
    one: Any, other: Any, build: Any, latents: Latents, random_levels: Levels
) -> None:
    one, other = build(one), build(other)
    z_t, raw, at = latents(64), latents(64).flip(0), random_levels.beside(latents(64))

    def estimates(part: Any, prediction: Tensor) -> tuple[Tensor, Tensor]:
        x0 = part.to_x0(prediction, z_t, at)
        return x0, (z_t - at.alpha * x0) / at.sigma

    there = other.target(*estimates(one, raw), at)
    back = one.target(*estimates(other, there), at)
    # x0 loses alpha digits and eps sigma digits of what they are divided by.
    assert ((back - raw) * at.alpha * at.sigma).abs().max() < 1e-12


def test_the_error_of_eps_is_the_error_of_the_prediction_times_a_factor(
    part: Any, latents: Latents, random_levels: Levels
) -> None:
    z_t, raw, error, level = latents(64), latents(64).flip(0), latents(64, step=7), part.scaled(random_levels)
    at = level.beside(z_t)

    def eps(prediction: Tensor) -> Tensor:
        return (z_t - at.alpha * part.to_x0(prediction, z_t, at)) / at.sigma

    apart = eps(raw + error) - eps(raw) - part.eps_per_raw(at) * error
    assert (apart * at.sigma).abs().max() < 1e-12


def test_edm_is_the_preconditioning_of_its_table(build: Any, latents: Latents) -> None:
    sd = 0.5
    part = build(EDM, {"schedule.kind": "edm", "sigma_data": sd})
    s = torch.tensor([0.01, 0.5, 40.0])
    level = part.schedule.at_log_snr(-2 * s.log())
    torch.testing.assert_close(sd * level.sigma / level.alpha, s, rtol=1e-4, atol=0)
    z0, eps, raw = latents(3), latents(3).flip(0), latents(3, step=7)
    level = Levels(level.alpha.double(), level.sigma.double(), level.t)
    s = (sd * level.sigma / level.alpha).view(-1, 1, 1, 1)
    x = sd * z0 + s * eps  # in the paper's scale
    c_in, c_skip, c_out = 1 / (s**2 + sd**2).sqrt(), sd**2 / (s**2 + sd**2), s * sd / (s**2 + sd**2).sqrt()
    z_t = part.add_noise(z0, eps, level)
    torch.testing.assert_close(z_t, c_in * x, rtol=0, atol=1e-6)
    torch.testing.assert_close(sd * part.denoiser_to_x0(raw, z_t, level), c_skip * x + c_out * raw, rtol=0, atol=1e-6)
    target = part.target(z0, eps, level.beside(z0))
    torch.testing.assert_close(target, (sd * z0 - c_skip * x) / c_out, rtol=0, atol=1e-6)


def test_edm_draws_the_noise_levels_of_its_table(build: Any) -> None:
    keys = {"schedule.kind": "edm", "times.distribution": "log-normal", "times.mean": -1.2, "times.std": 1.2}
    part = build(EDM, {**keys, "sigma_data": 0.5})
    part.times.quantiles = lambda random, device: torch.tensor([0.1, 0.5, 0.9])
    level = part.training_levels(rows(3))
    expected = torch.distributions.Normal(-1.2, 1.2).icdf(torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close((0.5 * level.sigma / level.alpha).log(), expected, rtol=0, atol=1e-4)


def test_flow_walks_the_straight_line(build: Any, latents: Latents) -> None:
    part = build(Flow, {"schedule.kind": "flow"})
    level = part.scaled(part.schedule.at(torch.tensor([0.25, 0.5, 1.0])))
    z0, eps = latents(3).float(), latents(3).flip(0).float()
    u = torch.tensor([0.25, 0.5, 1.0]).view(-1, 1, 1, 1)
    torch.testing.assert_close(part.add_noise(z0, eps, level), (1 - u) * z0 + u * eps, rtol=0, atol=1e-6)
    assert level.t.tolist() == pytest.approx([249, 499, 999], abs=1e-3)


@pytest.mark.parametrize("kind", ["linear", "cosine", "edm", "flow"])
def test_every_schedule_goes_with_every_objective(part: Any, kind: str, build: Any, latents: Latents) -> None:
    if (type(part), kind) == (Eps, "flow"):
        pytest.skip("refused, see below")
    part = build(type(part), {"schedule.kind": kind})
    levels = part.levels(20)
    assert levels.t[0] == 999
    assert levels.sigma[0] > 5 * levels.alpha[0]
    assert (levels.alpha[-1], levels.sigma[-1]) == (1, 0)
    loss = part.loss(lambda z_t, t, _: z_t, latents(8).float(), None, rows(8))
    assert loss.isfinite().all()


@pytest.mark.parametrize(
    "keys",
    [
        {"schedule.kind": "cosine"},
        {"schedule.kind": "edm", "schedule.shift": 2.0},
        {"schedule.zero_terminal_snr": True},
        {"schedule.kind": "flow", "schedule.shift": 3.0},
    ],
    ids=str,
)
def test_a_walk_down_the_levels_gives_the_data_their_spread(part: Any, keys: dict[str, Any], build: Any) -> None:
    """For data N(0, spread^2) the exact network is linear, and so is the map of the probability-flow ODE."""
    if isinstance(part, Eps) and keys.get("schedule.kind", "linear") != "cosine":
        keys = {"schedule.kind": "sigmoid"}
    spread = 0.3
    part, z = build(type(part), keys), None
    levels = part.levels(500)
    for at, after in itertools.pairwise(Levels(*(value.double() for value in vars(levels).values()))):
        z = (at.alpha * spread).hypot(at.sigma).view(1, 1, 1, 1) if z is None else z
        x0 = at.alpha * spread**2 / ((at.alpha * spread) ** 2 + at.sigma**2) * z
        raw = raw_output(part, x0, (z - at.alpha * x0) / at.sigma, at)
        x0 = part.denoiser_to_x0(raw, z, at)
        z = after.alpha * x0 + after.sigma * (z - at.alpha * x0) / at.sigma  # DDIM
    assert z is not None
    assert z.item() == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize("objective", [EDM, Flow, V, X0], ids=lambda part: part.__name__)
@pytest.mark.parametrize("keys", [{"schedule.kind": "flow"}, {"schedule.zero_terminal_snr": True}], ids=str)
@pytest.mark.parametrize("weight", ["uniform", "min-snr", "p2", "learned"])
def test_all_is_finite_where_there_is_no_signal(
    objective: Any, keys: dict[str, Any], weight: str, build: Any, latents: Latents
) -> None:
    part = build(objective, {**keys, "weight": weight, "variance": "learned"})
    last = part.scaled(part.schedule.at(torch.ones(2)))
    assert last.alpha.tolist() == [0, 0]
    raw = torch.cat([latents(2), latents(2)], 1).float().requires_grad_()
    assert part.denoiser_to_x0(raw, latents(2).float(), last).isfinite().all()
    part.times.quantiles = lambda random, device: torch.ones(len(random))
    loss = part.loss(lambda z_t, t, _: raw, latents(2, step=7).float(), None, rows(2))
    assert loss.isfinite().all()
    loss.sum().backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


def test_an_output_at_no_signal_is_the_estimate_up_to_its_sign(build: Any, latents: Latents) -> None:
    nothing = Levels(*(torch.tensor(value, dtype=torch.float64) for value in (0.0, 1.0, 999.0)))
    raw, noise = latents(2), latents(2).flip(0)
    assert torch.equal(build(V).denoiser_to_x0(raw, noise, nothing), -raw)
    assert torch.equal(build(EDM).denoiser_to_x0(raw, noise, nothing), raw)
    assert torch.equal(build(X0).denoiser_to_x0(raw, noise, nothing), raw)
    assert torch.equal(build(Flow).denoiser_to_x0(raw, noise, nothing), noise - raw)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [("kind", "flow", "kind is flow"), ("zero_terminal_snr", True, "zero_terminal_snr is true")],
)
def test_eps_refuses_to_end_without_signal(key: str, value: Any, told: str, build: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^objective\.schedule\.{told}, so it ends .*objective=v$"):
        build(Eps, {f"schedule.{key}": value})


def test_one_level_for_all_rows_is_the_same_as_a_level_for_each(
    part: Any, latents: Latents, random_levels: Levels
) -> None:
    z_t, raw, level = latents(3), latents(3).flip(0), random_levels
    one = part.denoiser_to_x0(raw, z_t, level[2])
    each = part.denoiser_to_x0(raw, z_t, level[torch.tensor([2, 2, 2])])
    assert torch.equal(one, each)


def test_a_perfect_predictor_has_no_loss(part: Any, latents: Latents) -> None:
    z0 = latents(16)
    level = part.training_levels(rows(16))
    at = level.beside(z0)

    def perfect(z_t: Tensor, t: Tensor, conditioning: None) -> Tensor:
        assert torch.equal(t, level.t)
        return raw_output(part, z0, (z_t - at.alpha * z0) / at.sigma, level)

    loss = part.loss(perfect, z0, None, rows(16))
    assert loss.shape == (16,)
    assert loss.max() < 1e-11  # the noise and the levels are in single precision


@pytest.mark.parametrize(
    ("norm", "formula"),
    [
        ("l2", lambda error: error.square()),
        ("l1", lambda error: error.abs()),
        ("huber", lambda error: torch.where(error.abs() < 1, 0.5 * error.square(), error.abs() - 0.5)),
    ],
)
def test_the_loss_is_the_mean_over_the_latent_of_each_row(
    norm: str, formula: Callable[[Tensor], Tensor], build: Any
) -> None:
    z0 = torch.zeros(3, 2, 4, 4)
    noise = rows(3).normal("noise", (2, 4, 4))
    loss = build(Eps, {"norm": norm}).loss(lambda z_t, t, _: torch.zeros_like(z_t), z0, None, rows(3))
    torch.testing.assert_close(loss, formula(noise).mean((1, 2, 3)))


def test_the_gradient_of_the_loss_is_that_of_the_formula(build: Any, latents: Latents) -> None:
    z0, part = latents(4), build(Eps)
    gain = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    part.loss(lambda z_t, t, _: gain * z_t, z0, None, rows(4)).mean().backward()
    noise = rows(4).normal("noise", (4, 8, 8))
    z_t = part.add_noise(z0, noise, part.training_levels(rows(4)))
    assert gain.grad is not None
    torch.testing.assert_close(gain.grad, (2 * (0.5 * z_t - noise) * z_t).mean())


def test_offset_noise_adds_its_variance_to_the_mean_of_each_channel(build: Any) -> None:
    z0 = torch.zeros(512, 4, 8, 8)
    plain, offset = (build(Eps, {"offset_noise": amount}).noise(z0, rows(512)) for amount in (0.0, 0.5))
    added = offset - plain
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added), rtol=0, atol=1e-6)
    assert added[:, :, 0, 0].std().item() == pytest.approx(0.5, rel=4 / math.sqrt(2 * 2048))
    assert torch.equal(plain, rows(512).normal("noise", (4, 8, 8)))


def test_a_rows_loss_does_not_depend_on_its_batch(part: Any, latents: Latents) -> None:
    z0 = latents(5)
    whole = part.loss(lambda z_t, t, _: z_t, z0, None, rows(5))
    alone = part.loss(lambda z_t, t, _: z_t, z0[3:4], None, RowRandom.of(0, "denoiser", 0, [3]))
    assert torch.equal(whole[3:4], alone)


def test_half_precision_output_is_compared_in_single_precision(part: Any, latents: Latents) -> None:
    z0 = latents(2).float()
    loss = part.loss(lambda z_t, t, _: torch.zeros_like(z_t, dtype=torch.bfloat16), z0, None, rows(2))
    assert loss.dtype == torch.float32

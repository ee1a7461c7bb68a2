"""Every objective: levels, conversions and losses agree with the formulas and with each other."""

from typing import Any

import pytest
import torch
from ldmkit_objectives.eps import Eps
from ldmkit_objectives.schedules import ScheduleConfig
from ldmkit_objectives.times import TimesConfig
from ldmkit_objectives.v import V

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Objective
from ldmkit.values import Levels

COSINE = ScheduleConfig(kind="cosine", steps=1000, start=0.00085, end=0.012)
LINEAR = ScheduleConfig(kind="linear", steps=1000, start=0.00085, end=0.012)
TIMES = TimesConfig(distribution="uniform", stratified=False, mean=0.0, std=1.0)


def objective(part: Any, schedule: ScheduleConfig = LINEAR, norm: str = "l2") -> Objective:
    return part(part.Config(name=part.__name__.lower(), schedule=schedule, times=TIMES, norm=norm))


def rows(count: int, step: int = 0) -> RowRandom:
    return RowRandom.of(0, "denoiser", step, range(count))


def latents(count: int = 64) -> torch.Tensor:
    return rows(count, step=99).normal("z0", (4, 8, 8), dtype=torch.float64)


def random_levels(count: int) -> Levels:
    """Levels anywhere on the quarter circle, as far off it as single precision is, to be used in double."""
    angle = torch.linspace(0.01, 1.56, count)
    return Levels(angle.cos().double(), angle.sin().double(), angle.double())


def raw_output(part: Objective, z0: torch.Tensor, noise: torch.Tensor, level: Levels) -> torch.Tensor:
    """What a perfect network answers, from the definition of its target."""
    level = level.beside(z0)
    return noise if isinstance(part, Eps) else level.alpha * noise - level.sigma * z0


@pytest.fixture(params=[Eps, V])
def part(request: pytest.FixtureRequest) -> Objective:
    return objective(request.param)


def test_the_perfect_output_gives_back_z0_at_every_level(part: Objective) -> None:
    z0, noise, level = latents(), latents().flip(0), random_levels(64)
    z_t = part.add_noise(z0, noise, level)
    x0 = part.denoiser_to_x0(raw_output(part, z0, noise, level), z_t, level)
    scale = 1 / level.alpha.view(-1, 1, 1, 1) if isinstance(part, Eps) else 1
    assert ((x0 - z0) / scale).abs().max() < 1e-12


def test_eps_and_v_are_the_same_estimate_in_two_forms() -> None:
    z_t, eps, level = latents(), latents().flip(0), random_levels(64)
    x0 = objective(Eps).denoiser_to_x0(eps, z_t, level)
    at = level.beside(z_t)
    v = at.alpha * eps - at.sigma * x0
    x0_again = objective(V).denoiser_to_x0(v, z_t, level)
    assert ((x0_again - x0) * at.alpha).abs().max() < 1e-12


def test_one_level_for_all_rows_is_the_same_as_a_level_for_each(part: Objective) -> None:
    z_t, raw, level = latents(3), latents(3).flip(0), random_levels(5)
    one = part.denoiser_to_x0(raw, z_t, level[2])
    each = part.denoiser_to_x0(raw, z_t, level[torch.tensor([2, 2, 2])])
    assert torch.equal(one, each)


def test_v_is_finite_where_there_is_no_signal() -> None:
    nothing = Levels(*(torch.tensor(value, dtype=torch.float64) for value in (0.0, 1.0, 999.0)))
    v = latents(2)
    assert torch.equal(objective(V).denoiser_to_x0(v, latents(2).flip(0), nothing), -v)


def test_a_perfect_predictor_has_no_loss(part: Objective) -> None:
    z0 = latents(16)
    level = part.training_levels(rows(16))
    at = level.beside(z0)

    def perfect(z_t: torch.Tensor, t: torch.Tensor, conditioning: None) -> torch.Tensor:
        assert torch.equal(t, level.t)
        return raw_output(part, z0, (z_t - at.alpha * z0) / at.sigma, level)

    loss = part.loss(perfect, z0, None, rows(16))
    assert loss.shape == (16,)
    assert loss.max() < 1e-13  # the noise and the levels are in single precision


def test_the_loss_is_the_mean_over_the_latent_of_each_row() -> None:
    z0 = torch.zeros(3, 2, 4, 4)
    noise = rows(3).normal("noise", (2, 4, 4))

    def silent(z_t: torch.Tensor, t: torch.Tensor, conditioning: None) -> torch.Tensor:
        return torch.zeros_like(z_t)

    squared = objective(Eps).loss(silent, z0, None, rows(3))
    absolute = objective(Eps, norm="l1").loss(silent, z0, None, rows(3))
    torch.testing.assert_close(squared, noise.square().mean((1, 2, 3)))
    torch.testing.assert_close(absolute, noise.abs().mean((1, 2, 3)))


def test_the_gradient_of_the_loss_is_that_of_the_formula() -> None:
    z0 = latents(4)
    gain = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    objective(Eps).loss(lambda z_t, t, _: gain * z_t, z0, None, rows(4)).mean().backward()
    part = objective(Eps)
    noise = rows(4).normal("noise", (4, 8, 8))
    z_t = part.add_noise(z0, noise, part.training_levels(rows(4)))
    assert gain.grad is not None
    torch.testing.assert_close(gain.grad, (2 * (0.5 * z_t - noise) * z_t).mean())


def test_a_rows_loss_does_not_depend_on_its_batch(part: Objective) -> None:
    z0 = latents(5)
    whole = part.loss(lambda z_t, t, _: z_t, z0, None, rows(5))
    alone = part.loss(lambda z_t, t, _: z_t, z0[3:4], None, RowRandom.of(0, "denoiser", 0, [3]))
    assert torch.equal(whole[3:4], alone)


def test_half_precision_output_is_compared_in_single_precision(part: Objective) -> None:
    z0 = latents(2).float()
    loss = part.loss(lambda z_t, t, _: torch.zeros_like(z_t, dtype=torch.bfloat16), z0, None, rows(2))
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_sampling_begins_where_training_ends_and_ends_clean(part: Objective, schedule: ScheduleConfig) -> None:
    part = objective(type(part), schedule)
    levels = part.levels(20)
    assert levels.t[0] == 999
    assert levels.alpha[0] < 0.07
    assert (levels.alpha[-1], levels.sigma[-1]) == (1, 0)

"""Every sampler reaches the closed form that is known for Gaussian data, with its stated order, in exactly n steps."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from ldmkit_samplers.ddim import DDIM
from ldmkit_samplers.dpmpp_2m import DPMpp2M
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError
from ldmkit.protocols import Sampler
from ldmkit.registry.schema import typed
from ldmkit.values import Levels

MEAN, STD = 0.7, 0.4  # of the data, N(MEAN, STD^2) in every element

DETERMINISTIC = {
    "ddim": (DDIM(DDIM.Config(name="ddim", steps=20, eta=0.0)), 1),
    "dpmpp-2m": (DPMpp2M(DPMpp2M.Config(name="dpmpp-2m", steps=20)), 2),
}
ANCESTRAL = DDIM(DDIM.Config(name="ddim", steps=20, eta=1.0))
SAMPLERS = [*(sampler for sampler, _ in DETERMINISTIC.values()), ANCESTRAL]


def gaussian_denoiser(z: Tensor, level: Levels) -> Tensor:
    """E[z0 | z_t] for data N(MEAN, STD^2)."""
    gain = level.alpha * STD**2 / (level.alpha**2 * STD**2 + level.sigma**2)
    return MEAN + gain * (z - level.alpha * MEAN)


def standardised(z: Tensor, level: Levels) -> Tensor:
    """What the exact probability-flow ODE conserves: (z - alpha MEAN) / std of z_t."""
    return (z - level.alpha * MEAN) / (level.alpha**2 * STD**2 + level.sigma**2).sqrt()


def levels_between(log_snr_start: float, log_snr_end: float, steps: int) -> Levels:
    """Levels on the unit circle, evenly spaced in log-SNR: (steps + 1,) in double precision."""
    log_snr = torch.linspace(log_snr_start, log_snr_end, steps + 1, dtype=torch.float64)
    return Levels(log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt(), torch.arange(steps, -1, -1))


def with_clean(levels: Levels) -> Levels:
    ends = (torch.ones(1), torch.zeros(1), torch.zeros(1))
    return Levels(*(torch.cat(pair) for pair in zip((levels.alpha, levels.sigma, levels.t), ends, strict=True)))


def rows(count: int) -> RowRandom:
    return RowRandom.of(0, "samples", 0, range(count))


def noise(count: int, size: int = 8) -> Tensor:
    return rows(count).normal("noise", (4, size, size), dtype=torch.float64)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_error_falls_with_the_stated_order(name: str) -> None:
    sampler, order = DETERMINISTIC[name]
    counts = [8, 16, 32, 64, 128, 256]
    errors = []
    for steps in counts:
        levels = levels_between(-8.0, 6.0, steps)
        start = noise(2)
        z = sampler.sample(gaussian_denoiser, start, levels, rows(2))
        exact = standardised(start, levels[0])
        errors.append((standardised(z, levels[-1]) - exact).abs().max().item())
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors[2:])]
    assert orders == pytest.approx([order] * len(orders), abs=0.25)
    assert errors[0] < 1
    assert errors[-1] < 10 * 256.0**-order


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_walk_to_the_clean_level_ends_in_the_data(name: str) -> None:
    sampler, order = DETERMINISTIC[name]
    levels = with_clean(levels_between(-8.0, 12.0, 255))
    start = noise(2)
    z0 = sampler.sample(gaussian_denoiser, start, levels, rows(2))
    exact = MEAN + STD * standardised(start, levels[0])
    assert (z0 - exact).abs().max() < (0.02 if order == 1 else 1e-3)


def test_ancestral_sampling_reaches_the_mean_and_variance_of_the_data() -> None:
    levels = with_clean(levels_between(-8.0, 8.0, 800))
    z0 = ANCESTRAL.sample(gaussian_denoiser, noise(8, size=32), levels, rows(8))
    count = z0.numel()
    assert z0.mean().item() == pytest.approx(MEAN, abs=4 * STD / math.sqrt(count) + 1e-3)
    assert z0.var().item() == pytest.approx(STD**2, rel=4 * math.sqrt(2 / count) + 0.02)


def test_one_ancestral_step_is_the_posterior_of_the_forward_process() -> None:
    """q(z_s | z_t, z0) of Ho et al. 2020, eq. 6 and 7, for a denoiser that knows z0."""
    levels = Levels(*(torch.tensor(v, dtype=torch.float64) for v in ([0.3, 0.8], [math.sqrt(0.91), 0.6], [1, 0])))
    z0 = torch.full((64, 4, 32, 32), 1.5, dtype=torch.float64)
    z_t = rows(64).normal("noise", (4, 1, 1), dtype=torch.float64).expand_as(z0)
    z_s = ANCESTRAL.sample(lambda z, level: z0, z_t, levels, rows(64))
    abar_t, abar_s = 0.09, 0.64
    beta = 1 - abar_t / abar_s
    mean = math.sqrt(abar_s) * beta / (1 - abar_t) * z0 + math.sqrt(1 - beta) * (1 - abar_s) / (1 - abar_t) * z_t
    variance = (1 - abar_s) / (1 - abar_t) * beta
    assert (z_s - mean).mean().item() == pytest.approx(0, abs=4 * math.sqrt(variance / z0.numel()))
    assert (z_s - mean).var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / z0.numel()))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddim", "dpmpp-2m", "ddim eta 1"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 150, 400, 1000])
def test_the_denoiser_is_called_once_a_step_at_every_level_but_the_clean_one(sampler: Sampler, steps: int) -> None:
    levels = with_clean(levels_between(-6.0, 6.0, max(1, steps - 1))[:steps])
    told = []

    def denoise(z: Tensor, level: Levels) -> Tensor:
        told.append(level.t.item())
        return gaussian_denoiser(z, level)

    z0 = sampler.sample(denoise, noise(1, size=2), levels, rows(1))
    assert told == levels.t[:-1].tolist()
    assert len(told) == steps
    assert z0.isfinite().all()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddim", "dpmpp-2m", "ddim eta 1"])
def test_a_picture_does_not_depend_on_the_batch_it_is_in(sampler: Sampler) -> None:
    levels = with_clean(levels_between(-6.0, 6.0, 9))
    whole = sampler.sample(gaussian_denoiser, noise(5), levels, rows(5))
    alone = sampler.sample(gaussian_denoiser, noise(5)[3:4], levels, RowRandom.of(0, "samples", 0, [3]))
    assert torch.equal(whole[3:4], alone)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddim", "dpmpp-2m", "ddim eta 1"])
def test_a_walk_may_begin_without_any_signal(sampler: Sampler) -> None:
    angle = torch.linspace(math.pi / 2, 0, 13, dtype=torch.float64)
    levels = Levels(angle.cos(), angle.sin(), angle)
    levels.alpha[0] = levels.sigma[-1] = 0
    assert sampler.sample(gaussian_denoiser, noise(2), levels, rows(2)).isfinite().all()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddim", "dpmpp-2m", "ddim eta 1"])
def test_a_denoiser_that_knows_the_answer_is_believed(sampler: Sampler) -> None:
    answer = noise(2).flip(0)
    levels = with_clean(levels_between(-6.0, 6.0, 9))
    z0 = sampler.sample(lambda z, level: answer, noise(2), levels, rows(2))
    torch.testing.assert_close(z0, answer, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["ddim", "dpmpp-2m", "ddim eta 1"])
def test_single_precision_latents_stay_so(sampler: Sampler) -> None:
    levels = with_clean(levels_between(-6.0, 6.0, 9))
    levels = Levels(levels.alpha.float(), levels.sigma.float(), levels.t.float())
    assert sampler.sample(gaussian_denoiser, noise(1).float(), levels, rows(1)).dtype == torch.float32


@pytest.mark.parametrize(
    ("part", "node", "message"),
    [
        (DDIM, {"name": "ddim", "steps": 0, "eta": 0.0}, r"^sampler\.steps is 0 but must be 1 or more$"),
        (DPMpp2M, {"name": "dpmpp-2m", "steps": 0}, r"^sampler\.steps is 0 but must be 1 or more$"),
        (DDIM, {"name": "ddim", "steps": 9, "eta": 1.5}, r"^sampler\.eta is 1\.5 but must be 0 to 1$"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(part: Any, node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        typed(part.Config, node, "sampler")

"""What the conformance suite does not ask of every sampler: identities between them, ends, and numbers out of range."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import ldmkit_samplers
import pytest
import torch
from ldmkit_samplers import dpmpp_3m
from omegaconf import OmegaConf
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError
from ldmkit.models import build_part
from ldmkit.protocols import Sampler
from ldmkit.testing.closed_forms import Gaussian, Mixture, log_snr_ramp
from ldmkit.values import Levels

OPTIONS: dict[str, Any] = {
    path.stem: OmegaConf.to_container(OmegaConf.load(path))
    for path in sorted((Path(ldmkit_samplers.__file__).parent / "conf" / "sampler").glob("*.yaml"))
}
DATA = Mixture()


def sampler(option: str, **changes: Any) -> Sampler:
    built: Sampler = build_part("sampler", {**OPTIONS[option], **changes})
    return built


def with_clean(levels: Levels) -> Levels:
    return Levels.joined([levels, Levels(torch.ones(1), torch.zeros(1), torch.zeros(1))])


def rows(count: int) -> RowRandom:
    return RowRandom.of(0, "samples", 0, range(count))


def noise(count: int, size: int = 8) -> Tensor:
    return rows(count).normal("noise", (2, size, size), dtype=torch.float64)


def rectified_flow(steps: int) -> Levels:
    """From no signal at all to no noise at all."""
    sigma = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return Levels(1 - sigma, sigma, 1000 * sigma)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_walk_from_no_signal_at_all_ends_in_the_data(name: str) -> None:
    z0 = sampler(name).sample(DATA.denoise, noise(16), rectified_flow(100), rows(16))
    mean = float((DATA.weights * DATA.means).sum())
    square = float((DATA.weights * (DATA.means.square() + DATA.stds.square())).sum())
    assert z0.mean().item() == pytest.approx(mean, abs=0.1)
    assert z0.square().mean().item() == pytest.approx(square, rel=0.15)


@pytest.mark.parametrize("name", [name for name in OPTIONS if sampler(name).order])
def test_a_walk_from_no_signal_at_all_follows_the_exact_ode(name: str) -> None:
    levels = rectified_flow(200)
    z0 = sampler(name).sample(DATA.denoise, noise(2), levels, rows(2))
    exact = DATA.carried(noise(2), levels[0], levels[-1])
    assert (z0 - exact).square().mean().sqrt() < (0.01 if sampler(name).order == 1 else 1e-3)


@pytest.mark.parametrize("name", ["ddim", "euler", "ddpm", "euler-a", "heun", "dpmpp-2s"])
def test_a_walk_in_two_halves_is_the_walk_in_one(name: str) -> None:
    """Of samplers that carry nothing from step to step; fresh noise is silenced, being numbered by the step."""
    part, levels = sampler(name), with_clean(log_snr_ramp(-6.0, 4.0, 11))
    still = Silent(rows(2).keys)
    whole = part.sample(DATA.denoise, noise(2), levels, still)
    half = part.sample(DATA.denoise, noise(2), levels[:6], still)
    torch.testing.assert_close(part.sample(DATA.denoise, half, levels[5:], still), whole, rtol=0, atol=1e-9)


class Silent(RowRandom):
    def normal(self, purpose: str, shape: Any, **kind: Any) -> Tensor:
        return torch.zeros(len(self), *shape, dtype=kind["dtype"])


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_one_sampler_by_three_names(steps: int) -> None:
    """DDIM of eta 1, Euler ancestral and DDPM with the posterior's variance draw from the same distribution."""
    levels = with_clean(log_snr_ramp(-6.0, 4.0, 8)[:steps])
    fresh = {
        name: sampler(name).sample(DATA.denoise, noise(2), levels, Numbered(rows(2).keys))
        for name in ("euler-a", "ddpm")
    }
    torch.testing.assert_close(fresh["ddpm"], fresh["euler-a"], rtol=0, atol=1e-9)
    torch.testing.assert_close(
        sampler("ddim", eta=1.0).sample(DATA.denoise, noise(2), levels, Numbered(rows(2).keys)),
        fresh["euler-a"],
        rtol=0,
        atol=0,
    )


class Numbered(RowRandom):
    """Names a stream by the step alone, so that samplers of different names draw the same numbers."""

    def normal(self, purpose: str, shape: Any, **kind: Any) -> Tensor:
        return super().normal(purpose.rpartition("-")[2], shape, **kind)


def test_one_ancestral_step_is_the_posterior_of_the_forward_process() -> None:
    """q(z_s | z_t, z0) of Ho et al. 2020, eq. 6 and 7, for a denoiser that knows z0."""
    levels = Levels(*(torch.tensor(v, dtype=torch.float64) for v in ([0.3, 0.8], [math.sqrt(0.91), 0.6], [1, 0])))
    z0 = torch.full((64, 4, 32, 32), 1.5, dtype=torch.float64)
    z_t = rows(64).normal("noise", (4, 1, 1), dtype=torch.float64).expand_as(z0)
    abar_t, abar_s = 0.09, 0.64
    beta = 1 - abar_t / abar_s
    mean = math.sqrt(abar_s) * beta / (1 - abar_t) * z0 + math.sqrt(1 - beta) * (1 - abar_s) / (1 - abar_t) * z_t
    small, large = (1 - abar_s) / (1 - abar_t) * beta, beta  # section 3.2
    for part, variance in (
        (sampler("ddim", eta=1.0), small),
        (sampler("ddpm"), small),
        (sampler("ddpm", variance="large"), large),
    ):
        z_s = part.sample(lambda z, level: z0, z_t, levels, rows(64))
        assert (z_s - mean).mean().item() == pytest.approx(0, abs=4 * math.sqrt(variance / z0.numel()))
        assert (z_s - mean).var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / z0.numel()))


def orders(part: Sampler) -> list[float]:
    errors = []
    for steps in (8, 16, 32, 64, 128, 256):
        levels = log_snr_ramp(-9.0, 6.0, steps)
        got = part.sample(DATA.denoise, noise(2), levels, rows(2))
        errors.append((got - DATA.carried(noise(2), levels[0], levels[-1])).square().mean().sqrt().log2().item())
    return [coarse - fine for coarse, fine in pairwise(errors)]


@pytest.mark.parametrize(("option", "key", "most", "more"), [("unipc", "predictor", 3, 1), ("deis", "estimates", 4, 0)])
def test_the_order_is_the_number_of_estimates(option: str, key: str, most: int, more: int) -> None:
    """Of UniPC one more: its corrector raises it (theorem 3.1)."""
    for number in range(1, most + 1):
        part = sampler(option, **{key: number})
        assert part.order == number + more
        assert orders(part)[3:] == pytest.approx([part.order] * 2, abs=0.3)


def test_published_code_of_3m_has_order_two_for_want_of_a_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpmpp_3m, "CURVATURE", 1.0)
    assert orders(sampler("dpmpp-3m"))[3:] == pytest.approx([2, 2], abs=0.15)


def test_churn_adds_noise_between_its_bounds_only() -> None:
    levels = with_clean(log_snr_ramp(-6.0, 4.0, 11))
    plain = sampler("heun").sample(DATA.denoise, noise(2), levels, rows(2))
    outside = sampler("heun", churn=40.0, churn_from=30.0)
    inside = sampler("heun", churn=40.0)
    assert (outside.order, inside.order, sampler("heun").order) == (None, None, 2)
    assert torch.equal(outside.sample(DATA.denoise, noise(2), levels, rows(2)), plain)
    assert not torch.allclose(inside.sample(DATA.denoise, noise(2), levels, rows(2)), plain)


def test_the_adaptive_solver_is_as_exact_as_it_is_told_to_be() -> None:
    levels = log_snr_ramp(-9.0, 6.0, 2)
    exact = Gaussian().carried(noise(2), levels[0], levels[-1])
    for tolerance in (1e-3, 1e-6):
        part = sampler("ode", rtol=tolerance, atol=tolerance)
        calls = []

        def denoise(z: Tensor, level: Levels, calls: list[Levels] = calls) -> Tensor:
            calls.append(level)
            return Gaussian().denoise(z, level)

        apart = (part.sample(denoise, noise(2), levels, rows(2)) - exact).abs().max()
        assert apart < 10 * tolerance
        assert 10 < len(calls) < 400


@pytest.mark.parametrize(
    ("option", "changes", "message"),
    [
        ("ddim", {"steps": 0}, r"^sampler\.steps is 0 but must be 1 or more$"),
        ("dpmpp-2m", {"steps": 0}, r"^sampler\.steps is 0 but must be 1 or more$"),
        ("ddim", {"eta": 1.5}, r"^sampler\.eta is 1\.5 but must be 0 to 1$"),
        ("unipc", {"predictor": 4}, r"^sampler\.predictor is 4 but must be 1 to 3$"),
        ("deis", {"estimates": 0}, r"^sampler\.estimates is 0 but must be 1 to 4$"),
        ("heun", {"churn_from": 60.0}, r"^sampler\.churn_to is 50\.0 but must be 60\.0 or more$"),
        ("ode", {"rtol": 0.0}, r"^sampler\.rtol is 0\.0 but must be more than 0$"),
        ("ddim", {"spacing": "even"}, r"^sampler\.spacing"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(option: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sampler(option, **changes)


def test_the_adaptive_solver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldmkit_samplers.ode.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"sampler 'ode' needs the package torchdiffeq; type pip install 'ldmkit\[ode\]'"
    ):
        sampler("ode")

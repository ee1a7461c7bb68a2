"""Checks of samplers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args
from unittest import SkipTest

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, Sampler
from ldmkit.specs import Spacing
from ldmkit.testing.closed_forms import Gaussian, Mixture, log_snr_ramp
from ldmkit.testing.outputs import largest_difference, normal
from ldmkit.testing.rows import RowSuite
from ldmkit.values import Levels

STEPS = (1, 2, 3, 7, 50)
GAUSSIAN, MIXTURE = Gaussian(), Mixture()


class SamplerSuite(RowSuite):
    """Checks of a part of the group ``sampler``, on levels and denoisers of which the answer is known."""

    kind = "sampler"
    protocol = Sampler

    def inputs(self, rows: Sequence[int]) -> Any:
        return normal("noise", 3, 2, 4, 4)[list(rows)], RowRandom([("testing", row) for row in rows])

    def outputs(self, part: Any, inputs: Any) -> dict[str, Tensor]:
        z, random = inputs
        return {"z0": part.sample(GAUSSIAN.denoise, z, variance_preserving(8), random)}

    def test_its_own_number_of_steps_is_one_or_more_and_its_spacing_is_known(self) -> None:
        steps, spacing = self.part().steps, self.part().spacing
        whole = isinstance(steps, int) and steps >= 1
        assert whole, f"expected steps to be an int of 1 or more, got {steps!r}"
        assert spacing in get_args(Spacing), f"expected spacing to be one of {get_args(Spacing)}, got {spacing!r}"

    def test_it_calls_the_denoiser_as_often_as_it_says(self) -> None:
        for steps in (*STEPS, 1000):
            expected = self.part().evaluations(steps)
            if expected is None:
                raise SkipTest("the sampler says that the data decide how often it calls the denoiser")
            got = len(self.walk(variance_preserving(steps), GAUSSIAN.denoise)[1])
            assert got == expected, f"expected {expected} calls in {steps} steps, got {got}"

    def test_it_asks_for_single_levels_of_those_given_or_between_them_from_the_first_on(self) -> None:
        for steps in STEPS:
            levels = variance_preserving(steps)
            given = [float(value) for value in levels.alpha[:-1]]
            got = [float(level.alpha) for level in self.walk(levels, GAUSSIAN.denoise)[1]]
            assert got[0] == given[0], f"expected the first call at alpha = {given[0]}, got {got[0]}"
            unknown = sorted(set(got) - set(given))
            between = self.part().evaluations(steps) != steps
            assert between or not unknown, f"expected the levels given, got alpha = {unknown}"
            outside = [alpha for alpha in unknown if not given[0] - 1e-6 <= alpha <= 1]
            assert not outside, f"expected levels from alpha = {given[0]} to 1, got {outside}"

    def test_between_two_levels_the_network_is_told_the_time_of_the_path(self) -> None:
        path = straight(1000)[torch.arange(999, -1, -1)]
        for level in self.walk(replace(straight(7), path=path), GAUSSIAN.denoise)[1]:
            expected = 1000 * level.sigma / (level.alpha + level.sigma)
            apart = abs(float(level.t - expected))
            assert apart < 0.1, f"expected t = {expected:.2f} at alpha = {level.alpha:.3f}, got {level.t:.2f}"

    def test_each_step_is_told_once_with_its_level_and_estimate(self) -> None:
        (z, random), x0, part = self.inputs(range(3)), normal("x0", 3, 2, 4, 4), self.part()
        for steps in STEPS:
            told: list[tuple[int, bool]] = []

            def tell(step: int, level: Levels, z: Tensor, estimate: Tensor, told: list[Any] = told) -> None:
                told.append((step, torch.equal(estimate, x0) and z.shape == x0.shape and level.alpha.ndim == 0))

            part.sample(lambda z, level: x0, z, variance_preserving(steps), random, tell)
            got = [step for step, _ in told]
            assert got == list(range(steps)), f"expected steps 0 to {steps - 1} to be told once each, got {got}"
            wrong = [step for step, right in told if not right]
            assert not wrong, f"expected a single level, z and the estimate of x0, got others at steps {wrong}"

    def test_a_perfect_denoiser_is_believed(self) -> None:
        x0 = normal("x0", 3, 2, 4, 4)
        for levels in (variance_preserving, straight):
            for steps in STEPS:
                got, _ = self.walk(levels(steps), lambda z, level: x0)
                apart = largest_difference(got, x0)
                assert apart < 1e-3, f"expected the x0 of a perfect denoiser in {steps} steps, got {apart:.2g} apart"

    def test_it_follows_the_exact_ode_with_its_stated_order(self) -> None:
        order = self.part().order
        if order is None:
            raise SkipTest("the sampler states no order")
        for data in (GAUSSIAN, MIXTURE):
            few, many = self.error(data, 32), self.error(data, 256)
            assert many < 0.03, f"expected less than 0.03 off the exact answer in 256 steps, got {many:.3g}"
            got = math.log(few / many, 8)
            least, most = order - 0.3, order + 0.3 if data is MIXTURE else math.inf  # symmetry may cancel errors
            expected = f"expected the error on {type(data).__name__} data to fall with order {order}, got {got:.2f}"
            assert least < got < most, expected

    def test_it_reaches_the_mean_and_the_covariance_of_the_data(self) -> None:
        levels = log_snr_ramp(-9.0, 9.0, 250)
        levels.alpha[-1], levels.sigma[-1] = 1.0, 0.0
        self.expect_distribution(levels)

    def test_it_goes_from_any_level_to_any_other(self) -> None:
        self.expect_distribution(log_snr_ramp(-3.0, 2.0, 60))

    def test_it_keeps_the_shape_and_type_of_the_noise(self) -> None:
        for dtype in (torch.float32, torch.float64):
            noise, random = self.inputs(range(3))
            got = self.part().sample(GAUSSIAN.denoise, noise.to(dtype), variance_preserving(4), random)
            expected = f"expected {dtype} {tuple(noise.shape)}, got {got.dtype} {tuple(got.shape)}"
            assert (got.shape, got.dtype) == (noise.shape, dtype), expected

    def walk(self, levels: Levels, denoise: Denoise) -> tuple[Tensor, list[Levels]]:
        """The result of a walk over ``levels``, and the level of each call, which has to be 0-d."""
        heard: list[Levels] = []

        def listening(z: Tensor, level: Levels) -> Tensor:
            assert level.alpha.ndim == 0, f"expected a single level, got one of shape {tuple(level.alpha.shape)}"
            heard.append(level)
            return denoise(z, level)

        noise, random = self.inputs(range(3))
        return self.part().sample(listening, levels.scale[0] * noise, levels, random), heard

    def error(self, data: Gaussian | Mixture, steps: int) -> float:
        """Root of the mean squared distance from the exact solution, from log-SNR -9 to 6 in ``steps`` steps."""
        levels = log_snr_ramp(-9.0, 6.0, steps)
        z = normal("noise", 3, 2, 4, 4).double()
        got = self.part().sample(data.denoise, z, levels, self.inputs(range(3))[1])
        return float((got - data.carried(z, levels[0], levels[-1])).square().mean().sqrt())

    def expect_distribution(self, levels: Levels) -> None:
        """Assert that Gaussian z at the first level are Gaussian with the right mean and covariance at the last.

        Five standard errors of the sample are allowed, and for the size of the steps 0.01 and 5 % of the variance.
        """
        rows, size = 8, 32
        numbers, random = normal("much noise", rows, 2, size, size).double(), RowRandom.of(0, "testing", 0, range(rows))
        z = GAUSSIAN.carried(numbers, straight(1)[0].double(), levels[0])
        got = self.part().sample(GAUSSIAN.denoise, z, levels, random).transpose(0, 1).flatten(1)
        mean = (levels.alpha[-1] * GAUSSIAN.mean).flatten()
        covariance = levels.alpha[-1].square() * GAUSSIAN.covariance + levels.sigma[-1].square() * torch.eye(2)
        variance = covariance.diagonal()
        count = got.shape[1]
        off = (got.mean(1) - mean).abs()
        allowed = 5 * (variance / count).sqrt() + 0.01
        assert (off < allowed).all(), f"expected the mean {mean.tolist()}, got {got.mean(1).tolist()}"
        off = (got.cov() - covariance).abs()
        allowed = (5 * (2 / count) ** 0.5 + 0.05) * torch.outer(variance, variance).sqrt()
        assert (off < allowed).all(), f"expected the covariance {covariance.tolist()}, got {got.cov().tolist()}"


def variance_preserving(steps: int) -> Levels:
    """alpha = cos, sigma = sin of an angle that falls evenly, from next to no signal to no noise."""
    return _levels(steps, lambda part: (torch.cos(part * 1.56), torch.sin(part * 1.56)))


def straight(steps: int) -> Levels:
    """alpha = 1 - sigma, from no signal at all, as in rectified flow."""
    return _levels(steps, lambda part: (1 - part, part))


def _levels(steps: int, path: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Levels:
    part = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    alpha, sigma = path(part)
    return Levels(alpha.float(), sigma.float(), (1000 * part).float())

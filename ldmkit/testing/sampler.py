"""Checks of samplers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Denoise, Sampler
from ldmkit.testing.outputs import RowSuite, largest_difference, normal
from ldmkit.values import Levels

STEPS = (1, 2, 3, 7, 50)
MEAN, STD = 0.7, 0.5
"""Of the Gaussian data that has an exact denoiser."""


class SamplerSuite(RowSuite):
    """Checks of a part of the group ``sampler``, on levels and denoisers of which the answer is known."""

    kind = "sampler"
    protocol = Sampler

    def calls(self, steps: int) -> int:
        """How often the denoiser is called in ``steps`` steps; a sampler of several evaluations a step says so here."""
        return steps

    def inputs(self, rows: Sequence[int]) -> Any:
        return normal("noise", 3, 2, 4, 4)[list(rows)], RowRandom([("testing", row) for row in rows])

    def outputs(self, part: Any, inputs: Any) -> dict[str, Tensor]:
        noise, random = inputs
        return {"z0": part.sample(gaussian, noise, variance_preserving(8), random)}

    def test_its_own_number_of_steps_is_one_or_more(self) -> None:
        steps = self.part().steps
        whole = isinstance(steps, int) and steps >= 1
        assert whole, f"expected steps to be an int of 1 or more, got {steps!r}"

    def test_it_calls_the_denoiser_as_often_as_it_says(self) -> None:
        for steps in STEPS:
            got, expected = len(self.walk(variance_preserving(steps), gaussian)[1]), self.calls(steps)
            assert got == expected, f"expected {expected} calls in {steps} steps, got {got}"

    def test_it_asks_for_single_levels_of_those_given_from_the_first_on(self) -> None:
        for steps in STEPS:
            levels = variance_preserving(steps)
            given = [float(value) for value in levels.alpha[:-1]]
            got = [float(level.alpha) for level in self.walk(levels, gaussian)[1]]
            assert got[0] == given[0], f"expected the first call at alpha = {given[0]}, got {got[0]}"
            unknown = sorted(set(got) - set(given))
            assert self.calls(steps) > steps or not unknown, f"expected the levels given, got alpha = {unknown}"

    def test_a_perfect_denoiser_is_believed(self) -> None:
        x0 = normal("x0", 3, 2, 4, 4)
        for levels in (variance_preserving, straight):
            for steps in STEPS:
                got, _ = self.walk(levels(steps), lambda z, level: x0)
                apart = largest_difference(got, x0)
                assert apart < 1e-3, f"expected the x0 of a perfect denoiser in {steps} steps, got {apart:.2g} apart"

    def test_the_error_on_gaussian_data_shrinks_with_the_steps(self) -> None:
        few, many = self.gaussian_error(8), self.gaussian_error(64)
        assert many < 0.06, f"expected less than 0.06 off the exact answer in 64 steps, got {many:.3g}"
        assert many < max(few / 2, 0.02), f"expected half the error of 8 steps ({few:.3g}) in 64, got {many:.3g}"

    def test_it_keeps_the_shape_and_type_of_the_noise(self) -> None:
        for dtype in (torch.float32, torch.float64):
            noise, random = self.inputs(range(3))
            got = self.part().sample(gaussian, noise.to(dtype), variance_preserving(4), random)
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
        return self.part().sample(listening, noise, levels, random), heard

    def gaussian_error(self, steps: int) -> float:
        """How far the walk of ``steps`` steps ends from where the exact one does.

        Without fresh noise that is a map of the noise, (z - alpha mean) / sqrt(alpha^2 std^2 + sigma^2) being constant
        along the probability flow; with fresh noise only mean and deviation of the outcome are known.
        """
        noise, levels = normal("much noise", 8, 4, 32, 32), variance_preserving(steps)
        one, other = (
            self.part().sample(gaussian, noise, levels, RowRandom.of(seed, "testing", 0, range(8))) for seed in (0, 1)
        )
        if not torch.equal(one, other):
            return max(abs(float(one.mean()) - MEAN), abs(float(one.std()) - STD))
        alpha, sigma = float(levels.alpha[0]), float(levels.sigma[0])
        exact = MEAN + STD * (noise - alpha * MEAN) / math.hypot(alpha * STD, sigma)
        return float((one - exact).square().mean().sqrt())


def gaussian(z: Tensor, level: Levels) -> Tensor:
    """E[x0 | z] for x0 ~ N(``MEAN``, ``STD``^2)."""
    gain = level.alpha * STD**2 / (level.alpha**2 * STD**2 + level.sigma**2)
    return MEAN + gain * (z - level.alpha * MEAN)


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

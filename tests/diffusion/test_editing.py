"""Editing without training, where the denoiser of Gaussian data is exact."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ldmkit.diffusion.editing import Original, between, invert
from ldmkit.errors import ConfigError
from ldmkit.values import Levels

MEAN, STD = 0.4, 0.7


def levels(steps: int) -> Levels:
    """Variance-preserving levels, evenly in the angle, from nearly pure noise to the clean level."""
    angle = torch.linspace(1.4, 0.0, steps + 1, dtype=torch.float64)
    return Levels(angle.cos(), angle.sin(), angle)


def denoise(z: Tensor, level: Levels) -> Tensor:
    """E[z0 | z_t] of data N(MEAN, STD^2)."""
    alpha, sigma = level.alpha, level.sigma
    return (alpha * STD**2 * z + sigma**2 * MEAN) / (alpha**2 * STD**2 + sigma**2)


def ddim(estimate: Callable[[Tensor, Levels], Tensor], z: Tensor, walk: Levels) -> Tensor:
    for i in range(len(walk) - 1):
        x0 = estimate(z, walk[i])
        eps = (z - walk.alpha[i] * x0) / walk.sigma[i]
        z = walk.alpha[i + 1] * x0 + walk.sigma[i + 1] * eps
    return z


def draw(seed: int, size: int = 4) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_inversion_reaches_the_exact_map_of_a_gaussian_with_first_order() -> None:
    z0, errors = MEAN + STD * draw(0), []
    for steps in (20, 40, 80, 160):
        walk = levels(steps)
        spread = (walk.alpha[0] ** 2 * STD**2 + walk.sigma[0] ** 2).sqrt()
        exact = walk.alpha[0] * MEAN + spread / STD * (z0 - MEAN)
        errors.append((invert(denoise, z0, walk) - exact).abs().max())
    ratios = [float(one / other) for one, other in pairwise(errors)]
    assert ratios == pytest.approx([2, 2, 2], abs=0.1)


def test_what_was_inverted_is_sampled_again() -> None:
    z0 = MEAN + STD * draw(1)
    few, many = ((ddim(denoise, invert(denoise, z0, levels(n)), levels(n)) - z0).abs().max() for n in (100, 400))
    assert float(few / many) == pytest.approx(4, rel=0.1)
    assert many < 0.02


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 10), (0.6, 6), (0.01, 1)])
def test_strength_is_the_share_of_the_steps_that_is_walked(strength: float, steps: int) -> None:
    walk = levels(10)
    left = Original(torch.zeros(1, 3, 8, 8), strength).left(walk)
    assert torch.equal(left.alpha, walk.alpha[10 - steps :])


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.1])
def test_a_strength_that_is_no_share_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match="strength must be above 0 and at most 1"):
        Original(torch.zeros(1, 3, 8, 8), strength)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the mask \(1, 4, 4\) must be \(B, H, W\) of the images \(1, 3, 8, 8\)"):
        Original(torch.zeros(1, 3, 8, 8), 1.0, torch.ones(1, 4, 4, dtype=torch.bool))


def test_what_is_not_redrawn_ends_as_it_was_and_the_rest_as_if_alone() -> None:
    """Latents of this denoiser do not hear each other, so that the redrawn ones must be those of plain sampling."""
    redraw = torch.zeros(2, 8, 8, dtype=torch.bool)
    redraw[:, 3:6, 1] = True  # touches rows 1 and 2 of the latents, column 0
    original, z0, noise, walk = Original(torch.zeros(2, 3, 8, 8), 1.0, redraw), draw(2), draw(3), levels(20)
    z = walk.alpha[0] * z0 + walk.sigma[0] * noise
    got, plain = ddim(original.kept(denoise, z0, noise), z, walk), ddim(denoise, z, walk)
    anew = torch.zeros(4, 4, dtype=torch.bool)
    anew[1:3, 0] = True
    torch.testing.assert_close(got[:, :, ~anew], z0[:, :, ~anew])
    torch.testing.assert_close(got[:, :, anew], plain[:, :, anew])


def test_pixels_that_are_not_redrawn_are_pasted_back() -> None:
    images, redraw = torch.rand(2, 3, 4, 4), torch.arange(32).view(2, 4, 4) % 3 == 0
    pasted = Original(images, 0.5, redraw).paste(torch.full((2, 3, 4, 4), -1.0))
    assert torch.equal(pasted, torch.where(redraw[:, None], torch.tensor(-1.0), images))


def test_noises_between_two_are_on_the_arc_from_one_to_the_other() -> None:
    one, other = draw(4, 32)
    arc = between(one, other, [0.0, 0.25, 0.5, 1.0])
    torch.testing.assert_close(arc[0], one)
    torch.testing.assert_close(arc[-1], other)
    assert arc.flatten(1).std(1).tolist() == pytest.approx([1.0] * 4, abs=0.05)
    assert torch.lerp(one, other, 0.5).std() < 0.75  # a straight line has too little noise in its middle


def test_between_one_noise_and_itself_there_is_nothing_else() -> None:
    one = draw(5)[0]
    torch.testing.assert_close(between(one, one, [0.0, 0.3]), torch.stack([one, one]))

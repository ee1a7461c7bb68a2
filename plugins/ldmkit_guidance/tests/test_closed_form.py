"""Where the data are Gaussian under each conditioning, the guided score is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ldmkit.values import Levels

NULL, COND, BOTH, WEAK = (0.3, 1.2), (1.5, 0.6), (1.1, 0.4), (0.9, 0.9)


def score(law: tuple[float, float], z: Tensor, level: Levels) -> Tensor:
    """Gradient of log N(z; alpha mean, alpha^2 std^2 + sigma^2)."""
    mean, std = law
    return -(z - level.alpha * mean) / (level.alpha**2 * std**2 + level.sigma**2)


def x0_of(score: Tensor, z: Tensor, level: Levels) -> Tensor:
    """Tweedie's formula."""
    return (z + level.sigma**2 * score) / level.alpha


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 2.5, 7.5])
def test_cfg_goes_along_the_guided_score(
    *, scale: float, batched: bool, guidance: Any, gaussians: Any, z: Tensor, level: Levels
) -> None:
    got = gaussians({(): NULL, ("text",): COND}).guided(guidance("cfg", scale=scale, batched=batched))(z, level)
    null, cond = (score(law, z, level) for law in (NULL, COND))
    torch.testing.assert_close(got, x0_of(null + scale * (cond - null), z, level))


def test_cfg_of_equally_wide_gaussians_is_the_denoiser_of_the_gaussian_beyond(
    guidance: Any, gaussians: Any, exact_x0: Callable[..., Tensor], z: Tensor, level: Levels
) -> None:
    got = gaussians({(): (0.2, 0.7), ("text",): (1.0, 0.7)}).guided(guidance("cfg", scale=3.0))(z, level)
    torch.testing.assert_close(got, exact_x0(0.2 + 3 * 0.8, 0.7, z, level))


def test_scales_by_conditioner_go_along_the_nested_scores(
    guidance: Any, gaussians: Any, z: Tensor, level: Levels
) -> None:
    model = gaussians({(): NULL, ("text",): COND, ("semantic",): WEAK, ("text", "semantic"): BOTH})
    got = model.guided(guidance("cfg", scale={"semantic": 1.5, "text": 4.0}))(z, level)
    null, semantic, both = (score(law, z, level) for law in (NULL, WEAK, BOTH))
    torch.testing.assert_close(got, x0_of(null + 1.5 * (semantic - null) + 4.0 * (both - semantic), z, level))


def test_autoguidance_goes_away_from_the_weaker_score(guidance: Any, gaussians: Any, z: Tensor, level: Levels) -> None:
    model = gaussians({(): NULL, ("text",): COND}, other=gaussians({(): (9.0, 9.0), ("caption",): WEAK}))
    got = model.guided(guidance("autoguidance", run="weaker", scale=1.7))(z, level)
    cond, weak = (score(law, z, level) for law in (COND, WEAK))
    torch.testing.assert_close(got, x0_of(weak + 1.7 * (cond - weak), z, level))


@pytest.mark.parametrize("cfg_scale", [1.0, 4.0])
def test_pag_goes_away_from_the_perturbed_score_beside_cfg(
    cfg_scale: float, guidance: Any, gaussians: Any, z: Tensor, level: Levels
) -> None:
    laws = {(): NULL, ("text",): COND}
    model = gaussians(laws, other=gaussians({(): (9.0, 9.0), ("text",): WEAK}))
    model.other.prepare = lambda conditioning: torch.tensor([WEAK] * 3, dtype=torch.float64)
    got = model.guided(guidance("pag", scale=2.0, cfg_scale=cfg_scale))(z, level)
    null, cond, perturbed = (score(law, z, level) for law in (NULL, COND, WEAK))
    expected = cond + (cfg_scale - 1) * (cond - null) + 2.0 * (cond - perturbed)
    torch.testing.assert_close(got, x0_of(expected, z, level))


def test_cfg_zero_star_is_the_papers_velocity_on_a_straight_flow(guidance: Any, gaussians: Any, z: Tensor) -> None:
    t = torch.tensor(0.7, dtype=torch.float64)
    level = Levels(1 - t, t, t)
    got = gaussians({(): NULL, ("text",): COND}).guided(guidance("cfg-zero-star", scale=3.0))(z, level)
    v_null, v_cond = ((z - x0_of(score(law, z, level), z, level)) / t for law in (NULL, COND))  # noise - z0
    for row in range(len(z)):
        s = torch.dot(v_cond[row].flatten(), v_null[row].flatten()) / v_null[row].norm() ** 2
        v = (1 - 3.0) * s * v_null[row] + 3.0 * v_cond[row]
        torch.testing.assert_close(got[row], z[row] - t * v)


def test_cfg_zero_star_is_the_same_at_the_level_of_another_schedule_on_the_same_flow(
    guidance: Any, gaussians: Any, z: Tensor, level: Levels
) -> None:
    model, part = gaussians({(): NULL, ("text",): COND}), guidance("cfg-zero-star", scale=3.0)
    total = level.alpha + level.sigma
    on_flow = Levels(level.alpha / total, level.sigma / total, level.t)
    torch.testing.assert_close(model.guided(part)(z * total, level), model.guided(part)(z, on_flow))


def test_cfg_zero_star_stays_where_it_is_on_the_first_part_of_the_way(guidance: Any, gaussians: Any, z: Tensor) -> None:
    guided = gaussians({(): NULL, ("text",): COND}).guided(guidance("cfg-zero-star", zero_init=0.04))
    for time, stays in ((1.0, True), (0.97, True), (0.95, False)):
        t = torch.tensor(time, dtype=torch.float64)
        velocity = (z - guided(z, Levels(1 - t, t, t))) / t
        assert bool(velocity.abs().max() < 1e-12) is stays, time

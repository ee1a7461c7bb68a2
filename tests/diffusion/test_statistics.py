"""Latent statistics against closed forms."""

from __future__ import annotations

import json

import pytest
import torch

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.errors import CheckpointError
from ldmkit.values import Posterior


def posteriors() -> list[Posterior]:
    random = torch.Generator().manual_seed(0)
    shift, spread = torch.tensor([2.0, -1.0, 0.0]).view(1, 3, 1, 1), torch.tensor([0.5, 3.0, 1.0]).view(1, 3, 1, 1)
    return [
        Posterior(shift + spread * torch.randn(size, 3, 4, 4, generator=random), torch.full((size, 3, 4, 4), 0.2))
        for size in (5, 64, 300)
    ]


def test_normalised_samples_have_zero_mean_and_unit_variance_per_channel() -> None:
    statistics = LatentStatistics.measure(posteriors(), "digest")
    whole = Posterior(*(torch.cat([getattr(p, name) for p in posteriors()]) for name in ("mean", "std")))
    z0 = statistics.normalise(whole.sample(RowRandom.of(0, "test", 0, range(369))))
    torch.testing.assert_close(z0.mean((0, 2, 3)), torch.zeros(3), atol=0.01, rtol=0)
    torch.testing.assert_close(z0.std((0, 2, 3)), torch.ones(3), atol=0.01, rtol=0)
    assert statistics.count == 369


def test_the_moments_are_those_of_the_posteriors_not_of_one_draw() -> None:
    """Variance of a mixture: mean of variances plus variance of means."""
    whole = torch.cat([p.mean for p in posteriors()]).double()
    statistics = LatentStatistics.measure(posteriors(), "digest")
    variance = whole.var((0, 2, 3), correction=0) + 0.2**2
    torch.testing.assert_close(statistics.shift.double(), whole.mean((0, 2, 3)), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(statistics.scale.double(), variance.rsqrt(), atol=1e-6, rtol=1e-6)


def test_a_given_scale_multiplies_and_nothing_else() -> None:
    statistics = LatentStatistics.measure(posteriors(), "digest").with_scale(0.18215)
    latents = posteriors()[0].mean
    torch.testing.assert_close(statistics.normalise(latents), 0.18215 * latents)
    torch.testing.assert_close(statistics.undo(0.18215 * latents), latents)
    statistics.belongs_to("digest")


def test_undoing_is_the_inverse_and_json_keeps_every_digit() -> None:
    statistics = LatentStatistics.measure(posteriors(), "digest")
    again = LatentStatistics.from_json(json.loads(json.dumps(statistics.as_json())))
    latents = posteriors()[0].mean
    torch.testing.assert_close(again.undo(statistics.normalise(latents)), latents)
    assert torch.equal(again.scale, statistics.scale)


def test_a_constant_channel_stays_finite() -> None:
    statistics = LatentStatistics.measure([Posterior(torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2))], "digest")
    assert torch.isfinite(statistics.normalise(torch.ones(2, 1, 2, 2))).all()


def test_another_first_stage_is_refused() -> None:
    statistics = LatentStatistics.measure(posteriors(), "one")
    statistics.belongs_to("one")
    with pytest.raises(CheckpointError, match="belong to first stage one, but this is first stage two"):
        statistics.belongs_to("two")


def test_a_scalar_is_one_over_the_deviation_of_all_numbers_and_shifts_nothing() -> None:
    """Rombach et al. 2022, appendix G: sigma^2 is the mean of (z - mean(z))^2 over all of b, c, h, w."""
    shift, spread = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1), torch.tensor([0.5, 3.0]).view(1, 2, 1, 1)
    noise = torch.Generator().manual_seed(0)
    means = [shift + spread * torch.randn(size, 2, 4, 4, generator=noise) for size in (5, 9)]
    made = [Posterior(mean, torch.full_like(mean, 0.3)) for mean in means]
    statistics = LatentStatistics.measure(made, "digest", "scalar")
    deviation = (torch.cat(means).double().var(correction=0) + 0.3**2).sqrt()
    assert torch.equal(statistics.shift, torch.zeros(2))
    torch.testing.assert_close(statistics.scale.double(), (1 / deviation).expand(2), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(statistics.normalise(means[0]).double(), means[0].double() / deviation)

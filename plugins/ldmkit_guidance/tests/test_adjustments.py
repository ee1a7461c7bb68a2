"""Interval, rescale and threshold go with every guidance and with each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from ldmkit_guidance.adjustments import rescaled, thresholded
from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.values import Levels

NULL, COND = (0.3, 1.2), (1.5, 0.6)
GUIDED = [("cfg", {"scale": 4.0}), ("cfg-zero-star", {"scale": 4.0}), ("autoguidance", {"run": "x"}), ("pag", {})]


def at(noise_level: float) -> Levels:
    """The variance-preserving level with this sigma / alpha."""
    alpha = torch.tensor(1 / (1 + noise_level**2) ** 0.5, dtype=torch.float64)
    return Levels(alpha, alpha * noise_level, alpha)


@pytest.fixture
def model(gaussians: Any) -> Any:
    return gaussians({(): NULL, ("text",): COND}, other=gaussians({(): NULL, ("text",): (0.9, 0.9)}))


@pytest.mark.parametrize(("option", "keys"), GUIDED)
def test_outside_the_interval_the_estimate_is_the_conditional_one_at_the_cost_of_one(
    *, option: str, keys: dict[str, Any], guidance: Any, model: Any, exact_x0: Any, z: Tensor
) -> None:
    everywhere = model.guided(guidance(option, **keys))
    limited = model.guided(guidance(option, **keys, interval=[0.5, 3.0]))
    for noise_level in (0.51, 1.0, 3.0):
        level = at(noise_level - 1e-9)
        torch.testing.assert_close(limited(z, level), everywhere(z, level), rtol=0, atol=0)
    for noise_level in (0.1, 0.5, 3.01, 50.0):
        model.calls.clear()
        torch.testing.assert_close(limited(z, at(noise_level)), exact_x0(*COND, z, at(noise_level)))
        assert model.calls == [3]


def test_pure_noise_is_above_every_interval_but_one_without_end(guidance: Any, model: Any, z: Tensor) -> None:
    one = torch.tensor(1.0, dtype=torch.float64)
    level = Levels(0 * one, one, one)
    unguided = model.guided(guidance("cfg", interval=[0.0, 1e6]))(z, level)
    guided = model.guided(guidance("cfg", interval=[0.0, float("inf")]))(z, level)
    torch.testing.assert_close(unguided, torch.full_like(z, COND[0]))
    torch.testing.assert_close(guided, torch.full_like(z, NULL[0] + 2 * (COND[0] - NULL[0])))


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_rescaling_is_that_of_diffusers(share: float, z: Tensor) -> None:
    x0, x0_cond = 3 * z + 1, z.flip(0).sin()
    torch.testing.assert_close(rescaled(x0, x0_cond, share), rescale_noise_cfg(x0, x0_cond, share))


@pytest.mark.parametrize(("option", "keys"), GUIDED)
def test_rescaled_all_the_way_a_picture_has_the_spread_of_the_conditional_one(
    *, option: str, keys: dict[str, Any], guidance: Any, model: Any, exact_x0: Any, z: Tensor
) -> None:
    got = model.guided(guidance(option, **keys, rescale=1.0))(z, at(1.0))
    std, expected = (each.flatten(1).std(1) for each in (got, exact_x0(*COND, z, at(1.0))))
    torch.testing.assert_close(std, expected)


def test_thresholding_with_a_floor_of_one_is_that_of_the_paper(z: Tensor) -> None:
    x0 = 2 * z
    for row, got in zip(x0, thresholded(x0, 0.9, 1.0), strict=True):
        s = max(sorted(row.abs().flatten().tolist())[89], 1.0)  # 90 of 100 elements are not above it
        torch.testing.assert_close(got, row.clamp(-s, s) / s)


def test_a_picture_below_the_floor_is_left_as_it_is_and_the_others_end_at_it(z: Tensor) -> None:
    x0 = torch.stack([z[0].clamp(-2, 2), 10 * z[1]])
    small, large = thresholded(x0, 0.95, 3.0)
    torch.testing.assert_close(small, x0[0])
    assert large.abs().max() == pytest.approx(3.0)


@pytest.mark.parametrize(("option", "keys"), GUIDED)
def test_thresholding_bounds_every_guidance_in_and_outside_the_interval(
    *, option: str, keys: dict[str, Any], guidance: Any, model: Any, z: Tensor
) -> None:
    part = guidance(option, **keys, interval=[0.5, 3.0], threshold=0.99, threshold_floor=1.0)
    for noise_level in (0.1, 1.0):
        assert model.guided(part)(5 * z, at(noise_level)).abs().max() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"interval": [3.0, 0.5]}, "interval is .3.0, 0.5. but must go from a lower to a higher noise level"),
        ({"interval": [-1.0, 0.5]}, "interval is -1.0 but must be 0 or more"),
        ({"rescale": 1.5}, "rescale is 1.5 but must be 0 to 1"),
        ({"threshold": 99.5}, "threshold is 99.5 but must be 0 to 1"),
        ({"threshold_floor": 0.0}, "threshold_floor is 0.0 but must be more than 0"),
        ({"scale": {"text": float("inf")}}, "scale.text is inf but must be finite"),
    ],
)
def test_numbers_out_of_range_are_refused(keys: dict[str, Any], message: str, guidance: Any) -> None:
    with pytest.raises(ConfigError, match=f"guidance.{message}"):
        guidance("cfg", **keys)

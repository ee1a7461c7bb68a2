"""Levels to sample at lie where the papers, and diffusers, put them."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from ldmkit.diffusion.spacing import beta, compvis, leading, linspace, spaced, trailing
from ldmkit.errors import ConfigError
from ldmkit.specs import Spacing
from ldmkit.values import Levels

SPACINGS = get_args(Spacing)
BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def stable_diffusion() -> Levels:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    abar = (1 - betas).cumprod(0)
    return Levels(abar.sqrt(), (1 - abar).sqrt(), torch.arange(1000.0).double())


def rectified_flow() -> Levels:
    sigma = torch.arange(1, 1001, dtype=torch.float64) / 1000
    return Levels(1 - sigma, sigma, 1000 * sigma)


def noise_levels(levels: Levels) -> Tensor:
    return levels.sigma / levels.alpha


@pytest.mark.parametrize("training", [stable_diffusion(), rectified_flow()], ids=["diffusion", "flow"])
@pytest.mark.parametrize("spacing", [name for name in SPACINGS if name != "compvis"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 333, 1000, 1500])
def test_levels_are_as_many_as_asked_and_fall_to_the_clean_one(training: Levels, spacing: Spacing, steps: int) -> None:
    levels = spaced(training.to(torch.float32), steps, spacing)
    assert len(levels) == steps + 1
    assert (levels.alpha[-1], levels.sigma[-1], levels.t[-1]) == (1, 0, training.t[0])
    assert levels.log_snr.double().diff().min() > 0
    assert levels.t[:-1].diff().numel() == 0 or levels.t[:-1].diff().max() < 0
    if spacing != "leading":
        torch.testing.assert_close(levels.sigma[0].double(), training.sigma[-1], rtol=1e-5, atol=0)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_between_two_levels_of_training_a_level_is_on_their_curve(spacing: Spacing) -> None:
    levels = spaced(rectified_flow(), 40, spacing)
    assert (levels.alpha + levels.sigma - 1).abs().max() < 1e-5
    assert (1000 * levels.sigma - levels.t)[:-1].abs().max() < 1e-2


def test_trailing_leading_and_linspace_are_those_of_the_paper() -> None:
    """Lin et al. 2024, table 2, which counts from 1."""
    assert (trailing(1000, 10) + 1).tolist() == [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100]
    assert (leading(1000, 10) + 1).tolist() == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
    assert (linspace(1000, 10) + 1).tolist() == [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1]


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("steps", [1, 4, 10, 50, 1000])
def test_training_steps_are_those_of_diffusers(spacing: Spacing, steps: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(**BETAS, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    if (spacing, steps) == ("linspace", 1):
        assert scheduler.timesteps.tolist() == [0]  # numpy's linspace of one number; ours begins at the most noise
    else:
        assert spaced(stable_diffusion(), steps, spacing).t[:-1].tolist() == scheduler.timesteps.tolist()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("spacing", "key"), [("karras", "use_karras_sigmas"), ("exponential", "use_exponential_sigmas")]
)
def test_noise_levels_are_those_of_diffusers(spacing: Spacing, key: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="linspace", **{key: True})
    scheduler.set_timesteps(12)
    levels = spaced(stable_diffusion(), 12, spacing)
    torch.testing.assert_close(noise_levels(levels).float(), scheduler.sigmas, rtol=1e-4, atol=0)
    assert (levels.t[:-1] - scheduler.timesteps).abs().max() < 0.5  # they interpolate in log(sigma), we in the angle


def test_karras_is_its_formula() -> None:
    noise = noise_levels(spaced(stable_diffusion(), 6, "karras"))[:-1] ** (1 / 7)
    assert noise.diff().tolist() == pytest.approx([noise.diff()[0].item()] * 5, rel=1e-6)


@pytest.mark.parametrize("spacing", ["exponential", "uniform-log-snr"])
def test_steps_of_equal_length_in_log_snr(spacing: Spacing) -> None:
    steps = spaced(stable_diffusion(), 6, spacing).log_snr[:-1].diff()
    assert steps.tolist() == pytest.approx([steps[0].item()] * 5, rel=1e-6)


def test_beta_is_the_quantile_function_of_the_beta_distribution() -> None:
    stats = pytest.importorskip("scipy.stats")
    for steps in (2, 9, 100):
        expected = 999 * stats.beta.ppf(np.linspace(1, 0, steps), 0.6, 0.6)
        assert beta(1000, steps).tolist() == pytest.approx(expected.tolist(), abs=0.01)


@pytest.mark.parametrize("spacing", ["karras", "exponential", "beta", "trailing"])
def test_a_level_without_any_signal_comes_first(spacing: Spacing) -> None:
    levels = spaced(rectified_flow(), 5, spacing)
    assert (levels.alpha[0], levels.sigma[0]) == (0, 1)
    assert levels.alpha[1] > 0
    assert spaced(rectified_flow(), 1, spacing).alpha.tolist() == [0, 1]


@pytest.mark.parametrize(("asked", "made"), [(50, 50), (150, 167), (400, 500), (200, 200), (1, 1)])
def test_compvis_makes_the_steps_that_the_original_code_made(asked: int, made: int) -> None:
    levels = spaced(stable_diffusion(), asked, "compvis")
    assert len(levels) == made + 1
    assert levels.t.tolist() == [*reversed(range(1, 1001, 1000 // asked)), 0]
    first = stable_diffusion()[0]
    torch.testing.assert_close((levels.alpha[-1], levels.sigma[-1]), (first.alpha, first.sigma))  # abar_0, not 1


def test_fifty_steps_of_compvis_begin_at_981() -> None:
    assert compvis(1000, 50)[[0, -1]].tolist() == [981, 1]


@pytest.mark.parametrize(("steps", "fewer"), [(300, 250), (1000, 500), (1001, 500)])
def test_compvis_refuses_the_steps_at_which_the_original_code_fails(steps: int, fewer: int) -> None:
    with pytest.raises(
        ConfigError, match=f"cannot make {steps} steps: .* can make are {fewer}; or take spacing=leading"
    ):
        spaced(stable_diffusion(), steps, "compvis")


def test_no_level_at_all_is_refused() -> None:
    for spacing in SPACINGS:
        with pytest.raises(ValueError, match="steps=0 but expected 1 or more"):
            spaced(stable_diffusion(), 0, spacing)


def test_a_level_of_any_log_snr_is_found_on_the_path() -> None:
    path = stable_diffusion()
    levels = spaced(path, 9, "trailing")
    wanted = path.log_snr[[900, 412, 3]]
    found = levels.at(wanted)
    torch.testing.assert_close(found.t, torch.tensor([900, 412, 3], dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.log_snr, wanted)
    torch.testing.assert_close(found.alpha, path.alpha[[900, 412, 3]])


def test_beyond_the_ends_of_the_path_the_time_stays() -> None:
    ends = spaced(stable_diffusion(), 9).at(torch.tensor([-30.0, 30.0, -torch.inf, torch.inf]))
    assert ends.t.tolist() == [999, 0, 999, 0]
    assert ends.alpha[2:].tolist() == [0, 1]


def test_without_a_path_the_time_is_a_straight_line_between_the_levels_given() -> None:
    angle = torch.linspace(1.5, 0, 4, dtype=torch.float64)
    levels = Levels(angle.cos(), angle.sin(), 100 * angle)
    middle = torch.tensor([1.25, 0.1], dtype=torch.float64)
    assert levels.at(-2 * middle.tan().log()).t.tolist() == pytest.approx([125, 10])

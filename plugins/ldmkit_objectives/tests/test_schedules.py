"""The noise schedules are those of the papers, and give any number of levels."""

import math
from typing import Any

import pytest
import torch
from ldmkit_objectives.schedules import Schedule, ScheduleConfig

from ldmkit.errors import ConfigError
from ldmkit.registry.schema import typed

NODE = {
    "kind": "linear",
    "steps": 1000,
    "start": 0.00085,
    "end": 0.012,
    "tau": 1.0,
    "shift": 1.0,
    "zero_terminal_snr": False,
}
KINDS = ["linear", "linear-beta", "cosine", "sigmoid", "edm", "flow"]


def schedule(kind: str = "linear", **keys: Any) -> Schedule:
    return Schedule(typed(ScheduleConfig, {**NODE, "kind": kind, **keys}, "objective.schedule"))


@pytest.mark.parametrize(
    ("start", "end", "abar", "sigma_max"),
    [
        (0.00085, 0.0120, 0.004660, 14.615),
        (0.0015, 0.0195, 0.000142, 83.82),
        (0.0015, 0.0155, 0.000669, 38.66),
        (0.0015, 0.0205, 0.000097, 101.6),
        (0.0015, 0.0150, 0.000813, 35.07),
    ],
)
def test_the_end_points_of_the_paper_end_in_its_noise_levels(
    start: float, end: float, abar: float, sigma_max: float
) -> None:
    last = schedule(start=start, end=end).at(torch.ones(1))
    assert last.alpha.item() ** 2 == pytest.approx(abar, abs=6e-7)
    assert (last.sigma / last.alpha).item() == pytest.approx(sigma_max, rel=5e-4)


def test_stable_diffusion_begins_at_its_sigma_min() -> None:
    first = schedule().at(torch.zeros(1))
    assert (first.sigma / first.alpha).item() == pytest.approx(0.0292, abs=5e-5)


def test_the_linear_schedule_is_a_straight_line_in_the_square_root_of_beta() -> None:
    abar = schedule(start=0.0015, end=0.0195).alpha.double().square()
    root_of_beta = (1 - abar[1:] / abar[:-1]).sqrt()
    slope = (0.0195**0.5 - 0.0015**0.5) / 999
    assert root_of_beta[:300].diff().mean().item() == pytest.approx(slope, rel=1e-3)


def test_the_cosine_schedule_follows_its_formula_up_to_the_cap() -> None:
    def f(t: int) -> float:
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    cosine = schedule("cosine")
    for t in (0, 1, 250, 500, 900, 998):
        assert cosine.alpha[t].item() ** 2 == pytest.approx(f(t + 1) / f(0), rel=1e-5)
    ratio = (cosine.alpha[999] / cosine.alpha[998]).item() ** 2
    assert ratio == pytest.approx(1 - 0.999, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_signal_and_noise_have_unit_variance_together(kind: str) -> None:
    part = schedule(kind)
    for levels in (part.levels(50), part.levels(3000), part.at(torch.linspace(0, 1, 777))):
        power = levels.alpha.double().square() + levels.sigma.double().square()
        assert (power - 1).abs().max() < 3e-7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 150, 300, 400, 600, 999, 1000, 1001, 2500])
def test_levels_are_as_many_as_asked_and_fall(kind: str, steps: int) -> None:
    levels = schedule(kind).levels(steps)
    assert len(levels) == steps + 1
    assert levels.t[0] == 999
    assert (levels.t[:-1].diff() < 0).all()
    assert (torch.atan2(levels.sigma.double(), levels.alpha.double()).diff() < 0).all()


def test_every_number_of_levels_up_to_the_training_steps_is_made_of_distinct_training_steps() -> None:
    part = schedule(steps=100)
    for steps in range(1, 101):
        t = part.levels(steps).t[:-1].long()
        assert len(set(t.tolist())) == steps
        torch.testing.assert_close(part.levels(steps).alpha[:-1], part.alpha[t])


def test_the_spacing_is_trailing() -> None:
    assert schedule().levels(10).t.tolist() == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99, 0]


def test_times_between_two_steps_are_rounded_to_the_nearer() -> None:
    assert schedule().levels(3).t.tolist() == [999, 666, 332, 0]  # 1000, 666.7, 333.3, less one


def test_no_level_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="steps=0 but expected 1 or more"):
        schedule().levels(0)


def test_every_training_step_owns_an_equal_share_of_the_times() -> None:
    times = (torch.arange(5000) + 0.5) / 5000
    assert torch.bincount(schedule().at(times).t.long()).tolist() == [5] * 1000


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": 0.0},
        {"end": 1.0},
        {"start": 0.5, "end": 0.1},
        {"steps": 1},
        {"tau": 0.0},
        {"shift": 0.0},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    key = next(iter(wrong))
    with pytest.raises(ConfigError, match=rf"^objective\.schedule\.{key} is {wrong[key]} but must be"):
        schedule(**wrong)


def test_a_plain_line_of_betas_ends_where_its_closed_form_says() -> None:
    logs = sum(math.log1p(-(1e-4 + (0.02 - 1e-4) * step / 999)) for step in range(1000))
    assert schedule("linear-beta", start=1e-4, end=0.02).alpha[-1].item() == pytest.approx(math.exp(logs / 2), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_with_zero_terminal_snr_the_end_has_no_signal_and_the_beginning_is_kept(kind: str) -> None:
    plain, stretched = schedule(kind), schedule(kind, zero_terminal_snr=True)
    assert (stretched.alpha[-1], stretched.sigma[-1]) == (0, 1)
    assert stretched.alpha[0] == plain.alpha[0]
    slope = stretched.alpha.double().diff() / plain.alpha.double().diff()
    assert slope[100:900].std() / slope[100:900].mean() < 0.02  # alpha is moved and scaled, no more


def test_the_edm_schedule_has_the_noise_levels_of_its_paper() -> None:
    level = schedule("edm").step(torch.tensor([499.0, 749.0, 999.0]))
    ends = 0.002 ** (1 / 7), 80 ** (1 / 7)
    expected = [(ends[0] + time * (ends[1] - ends[0])) ** 7 for time in (0.5, 0.75, 1.0)]
    assert (level.sigma / level.alpha).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_the_sigmoid_schedule_follows_its_formula(tau: float) -> None:
    def s(x: float) -> float:
        return 1 / (1 + math.exp(-x / tau))

    table = schedule("sigmoid", tau=tau).alpha.square()
    for step in (0, 300, 700, 998):
        time = (step + 1) / 1000
        expected = (s(3) - s(-3 + 6 * time)) / (s(3) - s(-3))
        assert table[step].item() == pytest.approx(expected, rel=1e-5)
    assert table[-1].item() == pytest.approx(1e-9)


@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_shifted_flow_times_are_those_of_the_paper(shift: float) -> None:
    times = torch.tensor([0.001, 0.1, 0.5, 0.9, 1.0])
    level = schedule("flow", shift=shift).at(times)
    expected = shift * times / (1 + (shift - 1) * times)  # Esser et al. 2024, eq. 23
    torch.testing.assert_close(level.sigma / (level.alpha + level.sigma), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shift_multiplies_sigma_over_alpha(kind: str) -> None:
    plain, shifted = schedule(kind), schedule(kind, shift=2.0)
    both = [(part.sigma / part.alpha)[:-1].double() for part in (plain, shifted)]
    torch.testing.assert_close(both[1], 2 * both[0], rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["sigmoid", "edm", "flow"])
def test_schedules_that_are_functions_of_time_know_every_time(kind: str) -> None:
    part = schedule(kind)
    levels = part.at(torch.linspace(0.4, 0.6, 4001))
    assert (levels.t.diff() > 0).all()
    assert (levels.alpha.diff() <= 0).all()
    torch.testing.assert_close(levels.t, torch.linspace(399, 599, 4001), rtol=0, atol=1e-3)
    between = part.step(torch.tensor([499.0, 499.5, 500.0])).log_snr
    assert (between[0] + between[2] - 2 * between[1]).abs() < 1e-4


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_levels_of_any_log_snr_are_told_as_the_time_that_has_it(kind: str, shift: float) -> None:
    part = schedule(kind, shift=shift)
    steps = part.step(torch.tensor([10.0, 300.0, 300.5, 900.0]))
    found = part.at_log_snr(steps.log_snr + 2 * math.log(shift))  # asked for as it is before the shift
    torch.testing.assert_close(found.t, steps.t, rtol=0, atol=0.05)
    torch.testing.assert_close(found.log_snr, steps.log_snr, rtol=0, atol=1e-4)


def test_beyond_the_ends_of_the_schedule_the_noise_is_as_asked_and_the_time_that_of_the_end() -> None:
    found = schedule().at_log_snr(torch.tensor([20.0, -20.0]))
    assert found.t.tolist() == [0, 999]
    torch.testing.assert_close(found.log_snr, torch.tensor([20.0, -20.0]), rtol=1e-4, atol=0)

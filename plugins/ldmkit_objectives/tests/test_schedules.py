"""The noise schedules are those of the papers, and give any number of levels."""

import math

import pytest
import torch
from ldmkit_objectives.schedules import Schedule, ScheduleConfig

from ldmkit.errors import ConfigError
from ldmkit.registry.schema import typed


def schedule(kind: str = "linear", steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> Schedule:
    return Schedule(ScheduleConfig(kind=kind, steps=steps, start=start, end=end))  # type: ignore[arg-type]


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


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_signal_and_noise_have_unit_variance_together(kind: str) -> None:
    part = schedule(kind)
    for levels in (part.levels(50), part.levels(3000), part.at(torch.linspace(0, 1, 777))):
        power = levels.alpha.double().square() + levels.sigma.double().square()
        assert (power - 1).abs().max() < 3e-7


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 150, 300, 400, 600, 999, 1000, 1001, 2500])
def test_levels_are_as_many_as_asked_and_fall(kind: str, steps: int) -> None:
    levels = schedule(kind).levels(steps)
    assert len(levels) == steps + 1
    assert levels.t[0] == 999
    assert (levels.t[:-1].diff() < 0).all()
    assert (levels.alpha.diff() > 0).all()
    assert (levels.sigma.diff() < 0).all()


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


@pytest.mark.parametrize("wrong", [{"start": 0.0}, {"end": 1.0}, {"start": 0.5, "end": 0.1}, {"steps": 0}])
def test_numbers_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    node = {"kind": "linear", "steps": 1000, "start": 0.00085, "end": 0.012, **wrong}
    key = next(iter(wrong))
    with pytest.raises(ConfigError, match=rf"^objective\.schedule\.{key} is {wrong[key]} but must be"):
        typed(ScheduleConfig, node, "objective.schedule")

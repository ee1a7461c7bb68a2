"""The loss of the denoiser is also told by how much noise there was."""

import math

import torch

from ldmkit.stages.denoiser import loss_by_noise
from ldmkit.values import Levels


def at(*ways: float) -> Levels:
    """Levels at shares of the quarter circle from clean (0) to noise (1)."""
    angle = torch.tensor(ways) * math.pi / 2
    return Levels(angle.cos(), angle.sin(), angle)


def test_each_quarter_of_the_way_to_noise_has_the_mean_of_its_rows() -> None:
    told = loss_by_noise(torch.tensor([1.0, 3.0, 10.0, 20.0, 40.0]), at(0.01, 0.2, 0.3, 0.6, 0.99))
    assert {name: value.item() for name, value in told.items()} == {
        "loss_noise_1": 2.0,
        "loss_noise_2": 10.0,
        "loss_noise_3": 20.0,
        "loss_noise_4": 40.0,
    }


def test_no_signal_at_all_is_in_the_last_quarter_and_empty_quarters_are_not_numbers() -> None:
    nothing = Levels(torch.zeros(2), torch.ones(2), torch.zeros(2))
    told = loss_by_noise(torch.tensor([1.0, 2.0]), nothing)
    assert told["loss_noise_4"] == 1.5
    assert all(told[f"loss_noise_{quarter}"].isnan() for quarter in (1, 2, 3))


def test_what_counts_is_the_ratio_of_noise_to_signal_not_their_scale() -> None:
    levels, losses = at(0.1, 0.4, 0.7, 0.9), torch.tensor([1.0, 2.0, 3.0, 4.0])
    total = levels.alpha + levels.sigma
    flow = Levels(levels.alpha / total, levels.sigma / total, levels.t)
    assert loss_by_noise(losses, flow) == loss_by_noise(losses, levels)

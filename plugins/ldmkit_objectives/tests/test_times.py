"""How often training meets each noise level."""

import math
from statistics import NormalDist
from typing import Any

import pytest
import torch
from ldmkit_objectives.times import Times, TimesConfig
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.values import Levels


class Asked:
    """Stands for a schedule, and tells what it is asked for: a time in [0, 1] or a log-SNR."""

    alpha = torch.zeros(1)

    def at(self, time: Tensor) -> Levels:
        return Levels(time, time, time)

    at_log_snr = at


def draw(
    count: int, distribution: str = "uniform", stratified: bool = False, mean: float = 0.0, std: float = 1.0
) -> Tensor:
    config = TimesConfig(distribution=distribution, stratified=stratified, mean=mean, std=std)  # type: ignore[arg-type]
    asked: Any = Asked()
    return Times(config).draw(RowRandom.of(0, "denoiser", 5, range(count)), asked).t


def test_uniform_times_fill_the_unit_interval_evenly() -> None:
    times = draw(4000).double().sort().values
    ideal = (torch.arange(4000) + 0.5) / 4000
    assert (times - ideal).abs().max() < 1.95 / math.sqrt(4000)  # Kolmogorov-Smirnov, 0.1 %


def test_stratified_rows_fall_one_into_each_share() -> None:
    for count in (1, 7, 32):
        shares = (draw(count, stratified=True) * count).floor()
        assert shares.tolist() == list(range(count))


@pytest.mark.parametrize("stratified", [False, True])
def test_logit_normal_times_have_the_quantiles_of_their_distribution(stratified: bool) -> None:
    logits = torch.logit(draw(4000, "logit-normal", stratified, mean=0.5, std=0.8).double())
    normal = NormalDist(0.5, 0.8)
    for share in (0.1, 0.5, 0.9):
        assert logits.quantile(share).item() == pytest.approx(normal.inv_cdf(share), abs=0.06)


def test_log_normal_noise_has_the_quantiles_of_its_distribution() -> None:
    log_sigma = -0.5 * draw(4000, "log-normal", stratified=True, mean=-1.2, std=1.2).double()
    normal = NormalDist(-1.2, 1.2)
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        assert log_sigma.quantile(share).item() == pytest.approx(normal.inv_cdf(share), abs=0.01)


@pytest.mark.parametrize(("mu", "b"), [(0.0, 0.5), (-1.0, 0.75)])
def test_laplace_log_snr_has_the_quantiles_of_its_distribution(mu: float, b: float) -> None:
    log_snr = draw(4000, "laplace", stratified=True, mean=-mu, std=b).double()
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        expected = mu + (b * math.log(2 * share) if share < 0.5 else -b * math.log(2 - 2 * share))
        assert log_snr.quantile(share).item() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("distribution", ["uniform", "logit-normal", "log-normal", "laplace"])
def test_a_later_row_of_a_stratified_batch_has_more_noise(distribution: str) -> None:
    asked = draw(64, distribution, stratified=True)
    change = asked.diff() if distribution in {"uniform", "logit-normal"} else -asked.diff()
    assert (change > 0).all()


@pytest.mark.parametrize("distribution", ["log-normal", "laplace"])
@pytest.mark.parametrize("quantile", [0.0, 1.0])
def test_the_ends_of_a_distribution_are_finite(distribution: str, quantile: float) -> None:
    times = Times(TimesConfig(distribution=distribution, stratified=False, mean=0.0, std=1.0))  # type: ignore[arg-type]
    times.quantiles = lambda random, device="cpu": torch.tensor([quantile])  # type: ignore[method-assign]
    asked: Any = Asked()
    assert times.draw(RowRandom.of(0, "denoiser", 5, [0]), asked).t.isfinite().all()


def test_a_rows_time_is_its_own_unless_stratified() -> None:
    asked: Any = Asked()
    alone = Times(TimesConfig(distribution="uniform", stratified=False, mean=0.0, std=1.0)).draw(
        RowRandom.of(0, "denoiser", 5, [3]), asked
    )
    assert torch.equal(draw(8)[3:4], alone.t)


def test_a_distribution_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^std is 0\.0 but must be more than 0$"):
        draw(1, std=0.0)

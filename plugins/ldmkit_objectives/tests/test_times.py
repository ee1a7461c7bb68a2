"""How often training meets each noise level."""

import math
from statistics import NormalDist

import pytest
import torch
from ldmkit_objectives.times import Times, TimesConfig

from ldmkit.artifacts.random import RowRandom


def draw(
    count: int, distribution: str = "uniform", stratified: bool = False, mean: float = 0.0, std: float = 1.0
) -> torch.Tensor:
    config = TimesConfig(distribution=distribution, stratified=stratified, mean=mean, std=std)  # type: ignore[arg-type]
    return Times(config).draw(RowRandom.of(0, "denoiser", 5, range(count)))


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


def test_a_rows_time_is_its_own_unless_stratified() -> None:
    alone = Times(TimesConfig(distribution="uniform", stratified=False, mean=0.0, std=1.0)).draw(
        RowRandom.of(0, "denoiser", 5, [3])
    )
    assert torch.equal(draw(8)[3:4], alone)


def test_a_distribution_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^std is 0\.0 but must be more than 0$"):
        draw(1, std=0.0)

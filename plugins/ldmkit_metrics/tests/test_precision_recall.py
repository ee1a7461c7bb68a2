"""Precision and recall of clouds whose answer is known."""

from __future__ import annotations

import pytest
import torch
from ldmkit_metrics.precision_recall import covered


def line(*places: float) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.float64)[:, None]


def cloud(count: int, seed: int, centre: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + centre


def test_a_ball_reaches_to_the_kth_neighbour_and_holds_its_rim() -> None:
    by = line(0, 1, 3)  # radii 1, 1, 2 to the first neighbour; 3, 2, 3 to the second
    assert covered(line(-1, 2, 5, 5.5), by=by, neighbours=1) == 0.75
    assert covered(line(-3, -3.5, 6, 6.5), by=by, neighbours=2) == 0.5


def test_a_set_covers_itself() -> None:
    points = cloud(50, 0)
    assert covered(points, by=points, neighbours=3) == 1


def test_sets_far_apart_cover_nothing_of_each_other() -> None:
    near, far = cloud(50, 0), cloud(50, 1, centre=100)
    assert covered(near, by=far, neighbours=3) == covered(far, by=near, neighbours=3) == 0


def test_samples_of_half_of_the_modes_are_precise_and_recall_half() -> None:
    images = torch.cat([cloud(100, 0), cloud(100, 1, centre=100)])
    samples = images[:100]
    assert covered(samples, by=images, neighbours=3) == 1
    assert covered(images, by=samples, neighbours=3) == 0.5


def test_samples_of_which_half_lie_nowhere_are_half_precise_and_recall_all() -> None:
    images = cloud(100, 0)
    samples = torch.cat([images, cloud(100, 1, centre=100)])
    assert covered(samples, by=images, neighbours=3) == 0.5
    assert covered(images, by=samples, neighbours=3) == 1


def test_the_size_of_the_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = cloud(60, 0), cloud(70, 1)
    before = covered(one, by=other, neighbours=3)
    assert 0 < before < 1
    monkeypatch.setattr("ldmkit_metrics.precision_recall.ROWS", 11)
    assert covered(one, by=other, neighbours=3) == before

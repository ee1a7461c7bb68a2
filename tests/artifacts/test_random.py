"""Random streams: pure functions of their keys."""

from __future__ import annotations

import math

import torch

from ldmkit.artifacts.random import RowRandom, generator, permutation


def test_a_row_does_not_depend_on_its_batch() -> None:
    whole = RowRandom.of(1, "denoiser", 7, [4, 5, 6])
    alone = RowRandom.of(1, "denoiser", 7, [6])
    assert torch.equal(whole.normal("noise", (2, 3))[2:], alone.normal("noise", (2, 3)))
    assert torch.equal(whole.uniform("time")[2:], alone.uniform("time"))


def test_every_part_of_the_key_matters() -> None:
    keys = [(0, "a", 1, 2, "p"), (1, "a", 1, 2, "p"), (0, "b", 1, 2, "p"), (0, "a", 2, 2, "p"), (0, "a", 1, 3, "p")]
    drawn = [tuple(generator(*key).random(4)) for key in [*keys, (0, "a", 1, 2, "q"), (0, "a", 12, "p")]]
    assert len(set(drawn)) == len(drawn)


def test_the_same_key_gives_the_same_numbers_on_every_machine() -> None:
    """Philox is specified, and so is the hash: these are fixed points, like a file format."""
    assert generator(0, "stage", 1).integers(0, 1000, 5).tolist() == [126, 484, 80, 233, 232]


def test_normal_numbers_are_normal_and_uniform_ones_uniform() -> None:
    random = RowRandom.of(0, "test", 0, range(200))
    normal = random.normal("n", (100,))
    count = normal.numel()
    assert abs(normal.mean().item()) < 4 / math.sqrt(count)
    assert abs(normal.var().item() - 1) < 4 * math.sqrt(2 / count)
    uniform = RowRandom.of(0, "test", 0, range(5000)).uniform("u")
    assert abs(uniform.mean().item() - 0.5) < 4 / math.sqrt(12 * 5000)
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1


def test_double_precision_is_drawn_in_double_precision() -> None:
    drawn = RowRandom.of(0, "test", 0, [0]).normal("n", (1000,), dtype=torch.float64)
    assert drawn.dtype == torch.float64
    assert not torch.equal(drawn, drawn.float().double())


def test_a_permutation_holds_every_index_once() -> None:
    assert sorted(permutation(100, 0, "order", 1).tolist()) == list(range(100))
    assert permutation(100, 0, "order", 1).tolist() != permutation(100, 0, "order", 2).tolist()

"""The embedding of the time: cosines first, frequencies 10000^(-i / half)."""

import math

import torch
from ldmkit_denoisers.time_embedding import time_embedding


def test_it_is_the_formula() -> None:
    times, half = [0.0, 1.0, 250.5, 999.0], 4
    angles = [[t * 10_000 ** (-i / half) for i in range(half)] for t in times]
    expected = [[*map(math.cos, row), *map(math.sin, row)] for row in angles]
    torch.testing.assert_close(
        time_embedding(torch.tensor(times), 2 * half), torch.tensor(expected), atol=1e-4, rtol=1e-4
    )


def test_whole_numbers_go_and_the_result_is_fp32() -> None:
    whole = time_embedding(torch.tensor([3, 700]), 8)
    assert whole.dtype == torch.float32
    assert torch.equal(whole, time_embedding(torch.tensor([3.0, 700.0], dtype=torch.float64), 8))

"""Positions and patches: formulas, and nothing lost on the way to a sequence and back."""

import math

import pytest
import torch
from ldmkit_denoisers.patches import EdgeConvolution, to_latents, to_sequence
from ldmkit_denoisers.positions import sincos_positions


def formula(row: float, column: float, width: int) -> list[float]:
    quarter = width // 4
    halves = [[place / 10_000 ** (i / quarter) for i in range(quarter)] for place in (column, row)]
    return [f(angle) for angles in halves for f in (math.sin, math.cos) for angle in angles]


def test_positions_are_the_formula_at_any_aspect_ratio() -> None:
    expected = [formula(row, column, 16) for row in range(3) for column in range(5)]
    torch.testing.assert_close(sincos_positions(3, 5, 16), torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_a_larger_grid_agrees_with_a_smaller_one_where_both_have_places() -> None:
    large = sincos_positions(6, 9, 32).unflatten(0, (6, 9))
    torch.testing.assert_close(large[:4, :4].flatten(0, 1), sincos_positions(4, 4, 32))


def test_places_are_spread_over_those_of_the_trained_grid() -> None:
    expected = [formula(row * 4 / 8, column * 4 / 2, 16) for row in range(8) for column in range(2)]
    spread = sincos_positions(8, 2, 16, trained=4)
    torch.testing.assert_close(spread, torch.tensor(expected), atol=1e-5, rtol=1e-5)
    assert torch.equal(sincos_positions(4, 4, 16, trained=4), sincos_positions(4, 4, 16))


def test_positions_are_those_of_diffusers() -> None:
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    theirs = embeddings.get_2d_sincos_pos_embed(24, 6, base_size=6, output_type="pt")
    torch.testing.assert_close(sincos_positions(6, 6, 24), theirs.float(), atol=1e-5, rtol=1e-5)


def test_patches_come_back_where_they_were() -> None:
    latents = torch.randn(2, 3, 4, 6)
    cut = EdgeConvolution(3, 12, 2, stride=2)
    cut.weight.data.zero_()
    for row, column, channel in torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(3)).tolist():
        cut.weight.data[(row * 2 + column) * 3 + channel, channel, row, column] = 1.0
    torch.testing.assert_close(to_latents(to_sequence(cut(latents)), 2, 3, 2), latents)

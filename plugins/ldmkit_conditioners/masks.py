"""Random masks, made as the pictures come: which part of a picture is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom

STROKES, TURNS = 3, 4
"""Most strokes of a mask, and straight pieces of each."""

Draw = Callable[[Tensor, Tensor, Tensor], Tensor]


def draw_masks(random: RowRandom, size: tuple[int, int], shares: Mapping[str, float], device: torch.device) -> Tensor:
    """One mask for each row, of a kind drawn by ``shares`` (each 0 or more, one of them more): bool (B, H, W).

    Kinds are the keys of :data:`KINDS`; True is missing. Every mask leaves something missing and something known.
    """
    numbers = random.uniform("mask", (2 + 2 * STROKES * (TURNS + 2),), device=device)
    height, width = size
    y = ((torch.arange(height, device=device) + 0.5) / height).view(1, -1, 1)
    x = ((torch.arange(width, device=device) + 0.5) / width).view(1, 1, -1)
    weights = torch.tensor([shares[kind] for kind in KINDS], device=device).cumsum(0)
    kind = torch.searchsorted(weights, numbers[:, 0].contiguous() * weights[-1], right=True)
    masks = torch.zeros(len(random), height, width, dtype=torch.bool, device=device)
    for index, draw in enumerate(KINDS.values()):
        if shares[list(KINDS)[index]]:
            masks = torch.where((kind == index).view(-1, 1, 1), draw(numbers[:, 1:], y, x), masks)
    return masks


def box(numbers: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """A rectangle whose sides are 0.25 to 0.6 of the picture's, anywhere inside."""
    high, wide = (0.25 + 0.35 * column(numbers, i) for i in (0, 1))
    top, left = column(numbers, 2) * (1 - high), column(numbers, 3) * (1 - wide)
    return (y >= top) & (y < top + high) & (x >= left) & (x < left + wide)


def half(numbers: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The left, right, upper or lower half."""
    side = (column(numbers, 0) * 4).floor()
    along = torch.where(side < 2, x, y)
    return torch.where(side % 2 == 0, along < 0.5, along >= 0.5)


def outpaint(numbers: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """All around a rectangle whose sides are 0.4 to 0.7 of the picture's."""
    high, wide = (0.4 + 0.3 * column(numbers, i) for i in (0, 1))
    top, left = column(numbers, 2) * (1 - high), column(numbers, 3) * (1 - wide)
    return ~((y >= top) & (y < top + high) & (x >= left) & (x < left + wide))


def strokes(numbers: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """One to ``STROKES`` strokes of a brush, each a line of ``TURNS`` pieces with round ends, 0.08 to 0.2 thick."""
    count = 1 + (column(numbers, 0) * STROKES).floor()
    painted = torch.zeros(1, dtype=torch.bool, device=numbers.device)
    for stroke in range(STROKES):
        own = numbers[:, 1 + stroke * 2 * (TURNS + 2) :]
        radius = 0.04 + 0.06 * column(own, 0)
        ends = [(column(own, 1 + 2 * i), column(own, 2 + 2 * i)) for i in range(TURNS + 1)]
        for start, end in pairwise(ends):
            painted = painted | ((_distance(y, x, start, end) < radius) & (stroke < count))
    return painted


KINDS: Mapping[str, Draw] = {"boxes": box, "strokes": strokes, "half": half, "outpaint": outpaint}
"""Each takes uniform numbers (B, n) and the places of pixels, as fractions of the sides."""


def column(numbers: Tensor, index: int) -> Tensor:
    """Numbers (B, n) => (B, 1, 1), to stand beside pixels."""
    return numbers[:, index].view(-1, 1, 1)


def _distance(y: Tensor, x: Tensor, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor]) -> Tensor:
    """From each pixel to the line between two points."""
    down, across = end[0] - start[0], end[1] - start[1]
    along = ((y - start[0]) * down + (x - start[1]) * across) / (down.square() + across.square()).clamp_min(1e-8)
    along = along.clamp(0, 1)
    return ((y - start[0] - along * down).square() + (x - start[1] - along * across).square()).sqrt()

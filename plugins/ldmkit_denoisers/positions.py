"""Where a patch stands in the grid, as sines and cosines."""

from __future__ import annotations

import torch
from torch import Tensor

from ldmkit_denoisers.time_embedding import time_embedding


def sincos_positions(
    rows: int, columns: int, width: int, *, trained: int | None = None, device: torch.device | None = None
) -> Tensor:
    """Embed the places of a grid, row by row: fp32 (rows * columns, width), for any size and aspect ratio.

    The first half of the width embeds the column, the second the row, each as [sin | cos] of place * 10000^(-i / q),
    i = 0 .. q - 1, q = width / 4 (Vaswani et al. 2017, along two axes). ``width`` must be a multiple of 4. Places count
    from 0; with ``trained`` they are spread over those of a grid of so many patches along each axis.
    """

    def axis(places: int) -> Tensor:
        spread = trained / places if trained else 1.0
        embedded = time_embedding(torch.arange(places, device=device) * spread, width // 2)
        return embedded.roll(width // 4, dims=1)  # [cos | sin] => [sin | cos]

    column = axis(columns).expand(rows, columns, -1)
    row = axis(rows)[:, None].expand(rows, columns, -1)
    return torch.cat([column, row], dim=-1).flatten(0, 1)

"""Large images through a first stage in pieces: exact where it says how far it looks, blended where it does not.

Legend: B batch, C channels, H W pixels, h w latent grid, f the first stage's factor. A *position* is one of the latent
grid: f x f pixels of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from torch import Tensor

from ldmkit.protocols import FirstStage
from ldmkit.registry.ranges import at_least, between
from ldmkit.values import Posterior


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """In which pieces images pass through a first stage.

    No more than ``tile`` x ``tile`` pixels are in the network at a time: as many small images of a batch as that makes,
    or one tile of a large image. What it needs beside the result so grows neither with the area nor with the batch.

    A first stage that states its :class:`~ldmkit.specs.Reach` gets tiles that share twice as much, and of each only
    what nothing outside of it could have changed: the result is that of the whole image, up to rounding. A tile is then
    at least four times the reach, so that half of each side counts.

    Any other first stage gets tiles of which neighbours share ``overlap`` of a tile or more. Of what is shared, the
    quarter at either tile's edge is thrown away, for the edge is felt there, and over the half in between the weight
    passes from one tile to the other as a raised cosine; weights sum to one everywhere. What a network computes
    over all positions, as group norm and attention do, it computes over a tile: the result differs from that of the
    whole image.
    """

    tile: int = 512
    overlap: float = 0.25

    def __post_init__(self) -> None:
        at_least(1, tile=self.tile)
        between(0, 0.5, overlap=self.overlap)

    @torch.no_grad()
    def encode(self, first_stage: FirstStage, images: Tensor) -> Posterior:
        """As ``first_stage.encode``: pixels in [-1, 1] (B, C, H, W) => posterior (B, c, h, w)."""
        factor, reach = first_stage.spec.factor, first_stage.reach
        if images.shape[2] % factor or images.shape[3] % factor:
            return first_stage.encode(images)  # which refuses it, in words of its own

        def moments(pixels: Tensor) -> Tensor:
            posterior = first_stage.encode(pixels)
            return torch.cat([posterior.mean, posterior.std], dim=1)

        grid = _Grid.plan(self, reach.encode if reach else None, factor, inputs=factor, outputs=1)
        if grid.takes_whole(images):
            return first_stage.encode(images)
        mean, std = grid.apply(moments, images).chunk(2, dim=1)
        return Posterior(mean, std)

    @torch.no_grad()
    def decode(self, first_stage: FirstStage, latents: Tensor) -> Tensor:
        """As ``first_stage.decode``: latents (B, c, h, w) => pixels, nominally in [-1, 1], (B, C, H, W)."""
        factor, reach = first_stage.spec.factor, first_stage.reach
        grid = _Grid.plan(self, reach.decode if reach else None, factor, inputs=1, outputs=factor)
        return first_stage.decode(latents) if grid.takes_whole(latents) else grid.apply(first_stage.decode, latents)


DEFAULT_TILING = Tiling()
"""Tiles of 512 pixels; what that takes: benchmarks/README.md."""


@dataclass(frozen=True)
class Span:
    """One tile along one side: it reads ``source``; what it gives at ``kept`` goes to ``target`` with ``weight``."""

    source: slice
    kept: slice
    target: slice
    weight: Tensor


def spans(length: int, tile: int, shared: int, *, exact: bool, inputs: int, outputs: int) -> list[Span]:
    """Cut a side of ``length`` positions into tiles of ``tile`` positions, neighbours sharing ``shared`` or more.

    ``inputs`` and ``outputs`` are the places that one position takes in what is read and in what is written. Tiles are
    all of one size and spread evenly. Weights change at the middle of what is shared: at once where ``exact``, else
    over half of it. At each place the weights of all tiles sum to one.
    """
    tile = min(tile, length)
    count = 1 if tile == length else -(-(length - shared) // (tile - shared))
    starts = [index * (length - tile) // max(count - 1, 1) for index in range(count)]
    places = (torch.arange(length * outputs, dtype=torch.float64) + 0.5) / outputs
    rises = [torch.ones_like(places)]
    for before, start in pairwise(starts):
        common = before + tile - start
        rises.append(_rise(places, start + common / 2, 0 if exact else common / 2))
    rises.append(torch.zeros_like(places))
    cut = []
    for start, (rise, fall) in zip(starts, pairwise(rises), strict=True):
        weight = rise - fall  # over all tiles this sums to the first rise less the last: to one
        first, last = (int(weight.nonzero()[end]) for end in (0, -1))
        target = slice(first, last + 1)
        kept = slice(first - start * outputs, last + 1 - start * outputs)
        cut.append(Span(slice(start * inputs, (start + tile) * inputs), kept, target, weight[target]))
    return cut


def _rise(places: Tensor, middle: float, width: float) -> Tensor:
    """From 0 to 1 around ``middle``: at once where ``width`` is 0, else over it as a raised cosine."""
    if width == 0:
        return (places >= middle).double()
    return 0.5 - 0.5 * torch.cos(math.pi * ((places - middle) / width + 0.5).clamp(0, 1))


@dataclass(frozen=True)
class _Grid:
    """A tiling in positions, for one way through one first stage."""

    tile: int
    shared: int
    exact: bool
    inputs: int
    outputs: int

    @classmethod
    def plan(cls, tiling: Tiling, reach: int | None, factor: int, *, inputs: int, outputs: int) -> _Grid:
        tile = max(tiling.tile // factor, 1)
        if reach is None:
            return cls(tile, int(tile * tiling.overlap), False, inputs, outputs)
        return cls(max(tile, 4 * reach), 2 * reach, True, inputs, outputs)

    def takes_whole(self, values: Tensor) -> bool:
        """Whether all of ``values`` is no more than one piece."""
        height, width = (side // self.inputs for side in values.shape[2:])
        return len(values) == 0 or (max(height, width) <= self.tile and len(values) <= self._rows(height, width))

    def _rows(self, height: int, width: int) -> int:
        """How many tiles of images with so many positions make up the largest piece."""
        return max(self.tile**2 // max(min(height, self.tile) * min(width, self.tile), 1), 1)

    def apply(self, network: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        """Put together what ``network`` makes of each piece of ``values``, in fp32 at least."""
        height, width = (side // self.inputs for side in values.shape[2:])
        across, down = (
            spans(side, self.tile, self.shared, exact=self.exact, inputs=self.inputs, outputs=self.outputs)
            for side in (width, height)
        )
        rows = self._rows(height, width)
        whole: Tensor | None = None
        for start in range(0, len(values), rows):
            some = slice(start, start + rows)
            for y, x in product(down, across):
                piece = network(values[some, :, y.source, x.source])
                if whole is None:
                    size = (len(values), piece.shape[1], height * self.outputs, width * self.outputs)
                    whole = piece.new_zeros(size, dtype=torch.promote_types(piece.dtype, torch.float32))
                weight = (y.weight[:, None] * x.weight).to(whole)
                whole[some, :, y.target, x.target] += piece[..., y.kept, x.kept] * weight
        assert whole is not None  # takes_whole has sent away what has no rows
        return whole

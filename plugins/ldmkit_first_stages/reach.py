"""How far the convolutional autoencoders look, walked back from what is written to what is read."""

from __future__ import annotations

from ldmkit.specs import Reach
from ldmkit_first_stages.layout import Layout

BLOCK = 2
"""Places that a residual block reads each way: it has two convolutions of 3 x 3."""


def reach_of(layout: Layout, *, encoder_blocks: int, decoder_blocks: int) -> Reach | None:
    """The reach of encoder and decoder of ``layout``; None where group norm or attention looks at every position."""
    if layout.norm == "group" or layout.middle == "attention" or any(layout.attention):
        return None
    levels = len(layout.widths)
    lowest = 1 + (2 * BLOCK if layout.middle == "residual" else 0)  # conv_out or conv_in beside the latent, the middle
    return Reach(encode=_encoder(levels, encoder_blocks, lowest), decode=_decoder(levels, decoder_blocks, lowest))


def _encoder(levels: int, blocks: int, lowest: int) -> int:
    """From one latent, places ``low`` to ``high`` of ever higher resolution, up to level 0."""
    low, high = -lowest, lowest
    for level in reversed(range(levels)):
        low, high = low - BLOCK * blocks, high + BLOCK * blocks
        if level > 0:  # the stride-2 convolution of the level above reads places 2i, 2i + 1 and 2i + 2
            low, high = 2 * low, 2 * high + 2
    low, high = low - 1, high + 1  # conv_in
    places = 2 ** (levels - 1)  # of level 0 to a position; a patch of pixels lies within one place
    return max(-(low // places), high // places)


def _decoder(levels: int, blocks: int, lowest: int) -> int:
    """From all places of one position at level 0, those of ever lower resolution, down to the latents."""
    low, high = -1, 2 ** (levels - 1)  # with the place on either side that conv_out reads
    for level in range(levels):
        low, high = low - BLOCK * blocks, high + BLOCK * blocks
        if level < levels - 1:  # the upsampling of the level below: a convolution, before it nearest neighbours
            low, high = (low - 1) // 2, (high + 1) // 2
    return max(lowest - low, lowest + high)

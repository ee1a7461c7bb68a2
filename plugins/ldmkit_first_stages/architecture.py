"""The keys that the convolutional autoencoders have in common, checked."""

from __future__ import annotations

from dataclasses import dataclass

from ldmkit.registry.ranges import at_least, below_one
from ldmkit_first_stages.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Encoder and decoder, whatever stands between them; the option files say what each key means.

    Raises ValueError for a number out of range, and :class:`ConfigError` for levels that do not fit together.
    """

    name: str
    factor: int
    width: int
    multipliers: list[int]
    patch: int
    norm: str
    middle: str
    attention_factors: list[int]
    encoder_blocks: int
    decoder_blocks: int
    z_channels: int
    dropout: float

    def __post_init__(self) -> None:
        at_least(1, factor=self.factor, width=self.width, multipliers=self.multipliers, patch=self.patch)
        at_least(1, attention_factors=self.attention_factors, encoder_blocks=self.encoder_blocks)
        at_least(1, decoder_blocks=self.decoder_blocks, z_channels=self.z_channels)
        below_one(dropout=self.dropout)
        self.layout()

    def layout(self) -> Layout:
        """Lay out the levels; raises :class:`ConfigError` where they do not fit."""
        return Layout.plan(
            name=self.name,
            factor=self.factor,
            width=self.width,
            multipliers=self.multipliers,
            patch=self.patch,
            norm=self.norm,
            middle=self.middle,
            attention_factors=self.attention_factors,
            dropout=self.dropout,
        )

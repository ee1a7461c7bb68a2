"""The shape of a convolutional autoencoder: how wide it is at which resolution, and where it attends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ldmkit.errors import ConfigError
from ldmkit_first_stages.blocks import GROUPS

NORMS = ("group", "none")
MIDDLES = ("attention", "residual", "none")


def power_of_two(value: int) -> bool:
    """Whether ``value`` is 1, 2, 4, ..."""
    return value >= 1 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What encoder and decoder have in common; level 0 is the highest resolution.

    ``widths`` and ``attention`` have one entry for each level; ``patch`` pixels a side are folded into channels
    before level 0; ``middle`` is what stands at the lowest resolution between encoder levels and latent, and between
    latent and decoder levels: two residual blocks, with attention in between or not, or nothing.
    """

    widths: tuple[int, ...]
    attention: tuple[bool, ...]
    middle: str
    patch: int
    norm: str
    dropout: float

    @classmethod
    def plan(
        cls,
        *,
        name: str,
        factor: int,
        width: int,
        multipliers: Sequence[int],
        patch: int,
        norm: str,
        middle: str,
        attention_factors: Sequence[int],
        dropout: float,
    ) -> Layout:
        """Lay out the levels of the config of model ``name``; raises :class:`ConfigError` where they do not fit.

        Level i of ``multipliers`` works at a resolution of 1 / 2^i. With ``patch`` p, the first log2(p) levels are
        left out, since folding pixels has done their downsampling: the factor stays the same.
        """
        for key, value in (("factor", factor), ("patch", patch)):
            if not power_of_two(value):
                raise ConfigError(f"model '{name}': {key} is {value} but must be a power of two: 1, 2, 4, 8, ...")
        if patch > factor:
            raise ConfigError(f"model '{name}': patch is {patch} but may be at most the factor, {factor}")
        levels = factor.bit_length()
        if len(multipliers) != levels:
            raise ConfigError(
                f"model '{name}': factor {factor} has {levels} levels but multipliers has {len(multipliers)} entries, "
                f"{list(multipliers)}; give one for each level"
            )
        factors = [2**level for level in range(levels)]
        kept = slice(patch.bit_length() - 1, None)
        if unknown := set(attention_factors) - set(factors[kept]):
            raise ConfigError(
                f"model '{name}': attention_factors has {min(unknown)} but there are levels at {factors[kept]}"
            )
        layout = cls(
            widths=tuple(width * multiplier for multiplier in multipliers[kept]),
            attention=tuple(each in attention_factors for each in factors[kept]),
            middle=middle,
            patch=patch,
            norm=norm,
            dropout=dropout,
        )
        layout.check(name)
        return layout

    def check(self, name: str) -> None:
        """Raise :class:`ConfigError` unless norm, middle and widths are valid together."""
        for key, value, choices in (("norm", self.norm, NORMS), ("middle", self.middle, MIDDLES)):
            if value not in choices:
                raise ConfigError(f"model '{name}': {key} is '{value}' but must be one of: {', '.join(choices)}")
        unit = GROUPS if self.norm == "group" else 1
        for width in self.widths:
            if width % unit:
                raise ConfigError(
                    f"model '{name}': a level is {width} channels wide (width x multiplier) but norm '{self.norm}' "
                    f"needs a multiple of {unit}"
                )

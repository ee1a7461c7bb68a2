"""No guidance."""

from __future__ import annotations

from dataclasses import dataclass

from ldmkit.protocols import ConditionalDenoise, Denoise, Guidance
from ldmkit.values import Conditioning


class Unguided(Guidance):
    """The conditional estimate as it is; the null conditioning is never looked at."""

    nulls = ()

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``guidance=none``."""

        name: str

    def __init__(self, config: Config) -> None:
        pass

    def guide(self, denoise: ConditionalDenoise, conditioning: Conditioning, null: Conditioning) -> Denoise:
        prepared = denoise.prepare(conditioning)
        return lambda z, level: denoise(z, level, prepared)

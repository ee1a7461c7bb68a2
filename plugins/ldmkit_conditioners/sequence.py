"""What conditioners that read a sequence share: rows of numbers, and a transformer that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit.protocols import Conditioner
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import CondSpec
from ldmkit.values import Conditioning
from ldmkit_conditioners.transformer import TokenTransformer

PAD = 0


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """Keys of every conditioner that reads a sequence; the comments in the option files say what they do."""

    name: str
    field: str
    dropout: float
    vocabulary: int
    length: int
    width: int
    depth: int
    heads: int
    head_channels: int
    vector: bool

    def __post_init__(self) -> None:
        between(0, 1, dropout=self.dropout)
        at_least(1, vocabulary=self.vocabulary, length=self.length, width=self.width, depth=self.depth)
        at_least(1, heads=self.heads, head_channels=self.head_channels)


class SequenceConditioner(Conditioner):
    """Numbers of a ``vocabulary`` => ``length`` tokens of a transformer that is trained with the denoiser.

    Pads are masked and zero. With ``vector``, also a linear map of the mean over the real tokens.
    """

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        width = config.width
        self.dropout, self.length = config.dropout, config.length
        self.spec = CondSpec(tokens=width, vector=width if config.vector else 0)
        self.transformer = TokenTransformer(
            vocabulary=config.vocabulary,
            length=config.length,
            width=width,
            depth=config.depth,
            heads=config.heads,
            head_channels=config.head_channels,
        )
        self.to_vector = nn.Linear(width, width) if config.vector else None

    def encode(self, rows: Sequence[Sequence[int]]) -> Conditioning:
        """B rows of 1 to ``length`` numbers each => tokens (B, length, D) with their mask, and the vector."""
        numbers = self._pad(rows)
        mask = numbers != PAD
        tokens = self.transformer(numbers, mask)
        vector = None
        if self.to_vector is not None:
            vector = self.to_vector(tokens.sum(1) / mask.sum(1, keepdim=True))
        # The transformer reads only as far as the longest row; every batch has the same number of tokens.
        missing = self.length - numbers.shape[1]
        return Conditioning(tokens=F.pad(tokens, (0, 0, 0, missing)), mask=F.pad(mask, (0, missing)), vector=vector)

    def encode_null(self, row: Sequence[int], batch: int) -> Conditioning:
        """The same ``row`` for all of a ``batch``."""
        return self.encode([row]).apply(lambda value: value.expand(batch, *value.shape[1:]))

    def _pad(self, rows: Sequence[Sequence[int]]) -> Tensor:
        longest = max(map(len, rows), default=1)
        padded = [[*row, *[PAD] * (longest - len(row))] for row in rows]
        device = self.transformer.token_emb.weight.device
        return torch.tensor(padded, dtype=torch.int64, device=device).view(len(rows), longest)

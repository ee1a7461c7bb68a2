"""Condition on a caption."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit.errors import CheckpointError
from ldmkit.protocols import Conditioner
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import CondSpec, DataSpec
from ldmkit.values import Conditioning, Fields
from ldmkit_conditioners.fields import require_field
from ldmkit_conditioners.tokenizer import PAD, Tokenizer, train
from ldmkit_conditioners.transformer import TextTransformer

FILE = "tokenizer.model"
log = logging.getLogger("ldmkit")


class Text(Conditioner):
    """A tokenizer fitted to the captions, and a transformer trained with the denoiser (Rombach et al. 2022, table 17).

    Yields ``length`` tokens, pads masked and zero; with ``vector``, also a linear map of the mean over the real
    tokens. Longer captions lose their end, which is said once. The null conditioning is that of an empty caption.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``cond=text``."""

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
            at_least(8, vocabulary=self.vocabulary)
            at_least(1, length=self.length, width=self.width, depth=self.depth)
            at_least(1, heads=self.heads, head_channels=self.head_channels)

    def __init__(self, config: Config, *, data: DataSpec) -> None:
        super().__init__()
        require_field(config.name, config.field, "text", data)
        self.config = config
        self.dropout = config.dropout
        self.needs = {config.field: "text"}
        self.spec = CondSpec(tokens=config.width, vector=config.width if config.vector else 0)
        self.transformer = TextTransformer(
            vocabulary=config.vocabulary,
            length=config.length,
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            head_channels=config.head_channels,
        )
        self.to_vector = nn.Linear(config.width, config.width) if config.vector else None
        self._tokenizer: Tokenizer | None = None
        self._truncation_said = False

    def fit(self, fields: Fields, directory: Path) -> None:
        """Train the tokenizer on all captions, into ``tokenizer.model``; say how many captions are too long for it."""
        captions = fields[self.config.field]
        model = train(captions, self.config.vocabulary)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE).write_bytes(model)
        self._say_truncation(Tokenizer(model, FILE).encode(captions), "captions of the data")

    def restore(self, directory: Path) -> None:
        """Read ``tokenizer.model``; raise :class:`CheckpointError` when it is missing, damaged or too large."""
        path = directory / FILE
        if not path.is_file():
            raise CheckpointError(f"cond '{self.config.name}' finds no tokenizer at {path}; fit it again")
        tokenizer = Tokenizer(path.read_bytes(), str(path))
        if len(tokenizer) > self.config.vocabulary:
            raise CheckpointError(
                f"the tokenizer at {path} has {len(tokenizer)} pieces, but cond.{self.config.name}.vocabulary is "
                f"{self.config.vocabulary}; it belongs to another configuration"
            )
        self._tokenizer = tokenizer

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        return self._encode(fields[self.config.field])

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        return self._encode([""]).apply(lambda value: value.expand(batch, *value.shape[1:]))

    def _encode(self, captions: Sequence[str]) -> Conditioning:
        pieces, mask = self._tokenize(captions)
        tokens = self.transformer(pieces, mask)
        vector = None
        if self.to_vector is not None:
            vector = self.to_vector(tokens.sum(1) / mask.sum(1, keepdim=True))
        # The transformer reads only as far as the longest caption; every batch has the same number of tokens.
        missing = self.config.length - pieces.shape[1]
        return Conditioning(tokens=F.pad(tokens, (0, 0, 0, missing)), mask=F.pad(mask, (0, missing)), vector=vector)

    def _tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Captions => numbers of pieces and which are real, (B, M) each, M that of the longest caption."""
        if self._tokenizer is None:
            raise CheckpointError(
                f"cond '{self.config.name}' has no tokenizer yet; call fit(fields, directory) and "
                "restore(directory), or load a run"
            )
        encoded = self._tokenizer.encode(captions)
        self._say_truncation(encoded, "captions of a batch")
        encoded = [pieces[: self.config.length] for pieces in encoded]
        longest = max(map(len, encoded), default=1)
        device = self.transformer.token_emb.weight.device
        padded = [pieces + [PAD] * (longest - len(pieces)) for pieces in encoded]
        numbers = torch.tensor(padded, dtype=torch.int64, device=device).view(len(encoded), longest)
        return numbers, numbers != PAD

    def _say_truncation(self, encoded: Sequence[Sequence[int]], what: str) -> None:
        too_long = sum(len(pieces) > self.config.length for pieces in encoded)
        if too_long and not self._truncation_said:
            self._truncation_said = True
            log.warning(
                "cond '%s': %d of %d %s are longer than %d tokens (the longest has %d) and lose their end; "
                "raise cond.%s.length",
                self.config.name, too_long, len(encoded), what, self.config.length, max(map(len, encoded)),
                self.config.name,
            )  # fmt: skip

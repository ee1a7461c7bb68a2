"""Condition on a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ldmkit.errors import CheckpointError
from ldmkit.registry.ranges import at_least
from ldmkit.specs import DataSpec
from ldmkit.values import Conditioning, Fields
from ldmkit_conditioners.fields import require_field
from ldmkit_conditioners.sequence import SequenceConditioner, SequenceConfig
from ldmkit_conditioners.tokenizer import Tokenizer, train

FILE = "tokenizer.model"
QUOTED = 40  # characters of a caption in a message


class Text(SequenceConditioner):
    """A tokenizer fitted to the captions, and a transformer trained with the denoiser (Rombach et al. 2022, table 17).

    Yields ``length`` tokens, pads masked and zero; with ``vector``, also a linear map of the mean over the real
    tokens. Longer captions lose their end, which is said with their number and the longest of them: of the data once,
    of prompts each time that there are new ones. The null conditioning is that of an empty caption.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SequenceConfig):
        """Keys of ``cond=text``."""

        def __post_init__(self) -> None:
            at_least(8, vocabulary=self.vocabulary)
            super().__post_init__()

    def __init__(self, config: Config, *, data: DataSpec) -> None:
        require_field(config.name, config.field, "text", data)
        super().__init__(config)
        self.config = config
        self.needs = {config.field: "text"}
        self._tokenizer: Tokenizer | None = None

    def fit(self, fields: Fields, directory: Path) -> None:
        """Train the tokenizer on all captions, into ``tokenizer.model``; say how many captions are too long for it."""
        captions = fields[self.config.field]
        model = train(captions, self.config.vocabulary)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE).write_bytes(model)
        self._cut(Tokenizer(model, FILE).encode(captions), captions, "captions of the data")

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
        return self.encode(self._tokenize(fields[self.config.field]))

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        return self.encode_null(self._tokenize([""])[0], batch)

    def _tokenize(self, captions: Sequence[str]) -> list[list[int]]:
        """Captions => numbers of pieces, at most ``length`` each."""
        if self._tokenizer is None:
            raise CheckpointError(
                f"cond '{self.config.name}' has no tokenizer yet; call fit(fields, directory) and "
                "restore(directory), or load a run"
            )
        return self._cut(self._tokenizer.encode(captions), captions, "captions of a batch")

    def _cut(self, encoded: Sequence[list[int]], captions: Sequence[str], what: str) -> list[list[int]]:
        """Cut what is too long, and say how many and which."""
        name, length = self.config.name, self.length
        long = [row for row, pieces in enumerate(encoded) if len(pieces) > length]
        if long:
            longest = max(long, key=lambda row: len(encoded[row]))
            text = captions[longest]
            shown = text if len(text) <= QUOTED else f"{text[:QUOTED]}..."
            self.warn_of_loss(
                "\n".join(captions[row] for row in long),
                f"cond '{name}': {len(long)} of {len(encoded)} {what} are longer than {length} tokens and lose their "
                f"end, the longest ({len(encoded[longest])} tokens) being {shown!r}; raise cond.{name}.length",
            )
        return [pieces[:length] for pieces in encoded]

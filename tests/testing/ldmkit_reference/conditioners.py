"""A conditioner on words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ldmkit.errors import ConfigError
from ldmkit.protocols import Conditioner
from ldmkit.specs import CondSpec, DataSpec
from ldmkit.values import Conditioning, Fields


class Words(Conditioner):
    """A learned token for each of the most frequent words; 0 is a pad, 1 an unknown word, 2 stands at the start."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        field: str
        words: int
        length: int
        width: int
        dropout: float

    def __init__(self, config: Config, *, data: DataSpec) -> None:
        super().__init__()
        if config.field not in data.fields:
            raise ConfigError(f"cond 'reference' needs the field '{config.field}'; there is: {', '.join(data.fields)}")
        self.config, self.dropout = config, config.dropout
        self.needs = {config.field: "text"}
        self.spec = CondSpec(tokens=config.width)
        self.embedding = nn.Embedding(config.words + 3, config.width)
        self.known: dict[str, int] = {}

    def fit(self, fields: Fields, directory: Path) -> None:
        counts = Counter(word for text in fields[self.config.field] for word in text.split())
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        (directory / "words.txt").write_text("\n".join(ordered[: self.config.words]), encoding="utf-8")

    def restore(self, directory: Path) -> None:
        words = (directory / "words.txt").read_text(encoding="utf-8").split("\n")
        self.known = {word: number for number, word in enumerate(words, 3)}

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        return self.encode(fields[self.config.field])

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        return self.encode([""] * batch)

    def encode(self, texts: list[str]) -> Conditioning:
        length = self.config.length
        rows = [[2, *(self.known.get(word, 1) for word in text.split())][:length] for text in texts]
        padded = torch.tensor([row + [0] * (length - len(row)) for row in rows], dtype=torch.long).view(-1, length)
        numbers = padded.to(self.embedding.weight.device)
        return Conditioning(tokens=self.embedding(numbers), mask=numbers != 0)

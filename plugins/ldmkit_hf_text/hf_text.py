"""Condition on a caption by an encoder that others have trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.protocols import Conditioner
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import CondSpec, DataSpec
from ldmkit.values import Conditioning, Fields
from ldmkit_hf_text.cache import Cache, Embedding
from ldmkit_hf_text.encoder import Encoder

FILE = "encoder.json"
QUOTED = 40  # characters of a caption in a message


class HFText(Conditioner):
    """The last hidden state of a frozen CLIP (Stable Diffusion; Radford et al. 2021) or T5 (Saharia et al. 2022).

    Yields ``length`` tokens, pads masked and zero; with ``vector``, also the encoder's pooled output, or the mean over
    the tokens where it has none. Each text is encoded once and kept. The encoder is no part of the checkpoint: a run
    keeps its digest, and refuses another one. Longer captions lose their end, which is said. The null conditioning is
    that of an empty caption.
    """

    _device: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``cond=hf-text``."""

        name: str
        field: str
        path: str | None
        dropout: float
        length: int
        vector: bool
        cache_mb: int

        def __post_init__(self) -> None:
            between(0, 1, dropout=self.dropout)
            at_least(2, length=self.length)
            at_least(0, cache_mb=self.cache_mb)

    def __init__(self, config: Config, *, data: DataSpec) -> None:
        super().__init__()
        _require_text(config, data)
        if not config.path:
            raise ConfigError(f"cond={config.name} needs cond.{config.name}.path=DIRECTORY, that of a CLIP or T5")
        self.config = config
        self.encoder = Encoder(config.name, Path(config.path).expanduser())
        if self.encoder.longest is not None and config.length > self.encoder.longest:
            raise ConfigError(
                f"cond.{config.name}.length is {config.length}, but the encoder takes "
                f"{self.encoder.longest} tokens at most"
            )
        self.dropout = config.dropout
        self.needs = {config.field: "text"}
        self.spec = CondSpec(tokens=self.encoder.width, vector=self.encoder.width if config.vector else 0)
        self.register_buffer("_device", torch.empty(0), persistent=False)  # follows the model to its device
        self._cache = Cache(config.cache_mb << 20)

    def fit(self, fields: Fields, directory: Path) -> None:
        """Write the encoder's digest into ``encoder.json``; say how many captions are too long."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE).write_text(json.dumps({"sha256": self.encoder.digest()}))
        captions = fields[self.config.field]
        counts = (self.encoder.numbers(text, self.config.length)[1] for text in captions)
        long = [text for text, count in zip(captions, counts, strict=True) if count > self.config.length]
        self._say_cut(long, f"{len(captions)} captions of the data")

    def restore(self, directory: Path) -> None:
        """Raise :class:`CheckpointError` unless the encoder is the one that was trained with."""
        try:
            trained = json.loads((directory / FILE).read_text())["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"cond '{self.config.name}' finds no digest in {directory / FILE}; fit it again"
            ) from error
        if trained != self.encoder.digest():
            raise CheckpointError(
                f"the encoder in cond.{self.config.name}.path={self.config.path!r} is another than the one that was "
                f"trained with (sha256 {str(trained)[:12]}...); put that one there"
            )

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        return self._encode(fields[self.config.field])

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        return self._encode([""]).apply(lambda value: value.expand(batch, *value.shape[1:]))

    def _encode(self, captions: Sequence[str]) -> Conditioning:
        device, long = self._device.device, []

        def make(text: str) -> Embedding:
            numbers, count = self.encoder.numbers(text, self.config.length)
            if count > self.config.length:
                long.append(text)
            return self.encoder.embed(numbers, device)

        tokens = torch.zeros(len(captions), self.config.length, self.spec.tokens)
        mask = torch.zeros(len(captions), self.config.length, dtype=torch.bool)
        vector = torch.zeros(len(captions), self.spec.vector)
        for row, text in enumerate(captions):
            embedding = self._cache.get(text, make)
            tokens[row, : len(embedding.tokens)] = embedding.tokens
            mask[row, : len(embedding.tokens)] = True
            if self.spec.vector:
                vector[row] = embedding.vector
        self._say_cut(long, f"{len(captions)} captions of a batch")
        given = Conditioning(tokens=tokens, mask=mask, vector=vector if self.spec.vector else None)
        return given.to(device)

    def _say_cut(self, long: Sequence[str], of: str) -> None:
        if long:
            name, longest = self.config.name, max(long, key=len)
            shown = longest if len(longest) <= QUOTED else f"{longest[:QUOTED]}..."
            self.warn_of_loss(
                "\n".join(long),
                f"cond '{name}': {len(long)} of {of} are longer than {self.config.length} tokens and lose their end, "
                f"the longest being {shown!r}; raise cond.{name}.length",
            )


def _require_text(config: HFText.Config, data: DataSpec) -> None:
    spec = data.fields.get(config.field)
    if spec is None or spec.kind != "text":
        offer = ", ".join(f"{name} ({other.kind})" for name, other in sorted(data.fields.items())) or "no fields"
        raise ConfigError(
            f"cond '{config.name}' needs the field '{config.field}' (text), but the data offers: {offer}; "
            f"point cond.{config.name}.field at another or leave '{config.name}' out of cond"
        )

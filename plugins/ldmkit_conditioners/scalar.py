"""Condition on any number."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ldmkit.errors import CheckpointError, DataError
from ldmkit.protocols import Conditioner
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import CondSpec, DataSpec
from ldmkit.values import Conditioning, Fields
from ldmkit_conditioners.fields import require_field
from ldmkit_conditioners.fourier import fourier_features

FILE = "scalar.json"


class Scalar(Conditioner):
    """A number, brought to mean 0 and deviation 1 over the training data => waves => two layers => a vector or token.

    The waves have 1/8 cycle in a deviation, and then twice as many again and again, ``frequencies`` of them. The null
    conditioning is learned.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Keys of ``cond=scalar``."""

        name: str
        field: str
        dropout: float
        form: Literal["vector", "tokens"]
        width: int
        frequencies: int

        def __post_init__(self) -> None:
            between(0, 1, dropout=self.dropout)
            at_least(1, width=self.width, frequencies=self.frequencies)

    def __init__(self, config: Config, *, data: DataSpec) -> None:
        super().__init__()
        require_field(config.name, config.field, "scalar", data)
        self.config = config
        self.dropout = config.dropout
        self.needs = {config.field: "scalar"}
        self.spec = CondSpec(**{config.form: config.width})
        self.layers = nn.Sequential(
            nn.Linear(2 * config.frequencies, config.width), nn.SiLU(), nn.Linear(config.width, config.width)
        )
        self.absent = nn.Parameter(torch.randn(config.width) / config.width**0.5)
        self._scale: tuple[float, float] | None = None

    def fit(self, fields: Fields, directory: Path) -> None:
        """Measure mean and deviation, into ``scalar.json``; raise :class:`DataError` for what is not finite."""
        values = self._finite(fields).double()
        spread = float(values.std(correction=0))
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE).write_text(json.dumps({"mean": float(values.mean()), "std": spread or 1.0}))

    def restore(self, directory: Path) -> None:
        """Read ``scalar.json``; raise :class:`CheckpointError` when it is missing or damaged."""
        try:
            read = json.loads((directory / FILE).read_text())
            mean, spread = float(read["mean"]), float(read["std"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"cond '{self.config.name}' finds no mean and std in {directory / FILE}; fit it again"
            ) from error
        if not (math.isfinite(mean) and 0 < spread < math.inf):
            raise CheckpointError(f"{directory / FILE} has mean {mean} and std {spread}; fit it again")
        self._scale = mean, spread

    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        if self._scale is None:
            raise CheckpointError(
                f"cond '{self.config.name}' has no mean and std yet; call fit(fields, directory) and "
                "restore(directory), or load a run"
            )
        mean, spread = self._scale
        values = (self._finite(fields).to(self.absent.device, torch.float32) - mean) / spread
        frequencies = 2.0 ** torch.arange(-3, self.config.frequencies - 3)
        return self._formed(self.layers(fourier_features(values, frequencies)))

    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        return self._formed(self.absent.expand(batch, -1))

    def _finite(self, fields: Fields) -> Tensor:
        values = torch.as_tensor(fields[self.config.field])
        if values.device.type == "cpu" and not values.isfinite().all():
            raise DataError(
                f"field '{self.config.field}' holds {values[~values.isfinite()][0]}; expected finite numbers"
            )
        return values

    def _formed(self, rows: Tensor) -> Conditioning:
        if self.spec.vector:
            return Conditioning(vector=rows)
        return Conditioning(tokens=rows.unsqueeze(1), mask=torch.ones_like(rows[:, :1], dtype=torch.bool))

"""A denoiser of one hidden layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldmkit.protocols import Denoiser
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.values import Conditioning


class Mixer(Denoiser):
    """Convolutions, told of the time, of the mean over the real tokens, and of the vector by addition."""

    accepts = frozenset({"tokens", "vector"})

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        width: int

    def __init__(self, config: Config, *, latent: LatentSpec, cond: CondSpec) -> None:
        super().__init__()
        self.first = nn.Conv2d(latent.channels, config.width, 3, padding=1)
        self.time = nn.Linear(2, config.width)
        self.tokens = nn.Linear(cond.tokens, config.width) if cond.tokens else None
        self.vector = nn.Linear(cond.vector, config.width) if cond.vector else None
        self.last = nn.Conv2d(config.width, latent.outputs, 3, padding=1)

    def prepare(self, conditioning: Conditioning) -> Any:
        told: Any = 0.0
        if self.tokens is not None and conditioning.tokens is not None:
            tokens, mask = conditioning.tokens, conditioning.mask
            real = torch.ones_like(tokens[:, :, 0]) if mask is None else mask.to(tokens.dtype)
            share = real / real.sum(1, keepdim=True)
            told = told + self.tokens((share[:, :, None] * tokens).sum(1))
        if self.vector is not None:
            told = told + self.vector(conditioning.vector)
        return (told,)

    def forward(self, z: Tensor, t: Tensor, conditioning: Any) -> Tensor:
        (told,) = self.prepare(conditioning) if isinstance(conditioning, Conditioning) else conditioning
        told = told + self.time(torch.stack([(t / 100).sin(), (t / 100).cos()], 1).to(z.dtype))
        return self.last(torch.tanh(self.first(z) + told[:, :, None, None])).to(z.dtype)

"""A denoiser of one hidden layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit.protocols import Denoiser
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.values import Conditioning


class Told(NamedTuple):
    """What does not change over the steps: keys and values (B, M, D), mask (B, 1, M), and what is added (B, D)."""

    keys: Tensor | None
    values: Tensor | None
    mask: Tensor | None
    vector: Tensor | None


class Mixer(Denoiser):
    """Convolutions, told of the time and of the vector by addition, and of the real tokens by attention to them."""

    accepts = frozenset({"tokens", "vector"})

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        width: int

    def __init__(self, config: Config, *, latent: LatentSpec, cond: CondSpec) -> None:
        super().__init__()
        self.first = nn.Conv2d(latent.channels, config.width, 3, padding=1)
        self.frequency = nn.Parameter(torch.tensor(0.01), requires_grad=False)
        self.time = nn.Linear(2, config.width)
        self.vector = nn.Linear(cond.vector, config.width) if cond.vector else None
        self.queries = nn.Linear(config.width, config.width) if cond.tokens else None
        self.keys = nn.Linear(cond.tokens, config.width) if cond.tokens else None
        self.values = nn.Linear(cond.tokens, config.width) if cond.tokens else None
        self.last = nn.Conv2d(config.width, latent.outputs, 3, padding=1)

    def prepare(self, conditioning: Conditioning) -> Told:
        return self.told(conditioning)

    def told(self, conditioning: Conditioning) -> Told:
        tokens, mask = conditioning.tokens, conditioning.mask
        return Told(
            keys=None if self.keys is None else self.keys(tokens),
            values=None if self.values is None else self.values(tokens),
            mask=None if mask is None else mask[:, None],
            vector=None if self.vector is None else self.vector(conditioning.vector),
        )

    def forward(self, z: Tensor, t: Tensor, conditioning: Any) -> Tensor:
        told = self.told(conditioning) if isinstance(conditioning, Conditioning) else conditioning
        angle = t * self.frequency
        added = self.time(torch.stack([angle.sin(), angle.cos()], 1).to(z.dtype))
        if told.vector is not None:
            added = added + told.vector
        hidden = torch.tanh(self.first(z) + added[:, :, None, None])
        if told.keys is not None:
            queries = self.queries(hidden.flatten(2).transpose(1, 2))
            heard = F.scaled_dot_product_attention(queries, told.keys, told.values, attn_mask=told.mask)
            hidden = hidden + heard.transpose(1, 2).reshape(hidden.shape)
        return self.last(hidden).to(z.dtype)

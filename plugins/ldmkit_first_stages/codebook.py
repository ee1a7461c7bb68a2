"""The learned codebook of van den Oord et al. 2017, "Neural discrete representation learning"."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.values import code_usage
from ldmkit_first_stages.blocks import at_least_fp32
from ldmkit_first_stages.quantiser import Quantised, Quantiser, counts

DISTANCES = 2**24
"""Distances that are held at once: 64 MiB of fp32, however large the codebook and the latent grid."""


class Codebook(Quantiser):
    """Each position takes the nearest of ``codes`` learned vectors (equations 1 and 2; straight-through gradient).

    ``learn`` judges by equation 3, as means over all elements: codebook term |sg(z) - e|^2 plus ``commitment`` times
    the commitment term |z - sg(e)|^2. With ``placing`` ``"legacy"`` the weight is on the codebook term instead, as in
    the code that the published models were trained with.

    Codes begin uniform in +-1 / codes. One that ``revive_after`` training steps in a row found no use for, or that was
    never used, is put at a latent of the batch, drawn from the rows' own streams; 0 turns this off. A saved codebook
    without counts of idle steps, such as a published one, loads as if every code had just been used.
    """

    idle: Tensor

    def __init__(self, *, codes: int, channels: int, commitment: float, placing: str, revive_after: int) -> None:
        super().__init__()
        self.size = codes
        self.embedding = nn.Embedding(codes, channels)
        nn.init.uniform_(self.embedding.weight, -1 / codes, 1 / codes)
        self.commitment, self.placing, self.revive_after = commitment, placing, revive_after
        if revive_after:
            self.register_buffer("idle", torch.full((codes,), revive_after))

    def forward(self, latents: Tensor) -> Tensor:
        """See :meth:`Quantiser.forward`."""
        return _straight_through(latents, self._vectors(self.codes(latents)))

    @torch.no_grad()
    def codes(self, latents: Tensor) -> Tensor:
        """See :meth:`Quantiser.codes`; q is 1. Distances are computed in fp32, also under autocast."""
        rows = rearrange(at_least_fp32(latents), "b c h w -> (b h w) c")
        vectors = self.embedding.weight.to(rows.dtype)
        # |z - e|^2 / 2 = |z|^2 / 2 - z e + |e|^2 / 2; the first is the same for all codes, and would only cost digits
        offsets = 0.5 * vectors.square().sum(1)
        with _without_autocast(rows.device):
            slices = rows.split(max(1, DISTANCES // len(vectors)))
            nearest = [torch.addmm(offsets, each, vectors.T, alpha=-1).argmin(1) for each in slices]
        return torch.cat(nearest).view(len(latents), *latents.shape[2:], 1)

    def learn(self, latents: Tensor, random: RowRandom) -> Quantised:
        """See :meth:`Quantiser.learn`: in training mode dead codes are revived first, and uses counted."""
        learning = self.training and self.revive_after > 0
        exact = at_least_fp32(latents)
        if learning:
            self._revive(exact.detach(), random)
        codes = self.codes(exact)
        vectors = self._vectors(codes).to(exact.dtype)
        codebook, commitment = F.mse_loss(vectors, exact.detach()), F.mse_loss(exact, vectors.detach())
        legacy = self.placing == "legacy"
        penalty = commitment + self.commitment * codebook if legacy else codebook + self.commitment * commitment
        if learning:
            used = torch.bincount(codes.flatten(), minlength=len(self.idle)) > 0
            self.idle.add_(1).masked_fill_(used, 0)
        parts = {"codebook": codebook.detach(), "commitment": commitment.detach()}
        used_of_all = code_usage(counts(codes, self.size))
        return Quantised(_straight_through(latents, vectors), penalty, parts | used_of_all)

    def _vectors(self, codes: Tensor) -> Tensor:
        return rearrange(self.embedding(codes), "b h w 1 c -> b c h w")

    @torch.no_grad()
    def _revive(self, latents: Tensor, random: RowRandom) -> None:
        """Put dead codes, as many as there are positions, at latents of different positions."""
        dead = (self.idle >= self.revive_after).nonzero().flatten()
        if len(dead):
            rows = rearrange(latents, "b c h w -> (b h w) c")
            order = random.normal("revival", latents.shape[2:], device=rows.device).flatten().argsort()
            dead = dead[: len(rows)]
            self.embedding.weight[dead] = rows[order[: len(dead)]].to(self.embedding.weight.dtype)
            self.idle[dead] = 0

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        key = f"{prefix}idle"
        if self.revive_after:
            state_dict.setdefault(key, torch.zeros_like(self.idle))
        else:
            state_dict.pop(key, None)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def _straight_through(latents: Tensor, vectors: Tensor) -> Tensor:
    """The value of ``vectors``, to the last digit, with the gradient of ``latents``."""
    return vectors.detach().to(latents.dtype) + (latents - latents.detach())

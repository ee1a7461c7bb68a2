"""U-ViT (Bao et al. 2023, "All are worth words"): a ViT with long skip connections, in which everything is a token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit.protocols import Denoiser
from ldmkit.registry.ranges import at_least
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.values import Conditioning
from ldmkit_denoisers.attention import Attention
from ldmkit_denoisers.checkpointing import run
from ldmkit_denoisers.layers import Pointwise, xavier, zeroed
from ldmkit_denoisers.patches import EdgeConvolution, embed_patches, to_latents, to_sequence
from ldmkit_denoisers.positions import sincos_positions
from ldmkit_denoisers.prepared import PreparedSequence, check, silence_pads
from ldmkit_denoisers.time_embedding import time_embedding


class Block(nn.Module):
    """A pre-norm transformer block; one on the way out begins by joining a skip connection (figure 1 and figure 2a)."""

    def __init__(self, width: int, *, heads: int, multiple: int, skip: bool) -> None:
        super().__init__()
        inner = width * multiple
        self.skip = nn.Linear(2 * width, width) if skip else None
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, width, heads, 0.0)
        self.feed_forward = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, features: Tensor, skipped: Tensor | None, bias: Tensor | None) -> Tensor:
        """Features (B, L, D), with those of the same shape that skipped the blocks in between => (B, L, D)."""
        if self.skip is not None and skipped is not None:
            features = self.skip(torch.cat([features, skipped], dim=-1))
        features = features + self.attention(self.norm1(features), bias=bias)
        return features + self.feed_forward(self.norm2(features))


class UViT(Denoiser):
    """A transformer whose sequence is the time, the vector, the tokens and the patches of the latents.

    Its first half hands features to its second over long skip connections, the last block to the first and so on. Time
    and vector have a learned position, patches one by their place; conditioners give their tokens one. Tokens whose
    mask is False have no influence. A map makes further channels of the input. A new network answers zero.
    """

    accepts = frozenset({"tokens", "vector", "map"})

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        patch_size: int
        width: int
        depth: int
        heads: int
        feed_forward_multiple: int
        learned_positions: int | None
        checkpointing: bool

        def __post_init__(self) -> None:
            at_least(1, patch_size=self.patch_size, width=self.width, depth=self.depth, heads=self.heads)
            at_least(1, feed_forward_multiple=self.feed_forward_multiple, learned_positions=self.learned_positions)
            if self.width % 4 or self.width % self.heads:
                raise ValueError(f"width is {self.width} but must be a multiple of 4 and of heads={self.heads}")
            if self.depth % 2 == 0:
                raise ValueError(f"depth is {self.depth} but must be odd: as many blocks in as out, and one between")

    def __init__(self, config: Config, *, latent: LatentSpec, cond: CondSpec) -> None:
        super().__init__()
        self.config, self.latent, self.cond = config, latent, cond
        self.multiple = config.patch_size
        width, size, grid = config.width, config.patch_size, config.learned_positions
        self.patch_embed = EdgeConvolution(latent.channels + cond.map, width, size, stride=size)
        self.token_embed = nn.Linear(cond.tokens, width) if cond.tokens else None
        self.vector_embed = nn.Linear(cond.vector, width) if cond.vector else None
        self.time_position = learned(1, 1, width)
        self.vector_position = learned(1, 1, width) if cond.vector else None
        self.positions = learned(1, width, grid, grid) if grid else None
        half = config.depth // 2
        self.blocks_in = nn.ModuleList(self.block() for _ in range(half))
        self.middle = self.block()
        self.blocks_out = nn.ModuleList(self.block(skip=True) for _ in range(half))
        self.norm = nn.LayerNorm(width)
        self.proj_out = zeroed(Pointwise(width, size**2 * latent.outputs, axes=0))
        self.last = EdgeConvolution(latent.outputs, latent.outputs, 3, padding=1)
        nn.init.dirac_(self.last.weight)  # at first it hands on what it gets, the sooner to learn what comes before it
        self.apply(lambda module: xavier(module) if isinstance(module, nn.Linear) else None)

    def block(self, *, skip: bool = False) -> Block:
        config = self.config
        return Block(config.width, heads=config.heads, multiple=config.feed_forward_multiple, skip=skip)

    def prepare(self, conditioning: Conditioning) -> PreparedSequence:
        """Embed what stands in the sequence beside the time and the patches. Gradients pass."""
        check(conditioning, self.cond, "uvit")
        tokens, bias = silence_pads(conditioning)
        embedded = [self.token_embed(tokens)] if self.token_embed is not None else []
        if self.vector_embed is not None:
            vector = self.vector_embed(conditioning.vector)[:, None]
            embedded.insert(0, vector + self.vector_position)
            bias = None if bias is None else F.pad(bias, (1, 0))
        sequence = torch.cat(embedded, dim=1) if embedded else None
        return PreparedSequence(sequence, [], bias, None, conditioning.map)

    def forward(self, z: Tensor, t: Tensor, conditioning: Conditioning | PreparedSequence) -> Tensor:
        """Noisy latents (B, c, h, w) at times t (B,) => raw output (B, ``latent.outputs``, h, w), in the type of ``z``.

        Raises ConfigError when h or w is no multiple of the patch size, and when the conditioning is not what the
        network was built for.
        """
        prepared = conditioning if isinstance(conditioning, PreparedSequence) else self.prepare(conditioning)
        patches = embed_patches(self.patch_embed, z, prepared.map, latent=self.latent, denoiser="uvit")
        rows, columns = patches.shape[2:]
        features = to_sequence(patches) + self.places(rows, columns, z.device).to(patches.dtype)
        time = time_embedding(t, self.config.width)[:, None] + self.time_position
        told = [] if prepared.tokens is None else [prepared.tokens.to(features.dtype)]
        sequence = torch.cat([time.to(features.dtype), *told, features], dim=1)
        bias = None if prepared.bias is None else F.pad(prepared.bias, (1, rows * columns))
        hidden = self.norm(self.through_blocks(sequence, bias))[:, -rows * columns :]
        return self.last(to_latents(self.proj_out(hidden), rows, columns, self.config.patch_size)).to(z.dtype)

    def places(self, rows: int, columns: int, device: torch.device) -> Tensor:
        """What the patches of such a grid add for their places: (rows * columns, D)."""
        if self.positions is None:
            return sincos_positions(rows, columns, self.config.width, device=device)
        table: Tensor = self.positions
        if table.shape[2:] != (rows, columns):
            table = F.interpolate(table, (rows, columns), mode="bicubic", align_corners=False)
        return to_sequence(table)[0]

    def through_blocks(self, features: Tensor, bias: Tensor | None) -> Tensor:
        """Features (B, L, D) => (B, L, D); ``bias`` (B, 1, 1, L) is added to the scores."""
        checkpointing, skips = self.config.checkpointing, []
        for block in self.blocks_in:
            features = run(block, features, None, bias, checkpointing=checkpointing)
            skips.append(features)
        features = run(self.middle, features, None, bias, checkpointing=checkpointing)
        for block in self.blocks_out:
            features = run(block, features, skips.pop(), bias, checkpointing=checkpointing)
        return features


def learned(*shape: int) -> nn.Parameter:
    """A learned position, of a deviation of 0.02 at first."""
    return nn.Parameter(0.02 * torch.randn(shape))

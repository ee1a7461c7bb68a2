"""The diffusion transformer (Peebles and Xie 2023), with the tokens of a condition by one of three ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit.protocols import Denoiser
from ldmkit.registry.ranges import at_least
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.values import Conditioning
from ldmkit_denoisers.attention import Attention
from ldmkit_denoisers.checkpointing import run
from ldmkit_denoisers.dit_block import DiTBlock, Modulation, modulate
from ldmkit_denoisers.joint_block import JointBlock, LastJointBlock
from ldmkit_denoisers.layers import Pointwise, xavier, zeroed
from ldmkit_denoisers.patches import EdgeConvolution, embed_patches, to_latents, to_sequence
from ldmkit_denoisers.positions import sincos_positions
from ldmkit_denoisers.prepared import PreparedSequence, check, silence_pads
from ldmkit_denoisers.time_embedding import time_embedding

TIME_WIDTH = 256
"""Width of the sinusoidal embedding of the time."""


class DiT(Denoiser):
    """A transformer over patches of the latents, modulated by time and vector (adaLN-zero).

    Tokens reach it by ``tokens``: ``cross-attention`` in every block, ``in-context`` as further members of the sequence
    (both Peebles and Xie 2023, section 3.2), or ``joint``, as a sequence with weights of its own that attends and is
    attended to (MMDiT, Esser et al. 2024). Whatever is not an image has no position: conditioners give their tokens
    one. Tokens whose mask is False have no influence. A vector is added to the embedded time, a map makes further
    channels of the input. A new network answers zero.
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
        tokens: Literal["cross-attention", "in-context", "joint"]
        qk_norm: bool
        position_grid: int | None
        checkpointing: bool

        def __post_init__(self) -> None:
            at_least(1, patch_size=self.patch_size, width=self.width, depth=self.depth, heads=self.heads)
            at_least(1, feed_forward_multiple=self.feed_forward_multiple, position_grid=self.position_grid)
            if self.width % 4 or self.width % self.heads:
                raise ValueError(f"width is {self.width} but must be a multiple of 4 and of heads={self.heads}")

    def __init__(self, config: Config, *, latent: LatentSpec, cond: CondSpec) -> None:
        super().__init__()
        self.config, self.latent, self.cond = config, latent, cond
        self.multiple = config.patch_size
        width = config.width
        self.time_embed = embedding(TIME_WIDTH, width)
        self.vector_embed = embedding(cond.vector, width) if cond.vector else None
        in_sequence = cond.tokens and config.tokens != "cross-attention"
        self.token_embed = nn.Linear(cond.tokens, width) if in_sequence else None
        channels, size = latent.channels + cond.map, config.patch_size
        self.patch_embed = EdgeConvolution(channels, width, size, stride=size)
        self.blocks = nn.ModuleList(self.block(last=index + 1 == config.depth) for index in range(config.depth))
        self.last_modulation = Modulation(width, 2)
        self.proj_out = zeroed(Pointwise(width, size**2 * latent.outputs, axes=0))
        self.apply(initialise)

    def block(self, *, last: bool) -> nn.Module:
        """A block of the kind that the tokens need."""
        config, tokens = self.config, self.cond.tokens
        heads, multiple, qk_norm = config.heads, config.feed_forward_multiple, config.qk_norm
        if tokens and config.tokens == "joint":
            kind = LastJointBlock if last else JointBlock
            return kind(config.width, heads=heads, multiple=multiple, qk_norm=qk_norm)
        across = tokens if config.tokens == "cross-attention" else 0
        return DiTBlock(config.width, heads=heads, multiple=multiple, qk_norm=qk_norm, tokens=across)

    def prepare(self, conditioning: Conditioning) -> PreparedSequence:
        """Compute K and V of the tokens for every cross-attention, or embed them; embed the vector. Gradients pass."""
        check(conditioning, self.cond, "dit")
        tokens, bias = silence_pads(conditioning)
        vector = self.vector_embed(conditioning.vector) if self.vector_embed is not None else None
        keys_values = []
        if tokens is not None and self.token_embed is None:
            keys_values = [block.keys_values(tokens) for block in self.blocks if isinstance(block, DiTBlock)]
        embedded = self.token_embed(tokens) if self.token_embed is not None else None
        return PreparedSequence(embedded, keys_values, bias, vector, conditioning.map)

    def forward(self, z: Tensor, t: Tensor, conditioning: Conditioning | PreparedSequence) -> Tensor:
        """Noisy latents (B, c, h, w) at times t (B,) => raw output (B, ``latent.outputs``, h, w), in the type of ``z``.

        Raises ConfigError when h or w is no multiple of the patch size, and when the conditioning is not what the
        network was built for.
        """
        prepared = conditioning if isinstance(conditioning, PreparedSequence) else self.prepare(conditioning)
        patches = embed_patches(self.patch_embed, z, prepared.map, latent=self.latent, denoiser="dit")
        rows, columns = patches.shape[2:]
        trained = self.config.position_grid
        positions = sincos_positions(rows, columns, self.config.width, trained=trained, device=z.device)
        features = to_sequence(patches) + positions.to(patches.dtype)
        condition = self.time_embed(time_embedding(t, TIME_WIDTH).to(z.dtype))
        if prepared.vector is not None:
            condition = condition + prepared.vector
        features = self.through_blocks(features, condition, prepared)
        raw = self.proj_out(modulate(features, *self.last_modulation(condition)))
        return to_latents(raw, rows, columns, self.config.patch_size).to(z.dtype)

    def through_blocks(self, features: Tensor, condition: Tensor, prepared: PreparedSequence) -> Tensor:
        """Features (B, N, D) and the condition (B, D) => (B, N, D). The sequence is tokens, then patches."""
        tokens, bias, checkpointing = prepared.tokens, prepared.bias, self.config.checkpointing
        patches = features.shape[1]
        if tokens is None:
            for index, block in enumerate(self.blocks):
                told = prepared.keys_values[index] if prepared.keys_values else None
                features = run(block, features, condition, told, bias, checkpointing=checkpointing)
            return features
        bias = None if bias is None else F.pad(bias, (0, patches))
        if self.config.tokens == "joint":
            for block in self.blocks:
                features, tokens = run(block, features, tokens, condition, bias, checkpointing=checkpointing)
            return features
        features = torch.cat([tokens.to(features.dtype), features], dim=1)
        for block in self.blocks:
            features = run(block, features, condition, None, bias, checkpointing=checkpointing)
        return features[:, -patches:]


def embedding(inputs: int, width: int) -> nn.Sequential:
    """Two linear layers with SiLU between them, from something of width ``inputs`` to the condition."""
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))


def initialise(module: nn.Module) -> None:
    """Zero what ends a branch or modulates one, and give other linear layers the weights of a new ViT.

    Applied to every module, the inner ones first.
    """
    match module:
        case nn.Linear():
            xavier(module)
        case Modulation():
            zeroed(module)
        case DiTBlock(cross_attention=Attention() as across):
            zeroed(across.to_out)

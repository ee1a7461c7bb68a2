"""The ADM UNet with spatial transformers (Dhariwal and Nichol 2021; Rombach et al. 2022).

Names and shapes of the parameters are those of the original checkpoints, so that these can be read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from ldmkit.errors import ConfigError
from ldmkit.protocols import Denoiser, Perturbation
from ldmkit.registry.ranges import at_least, below_one
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.values import Conditioning
from ldmkit_denoisers.attention import PlainAttention
from ldmkit_denoisers.block import Block
from ldmkit_denoisers.layers import Norm, zeroed
from ldmkit_denoisers.prepared import Prepared, check, silence_pads, with_map
from ldmkit_denoisers.residual import Downsample, ResBlock, Upsample
from ldmkit_denoisers.time_embedding import time_embedding, vector_embedding
from ldmkit_denoisers.transformer import SpatialTransformer


class UNet(Denoiser):
    """The network of LDM and Stable Diffusion.

    Tokens reach it by cross-attention, a vector by the embedded time, a map as further channels of the input. Tokens
    whose mask is False have no influence; a row without a single real token gets nothing from its cross-attention.
    Its ``Config`` raises ConfigError when it does not add up.
    """

    accepts = frozenset({"tokens", "vector", "map"})
    perturbable = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        channels: int
        multipliers: list[int]
        res_blocks: int
        skips: Literal["block", "level"]
        attention_factors: list[int]
        attention_without_tokens: Literal["transformer", "plain"]
        heads: int | None
        head_channels: int | None
        transformer_depth: int | list[int]
        projection: Literal["convolution", "linear"]
        feed_forward: Literal["geglu", "silu"]
        feed_forward_multiple: int
        norm: Literal["group", "layer"]
        scale_shift: bool
        resample: Literal["convolution", "block"]
        vector_embedding: Literal["mlp", "add"]
        dropout: float
        checkpointing: bool

        def __post_init__(self) -> None:
            if not self.multipliers:
                raise ValueError("multipliers is [] but must have one number for each level")
            at_least(1, channels=self.channels, multipliers=self.multipliers, res_blocks=self.res_blocks)
            at_least(1, attention_factors=self.attention_factors, heads=self.heads, head_channels=self.head_channels)
            at_least(1, transformer_depth=self.transformer_depth, feed_forward_multiple=self.feed_forward_multiple)
            below_one(dropout=self.dropout)
            validate(self)

    def __init__(self, config: Config, *, latent: LatentSpec, cond: CondSpec) -> None:
        super().__init__()
        self.config, self.latent, self.cond = config, latent, cond
        self.multiple = 2 ** (len(config.multipliers) - 1)
        width = 4 * config.channels
        self.time_embed = nn.Sequential(nn.Linear(config.channels, width), nn.SiLU(), nn.Linear(width, width))
        if cond.vector:
            self.label_emb = vector_embedding(config.vector_embedding, cond.vector, width)
        first = nn.Conv2d(latent.channels + cond.map, config.channels, 3, padding=1)
        self.input_blocks = nn.ModuleList([self.block(first)])
        self.output_blocks = nn.ModuleList()
        channels, skips = self.build_input_blocks()
        self.middle_block = self.block(
            self.res_block(channels, channels), self.attention(channels, -1), self.res_block(channels, channels)
        )
        self.build_output_blocks(channels, skips)
        channels = config.channels * config.multipliers[0]
        last = zeroed(nn.Conv2d(channels, latent.outputs, 3, padding=1))
        self.out = nn.Sequential(Norm(config.norm, channels), nn.SiLU(), last)
        self.transformers = tuple(layer for layer in self.modules() if isinstance(layer, SpatialTransformer))
        for index, transformer in enumerate(self.transformers):
            transformer.index = index

    def build_input_blocks(self) -> tuple[int, list[int]]:
        """Append the blocks on the way down; returns the width they end with and that of each skip connection."""
        config = self.config
        channels = config.channels
        every = config.skips == "block"
        self.keeps = [every]
        skips = [channels] if every else []
        for level, multiplier in enumerate(config.multipliers):
            for repeat in range(config.res_blocks):
                layers: list[nn.Module] = [self.res_block(channels, config.channels * multiplier)]
                channels = config.channels * multiplier
                if 2**level in config.attention_factors:
                    layers.append(self.attention(channels, level))
                self.input_blocks.append(self.block(*layers))
                self.keeps.append(every or repeat + 1 == config.res_blocks)
                skips += [channels] * self.keeps[-1]
            if level + 1 < len(config.multipliers):
                by_block = config.resample == "block"
                down = self.res_block(channels, channels, "down") if by_block else Downsample(channels)
                self.input_blocks.append(self.block(down))
                self.keeps.append(every)
                skips += [channels] * every
        return channels, skips

    def build_output_blocks(self, channels: int, skips: list[int]) -> None:
        """Append the blocks on the way up, which take the skip connections from the last one on."""
        config = self.config
        every = config.skips == "block"
        repeats = config.res_blocks + every
        self.takes = []
        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            for repeat in range(repeats):
                self.takes.append(every or repeat == 0)
                inputs = channels + (skips.pop() if self.takes[-1] else 0)
                channels = config.channels * multiplier
                layers: list[nn.Module] = [self.res_block(inputs, channels)]
                if 2**level in config.attention_factors:
                    layers.append(self.attention(channels, level))
                if level and repeat + 1 == repeats:
                    by_block = config.resample == "block"
                    layers.append(self.res_block(channels, channels, "up") if by_block else Upsample(channels))
                self.output_blocks.append(self.block(*layers))

    def block(self, *layers: nn.Module) -> Block:
        return Block(layers, self.config.checkpointing)

    def res_block(self, inputs: int, outputs: int, resample: str | None = None) -> ResBlock:
        config = self.config
        return ResBlock(
            inputs,
            outputs,
            time_width=4 * config.channels,
            norm=config.norm,
            dropout=config.dropout,
            scale_shift=config.scale_shift,
            resample=resample,
        )

    def attention(self, channels: int, level: int) -> SpatialTransformer | PlainAttention:
        config = self.config
        depth = config.transformer_depth
        heads = config.heads or channels // (config.head_channels or channels)
        if config.attention_without_tokens == "plain" and not self.cond.tokens:
            return PlainAttention(channels, heads, config.norm)
        return SpatialTransformer(
            channels,
            depth=depth if isinstance(depth, int) else depth[level],
            projection=config.projection,
            norm=config.norm,
            tokens=self.cond.tokens,
            heads=heads,
            dropout=config.dropout,
            feed_forward=config.feed_forward,
            feed_forward_multiple=config.feed_forward_multiple,
        )

    def prepare(self, conditioning: Conditioning) -> Prepared:
        """Compute K and V of the tokens for every cross-attention, and project the vector. Gradients pass."""
        check(conditioning, self.cond, "unet")
        tokens, bias = silence_pads(conditioning)
        vector = conditioning.vector
        keys_values = [transformer.keys_values(tokens) for transformer in self.transformers]
        return Prepared(keys_values, bias, None if vector is None else self.label_emb(vector), conditioning.map)

    def perturb(self, prepared: Prepared, where: Perturbation) -> Prepared:
        return replace(prepared, perturbed=where)

    def forward(self, z: Tensor, t: Tensor, conditioning: Conditioning | Prepared) -> Tensor:
        """Noisy latents (B, c, h, w) at times t (B,) => raw output (B, ``latent.outputs``, h, w), in the type of ``z``.

        Raises ConfigError when h or w cannot be halved as often as there are levels, and when the conditioning is not
        what the network was built for.
        """
        prepared = conditioning if isinstance(conditioning, Prepared) else self.prepare(conditioning)
        features = self.input(z, prepared)
        embedding = time_embedding(t, self.config.channels).to(z.dtype)
        time = self.time_embed(embedding)
        if prepared.vector is not None:
            time = time + prepared.vector
        around = replace(prepared, perturbed=None) if prepared.perturbed == "middle" else prepared
        skips = []
        for block, keeps in zip(self.input_blocks, self.keeps, strict=True):
            features = block(features, time, around)
            if keeps:
                skips.append(features)
        features = self.middle_block(features, time, prepared)
        for block, takes in zip(self.output_blocks, self.takes, strict=True):
            if takes:
                features = torch.cat([features, skips.pop()], dim=1)
            features = block(features, time, around)
        return self.out(features).to(z.dtype)

    def input(self, z: Tensor, prepared: Prepared) -> Tensor:
        """Check ``z`` and concatenate the map to it, in the memory format that the network computes in."""
        z = with_map(
            z,
            prepared.map,
            latent=self.latent,
            multiple=self.multiple,
            denoiser="unet",
            remedy="change image_size or the number of multipliers",
        )
        return z.contiguous(memory_format=torch.channels_last) if self.config.norm == "layer" else z


def validate(config: UNet.Config) -> None:
    """Raise ConfigError when the numbers of ``config`` contradict each other."""
    if (config.heads is None) == (config.head_channels is None):
        raise ConfigError(
            f"denoiser 'unet' got heads={config.heads} and head_channels={config.head_channels} but expected exactly"
            " one of them; set the other to null"
        )
    if config.channels % 2:
        raise ConfigError(f"denoiser 'unet' got channels={config.channels} but expected an even number")
    depth, levels = config.transformer_depth, len(config.multipliers)
    if isinstance(depth, list) and len(depth) != levels:
        raise ConfigError(f"denoiser 'unet' got transformer_depth={depth} but expected {levels} numbers, one a level")
    factors = [2**level for level in range(levels)]
    strange = sorted(set(config.attention_factors) - set(factors))
    if strange:
        raise ConfigError(
            f"denoiser 'unet' got attention_factors {strange} but its levels have the downsampling factors {factors}"
            " (factors, not sizes)"
        )
    for level, multiplier in enumerate(config.multipliers):
        validate_level(config, config.channels * multiplier, 2**level in config.attention_factors)
    validate_level(config, config.channels * config.multipliers[-1], attends=True)  # that in the middle


def validate_level(config: UNet.Config, channels: int, attends: bool) -> None:
    """Raise ConfigError when a level of so many channels cannot be split into the heads and groups of ``config``."""
    key, number = ("heads", config.heads) if config.heads else ("head_channels", config.head_channels)
    if attends and number and channels % number:
        raise ConfigError(
            f"denoiser 'unet' got a level of {channels} channels but expected a multiple of {key}={number}"
        )
    Norm(config.norm, channels)  # refuses a width that its groups do not divide

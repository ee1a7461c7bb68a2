"""A UNet small enough for tests, with every weight random: the zeros it starts with would hide all mistakes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from ldmkit_denoisers.unet import UNet
from torch import nn

from ldmkit.specs import CondSpec, LatentSpec

SMALL = UNet.Config(
    name="unet",
    channels=32,
    multipliers=[1, 2],
    res_blocks=1,
    skips="block",
    attention_factors=[1, 2],
    attention_without_tokens="transformer",
    heads=None,
    head_channels=16,
    transformer_depth=1,
    projection="convolution",
    feed_forward="geglu",
    feed_forward_multiple=2,
    norm="group",
    scale_shift=False,
    resample="convolution",
    vector_embedding="mlp",
    dropout=0.0,
    checkpointing=False,
)


def randomise(network: nn.Module, seed: int = 0) -> None:
    """Draw every parameter anew, at a size that keeps the features near unit variance."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        values = torch.randn(parameter.shape, generator=generator)
        parameter.data = values / fan_in**0.5 if parameter.ndim > 1 else 0.2 * values + ("norm" in name)


@pytest.fixture
def config() -> UNet.Config:
    """The numbers of the small UNet."""
    return SMALL


@pytest.fixture
def build() -> Callable[..., UNet]:
    """``build(tokens=24, vector=0, map=0, **config)`` gives a small UNet for 4 latent channels, weights random."""

    def build(tokens: int = 24, vector: int = 0, map: int = 0, **config: Any) -> UNet:
        cond = CondSpec(tokens=tokens, vector=vector, map=map)
        network = UNet(replace(SMALL, **config), latent=LatentSpec(channels=4, factor=8), cond=cond)
        randomise(network)
        return network

    return build

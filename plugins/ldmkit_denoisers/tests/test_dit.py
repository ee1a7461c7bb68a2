"""DiT: the sizes of the paper, how its blocks begin, and what its ways of taking tokens do and do not share."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from ldmkit_denoisers.dit import DiT
from ldmkit_denoisers.dit_block import DiTBlock
from torch import Tensor, nn

from ldmkit.registry.composing import compose
from ldmkit.registry.schema import typed
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.testing.outputs import randomise
from ldmkit.values import Conditioning

CLASSES = 1001  # of ImageNet, and the null class: a table that the paper counts, and that is a conditioner's here


def config(*overrides: str) -> DiT.Config:
    return typed(DiT.Config, compose(["scale=paper", "denoiser=dit", *overrides])["denoiser"], "denoiser")


def build(tokens: str = "cross-attention", **changes: Any) -> DiT:
    small: dict[str, Any] = {"patch_size": 2, "width": 32, "depth": 2, "heads": 4, "feed_forward_multiple": 2}
    numbers = replace(config(f"denoiser.tokens={tokens}"), **{**small, **changes})
    return DiT(numbers, latent=LatentSpec(channels=4, factor=8), cond=CondSpec(tokens=24))


def noisy() -> tuple[Tensor, Tensor, Conditioning]:
    torch.manual_seed(1)
    return torch.randn(2, 4, 8, 8), torch.tensor([30.0, 700.0]), Conditioning(tokens=torch.randn(2, 5, 24))


@pytest.mark.parametrize(
    ("width", "depth", "heads", "millions"),
    [(384, 12, 6, 33), (768, 12, 12, 130), (1024, 24, 16, 458), (1152, 28, 16, 675)],
)
def test_the_models_of_the_paper_have_its_numbers_of_parameters(
    width: int, depth: int, heads: int, millions: int
) -> None:
    """Peebles and Xie 2023, tables 1 and 4. Its learned variances double the output; here there are none."""
    numbers = replace(config(), width=width, depth=depth, heads=heads)
    with torch.device("meta"):
        network = DiT(numbers, latent=LatentSpec(channels=4, factor=8), cond=CondSpec())
    parameters = sum(parameter.numel() for parameter in network.parameters()) + CLASSES * width
    assert round(parameters / 1e6) == millions


def test_the_scale_paper_is_the_largest_model_of_the_paper() -> None:
    numbers = config()
    assert (numbers.width, numbers.depth, numbers.heads, numbers.patch_size) == (1152, 28, 16, 2)


@torch.no_grad()
@pytest.mark.parametrize("tokens", ["cross-attention", "in-context", "joint"])
def test_every_block_begins_as_the_identity(tokens: str) -> None:
    network = build(tokens)
    torch.nn.init.normal_(network.proj_out.weight)
    z, t, told = noisy()
    expected = network(z, t, told)
    network.blocks = nn.ModuleList()
    torch.testing.assert_close(network(z, t, told), expected)


@torch.no_grad()
def test_tokens_speak_only_through_the_values_of_the_cross_attention() -> None:
    network, (z, t, told) = build(), noisy()
    randomise(network)
    assert told.tokens is not None
    other = Conditioning(tokens=told.tokens + 1)
    assert not torch.allclose(network(z, t, told), network(z, t, other))
    for block in network.blocks:
        assert isinstance(block, DiTBlock)
        assert block.cross_attention is not None
        assert block.cross_attention.to_q.weight.shape == (32, 32)
        assert block.cross_attention.to_k.weight.shape == block.cross_attention.to_v.weight.shape == (32, 24)
        block.cross_attention.to_v.weight.zero_()
    assert torch.equal(network(z, t, told), network(z, t, other))


@torch.no_grad()
def test_keys_and_values_of_the_tokens_are_computed_once() -> None:
    network, (z, t, told) = build(), noisy()
    randomise(network)
    prepared = network.prepare(told)
    expected = network(z, t, prepared)
    for block in network.blocks:
        assert isinstance(block, DiTBlock)
        assert block.cross_attention is not None
        block.cross_attention.to_k.weight.fill_(torch.nan)
        block.cross_attention.to_v.weight.fill_(torch.nan)
    assert torch.equal(network(z, t, prepared), expected)


@torch.no_grad()
def test_a_spread_grid_shows_a_larger_picture_the_positions_of_the_trained_one() -> None:
    network = build(position_grid=4)
    counted = build(position_grid=None)
    randomise(network)
    randomise(counted)
    z, t, told = noisy()
    assert torch.equal(network(z, t, told), counted(z, t, told))
    large = torch.randn(2, 4, 16, 16)
    assert not torch.allclose(network(large, t, told), counted(large, t, told))

"""U-ViT: the sizes of the paper, its long skip connections, its sequence."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ldmkit_denoisers.time_embedding import time_embedding
from ldmkit_denoisers.uvit import UViT
from torch import Tensor, nn

from ldmkit.registry.composing import compose
from ldmkit.registry.schema import typed
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.testing.outputs import randomise
from ldmkit.values import Conditioning

CLASSES = 1001  # of ImageNet, and the null class: a table that the paper counts, and that is a conditioner's here


def config() -> UViT.Config:
    return typed(UViT.Config, compose(["scale=paper", "denoiser=uvit"])["denoiser"], "denoiser")


def build(**changes: Any) -> UViT:
    small: dict[str, Any] = {"patch_size": 2, "width": 32, "depth": 5, "heads": 4, "feed_forward_multiple": 2}
    numbers = replace(config(), **{**small, "learned_positions": 4, **changes})
    network = UViT(numbers, latent=LatentSpec(channels=4, factor=8), cond=CondSpec(tokens=24))
    randomise(network)
    return network


def noisy() -> tuple[Tensor, Tensor, Conditioning]:
    torch.manual_seed(1)
    return torch.randn(2, 4, 8, 8), torch.tensor([30.0, 700.0]), Conditioning(tokens=torch.randn(2, 5, 24))


@pytest.mark.parametrize(
    ("width", "depth", "heads", "millions"),
    [(512, 13, 8, 44), (512, 17, 8, 58), (768, 17, 12, 131), (1024, 21, 16, 287), (1152, 29, 16, 501)],
)
def test_the_models_of_the_paper_have_its_numbers_of_parameters(
    width: int, depth: int, heads: int, millions: int
) -> None:
    """Bao et al. 2023, table 1."""
    numbers = replace(config(), width=width, depth=depth, heads=heads)
    with torch.device("meta"):
        network = UViT(numbers, latent=LatentSpec(channels=4, factor=8), cond=CondSpec())
    classes = CLASSES * width if width > 512 else 0  # the small ones are told of no ImageNet class
    parameters = sum(parameter.numel() for parameter in network.parameters()) + classes
    assert round(parameters / 1e6) == millions


def test_the_scale_paper_is_the_largest_model_of_the_paper() -> None:
    numbers = config()
    assert (numbers.width, numbers.depth, numbers.heads, numbers.patch_size) == (1152, 29, 16, 2)


def attention(layer: nn.Module, x: Tensor, heads: int) -> Tensor:
    query, key, value = (F.linear(x, getattr(layer, f"to_{name}").weight) for name in "qkv")
    parts = zip(*(tensor.chunk(heads, dim=-1) for tensor in (query, key, value)), strict=True)
    attended = [((q @ k.mT) / q.shape[-1] ** 0.5).softmax(-1) @ v for q, k, v in parts]
    return layer.to_out(torch.cat(attended, dim=-1))  # type: ignore[operator]


@torch.no_grad()
def test_it_is_the_network_of_figure_1() -> None:
    network, (z, t, told) = build().double(), noisy()
    z, told = z.double(), told.to(torch.float64)

    def block(layer: Any, x: Tensor, skipped: Tensor | None = None) -> Tensor:
        x = x if skipped is None else layer.skip(torch.cat([x, skipped], dim=-1))
        x = x + attention(layer.attention, layer.norm1(x), 4)
        return x + layer.feed_forward(layer.norm2(x))

    patches = F.conv2d(z, network.patch_embed.weight, network.patch_embed.bias, stride=2) + network.positions
    time = time_embedding(t, 32)[:, None] + network.time_position
    assert network.token_embed is not None
    x = torch.cat([time, network.token_embed(told.tokens), patches.flatten(2).mT], dim=1)
    first = block(network.blocks_in[0], x)
    second = block(network.blocks_in[1], first)
    x = block(network.middle, second)
    x = block(network.blocks_out[0], x, second)
    x = block(network.blocks_out[1], x, first)
    x = F.linear(network.norm(x)[:, 6:], network.proj_out.weight, network.proj_out.bias)
    grid = torch.zeros(2, 4, 8, 8, dtype=torch.float64)
    for row in range(4):
        for column in range(4):
            patch = x[:, row * 4 + column].unflatten(1, (2, 2, 4)).permute(0, 3, 1, 2)
            grid[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = patch
    expected = F.conv2d(grid, network.last.weight, network.last.bias, padding=1)
    torch.testing.assert_close(network(z, t, told), expected, atol=1e-10, rtol=1e-8)


@torch.no_grad()
def test_learned_positions_are_interpolated_to_other_sizes() -> None:
    network = build()
    assert network.positions is not None
    network.positions.copy_(torch.arange(4.0)[:, None].expand(4, 4))  # grows from row to row
    trained, wide = (network.places(4, columns, torch.device("cpu")) for columns in (4, 10))
    assert torch.equal(trained.unflatten(0, (4, 4))[:, 0, 0], torch.arange(4.0))
    torch.testing.assert_close(wide.unflatten(0, (4, 10))[:, 7, 0], torch.arange(4.0))


def test_an_even_number_of_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="depth is 4 but must be odd"):
        build(depth=4)

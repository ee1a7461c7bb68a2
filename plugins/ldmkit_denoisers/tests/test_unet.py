"""The network as a whole: sizes, types, training, and configs that do not add up."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch
from ldmkit_denoisers.layers import Norm
from ldmkit_denoisers.unet import UNet

from ldmkit.errors import ConfigError
from ldmkit.registry.schema import typed
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.values import Conditioning

Build = Callable[..., UNet]
TOLD = Conditioning(tokens=torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0)))
VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm": "layer", "feed_forward": "silu"},
    {"norm": "layer", "skips": "level"},
    {"skips": "level", "res_blocks": 2},
    {"scale_shift": True, "resample": "block"},
    {"transformer_depth": 2, "heads": 2, "head_channels": None},
    {"transformer_depth": [1, 2], "projection": "linear"},
    {"checkpointing": True},
]


def test_a_new_network_answers_zero(config: UNet.Config) -> None:
    network = UNet(config, latent=LatentSpec(channels=4, factor=8), cond=CondSpec(tokens=24))
    assert not network(torch.randn(2, 4, 8, 8), torch.tensor([3.0, 500.0]), TOLD).any()


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (4, 12), (2, 2), (16, 6)])
def test_any_size_that_can_be_halved_goes(build: Build, size: tuple[int, int]) -> None:
    assert build()(torch.randn(2, 4, *size), torch.zeros(2), TOLD).shape == (2, 4, *size)


@pytest.mark.parametrize("shape", [(2, 4, 7, 8), (2, 4, 8, 9), (2, 3, 8, 8)])
def test_other_sizes_are_refused(build: Build, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"expected \(B, 4, h, w\) with h and w multiples of 2"):
        build()(torch.randn(shape), torch.zeros(2), TOLD)


@torch.no_grad()
def test_the_time_is_heard(build: Build) -> None:
    network, z = build(), torch.randn(2, 4, 8, 8)
    early, late = network(z, torch.tensor([0.0, 0.0]), TOLD), network(z, torch.tensor([0.0, 900.0]), TOLD)
    torch.testing.assert_close(early[0], late[0])
    assert (early[1] - late[1]).abs().max() > 1e-2


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bf16", [False, True])
def test_every_parameter_learns(build: Build, variant: dict[str, Any], bf16: bool) -> None:
    network = build(vector=10, map=3, channels=64, **variant)  # two channels to a group; one would leave no gradient
    told = Conditioning(
        tokens=TOLD.tokens,
        mask=torch.arange(5)[None] < torch.tensor([[5], [2]]),
        vector=torch.randn(2, 10),
        map=torch.randn(2, 3, 8, 8),
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = network(torch.randn(2, 4, 8, 8), torch.rand(2) * 1000, told)
    assert out.dtype == torch.float32
    out.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS[:3])
def test_bf16_is_near_fp32(build: Build, variant: dict[str, Any]) -> None:
    network, z, t = build(**variant), torch.randn(2, 4, 8, 8), torch.rand(2) * 1000
    exact = network(z, t, TOLD)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(z, t, TOLD)
    assert (rough - exact).square().mean().sqrt() < 0.05 * exact.std()
    halved = network.bfloat16()(z.bfloat16(), t, TOLD.to(torch.bfloat16))
    assert halved.dtype == torch.bfloat16
    assert (halved.float() - exact).square().mean().sqrt() < 0.05 * exact.std()


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_norms_of_bf16_features_are_computed_in_fp32(kind: str) -> None:
    norm, features = Norm(kind, 64), 100 + torch.randn(2, 64, 4, 4).bfloat16()
    torch.testing.assert_close(norm(features), norm(features.float()).bfloat16(), atol=1e-4, rtol=2**-7)


def test_norms_do_what_their_kind_says() -> None:
    features = 3 + 2 * torch.randn(2, 64, 4, 4)
    grouped = Norm("group", 64)(features).unflatten(1, (32, 2)).transpose(0, 1).flatten(2).flatten(0, 1)
    layered = Norm("layer", 64)(features).permute(0, 2, 3, 1).flatten(0, 2)
    for rows in (grouped, layered):
        torch.testing.assert_close(rows.mean(1), torch.zeros(len(rows)), atol=1e-5, rtol=0.0)
        torch.testing.assert_close(rows.var(1, correction=0), torch.ones(len(rows)), atol=1e-4, rtol=0.0)


def test_a_skip_per_level_leaves_fewer_blocks(build: Build) -> None:
    by_block, by_level = build(res_blocks=2), build(res_blocks=2, skips="level")
    assert len(by_block.output_blocks) == 6
    assert len(by_level.output_blocks) == 4
    assert by_level.output_blocks[0][0].skip_connection.weight.shape[:2] == (64, 64 + 64)
    assert by_level.output_blocks[1][0].in_layers[0].weight.shape == (64,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 4}, "heads=4 and head_channels=16 but expected exactly one"),
        ({"head_channels": None}, "heads=None and head_channels=None but expected exactly one"),
        ({"head_channels": 24}, "a level of 32 channels but expected a multiple of head_channels=24"),
        ({"head_channels": 64}, "a level of 32 channels but expected a multiple of head_channels=64"),
        ({"heads": 3, "head_channels": None}, "a level of 32 channels but expected a multiple of heads=3"),
        ({"attention_factors": [1, 8, 16]}, r"attention_factors \[8, 16\] but its levels have .* \[1, 2\]"),
        ({"channels": 48, "head_channels": 16}, "a level of 48 channels but norm=group expected a multiple of 32"),
        ({"channels": 33, "norm": "layer", "head_channels": 33}, "channels=33 but expected an even number"),
        ({"transformer_depth": [1, 2, 3]}, r"transformer_depth=\[1, 2, 3\] but expected 2 numbers, one a level"),
        (
            {"vector": 10, "vector_embedding": "add"},
            "a vector of width 10 but vector_embedding=add expected 128, 4 times",
        ),
    ],
)
def test_a_config_that_does_not_add_up_is_refused(build: Build, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**change)


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("norm", "groop", "group"),
        ("resample", "blok", "block"),
        ("skips", "levels", "level"),
        ("feed_forward", "geglo", "geglu"),
        ("projection", "lineal", "linear"),
        ("attention_without_tokens", "plane", "plain"),
        ("vector_embedding", "ad", "add"),
    ],
)
def test_a_choice_that_there_is_not_is_refused_with_the_nearest(
    config: UNet.Config, key: str, value: str, meant: str
) -> None:
    with pytest.raises(
        ConfigError, match=f"denoiser.{key}: '{value}' is not one of its values; did you mean '{meant}'"
    ):
        typed(UNet.Config, {**asdict(config), key: value}, "denoiser")

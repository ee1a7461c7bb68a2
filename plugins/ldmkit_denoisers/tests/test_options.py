"""The option file has the keys of the class it configures, and at every scale the class can be built from it."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import ldmkit_denoisers
import pytest
import torch
from ldmkit_denoisers.unet import UNet
from omegaconf import OmegaConf

from ldmkit.registry.schema import typed
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.values import Conditioning

OPTIONS = Path(ldmkit_denoisers.__file__).parent / "conf" / "denoiser"
SCALE: dict[str, Any] = {
    "channels": 32, "multipliers": [1, 2], "res_blocks": 1, "skips": "level", "attention_factors": [2],
    "attention_without_tokens": "plain", "heads": None, "head_channels": 32, "transformer_depth": 1,
    "feed_forward": "silu", "feed_forward_multiple": 2, "norm": "layer", "scale_shift": True, "resample": "block",
}  # fmt: skip


def option(name: str) -> dict[str, Any]:
    node = OmegaConf.create({"scale": {"denoiser": SCALE}, "denoiser": OmegaConf.load(OPTIONS / f"{name}.yaml")})
    resolved: Any = OmegaConf.to_container(node, resolve=True)
    return resolved["denoiser"]  # type: ignore[no-any-return]


def test_every_component_has_an_option_file_and_every_option_file_a_component() -> None:
    assert {component.name for component in ldmkit_denoisers.components()} == {p.stem for p in OPTIONS.glob("*.yaml")}


def test_the_option_file_has_the_keys_of_its_config_in_their_order_and_builds_it() -> None:
    assert list(option("unet")) == [field.name for field in fields(UNet.Config)]
    config = typed(UNet.Config, option("unet"), "denoiser")
    with torch.device("meta"):
        network = UNet(config, latent=LatentSpec(channels=4, factor=8), cond=CondSpec(tokens=8))
    assert network.accepts == {"tokens", "vector", "map"}


@pytest.mark.parametrize("name", ["dit", "unet", "uvit"])
def test_every_key_has_a_comment(name: str) -> None:
    lines = (OPTIONS / f"{name}.yaml").read_text().splitlines()
    assert [line for line in lines if " # " not in line] == []


@pytest.mark.parametrize("key", SCALE)
def test_numbers_that_depend_on_scale_are_read_from_it(key: str) -> None:
    assert option("unet")[key] == SCALE[key]


@pytest.mark.parametrize("skips", ["block", "level"])
@pytest.mark.parametrize("multipliers", [[2], [3, 1]])
def test_the_first_level_may_be_wider_than_the_first_convolution(
    build: Callable[..., UNet], multipliers: list[int], skips: str
) -> None:
    network = build(multipliers=multipliers, attention_factors=[1], skips=skips)
    told = Conditioning(tokens=torch.randn(2, 3, 24), mask=torch.ones(2, 3, dtype=torch.bool))
    assert network(torch.randn(2, 4, 4, 4), torch.tensor([0.1, 0.9]), told).shape == (2, 4, 4, 4)

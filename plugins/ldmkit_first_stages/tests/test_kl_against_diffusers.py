"""The same weights in diffusers' AutoencoderKL, an independent implementation, give the same numbers."""

import re

import pytest
import torch
from ldmkit_first_stages.kl import KLAutoencoder
from torch import Tensor

diffusers = pytest.importorskip("diffusers")

LEVELS = 3


def diffusers_name(key: str) -> str:
    """Name in diffusers of the parameter that CompVis calls ``key``."""
    key = re.sub(r"down\.(\d+)\.block", r"down_blocks.\1.resnets", key)
    key = re.sub(r"down\.(\d+)\.downsample", r"down_blocks.\1.downsamplers.0", key)
    key = re.sub(r"up\.(\d+)\.", lambda match: f"up_blocks.{LEVELS - 1 - int(match[1])}.", key)
    key = re.sub(r"(up_blocks\.\d+)\.block", r"\1.resnets", key)
    key = re.sub(r"(up_blocks\.\d+)\.upsample", r"\1.upsamplers.0", key)
    key = re.sub(r"mid\.block_(\d)", lambda match: f"mid_block.resnets.{int(match[1]) - 1}", key)
    key = re.sub(r"mid\.attn_1\.([qkv])\.", r"mid_block.attentions.0.to_\1.", key)
    key = key.replace("mid.attn_1.proj_out", "mid_block.attentions.0.to_out.0")
    key = key.replace("mid.attn_1.norm", "mid_block.attentions.0.group_norm")
    return key.replace("nin_shortcut", "conv_shortcut").replace("norm_out", "conv_norm_out")


def as_theirs(key: str, value: Tensor) -> Tensor:
    """Their attention has linear layers where CompVis has 1x1 convolutions."""
    return value.flatten(1) if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", key) else value


@pytest.fixture(scope="module")
def pair() -> tuple[KLAutoencoder, torch.nn.Module]:
    torch.manual_seed(0)
    config = KLAutoencoder.Config(
        name="kl",
        factor=4,
        width=64,
        multipliers=[1, 2, 2],
        patch=1,
        norm="group",
        middle="attention",
        attention_factors=[],
        encoder_blocks=2,
        decoder_blocks=3,
        z_channels=4,
        dropout=0.0,
    )
    ours = KLAutoencoder(config, channels=3)
    for parameter in ours.parameters():  # norms away from one and zero
        parameter.data += 0.02 * torch.randn_like(parameter)
    theirs = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * LEVELS,
        up_block_types=("UpDecoderBlock2D",) * LEVELS,
        block_out_channels=(64, 128, 128),
        layers_per_block=2,
        latent_channels=4,
    )
    theirs.load_state_dict({diffusers_name(key): as_theirs(key, value) for key, value in ours.state_dict().items()})
    return ours, theirs


def uniform(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("size", [(16, 16), (20, 36)])
def test_mean_and_log_variance_agree(pair: tuple[KLAutoencoder, torch.nn.Module], size: tuple[int, int]) -> None:
    ours, theirs = pair
    images = uniform(2, 3, *size)
    posterior, expected = ours.encode(images), theirs.encode(images).latent_dist
    assert relative(posterior.mean, expected.mean) < 1e-5
    assert relative(2 * posterior.std.log(), expected.logvar) < 1e-5
    assert relative(posterior.kl(), expected.kl()) < 1e-5


@pytest.mark.parametrize("size", [(4, 4), (5, 9)])
def test_decoded_images_agree(pair: tuple[KLAutoencoder, torch.nn.Module], size: tuple[int, int]) -> None:
    ours, theirs = pair
    latents = uniform(2, 4, *size)
    assert relative(ours.decode(latents), theirs.decode(latents).sample) < 1e-5


def test_gradients_of_every_parameter_agree(pair: tuple[KLAutoencoder, torch.nn.Module]) -> None:
    ours, theirs = pair
    images = uniform(2, 3, 16, 16)
    posterior, expected = ours.encode(images), theirs.encode(images).latent_dist
    (ours.decode(posterior.mean).square().mean() + posterior.kl().mean()).backward()
    (theirs.decode(expected.mean).sample.square().mean() + expected.kl().mean()).backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    # The bias of a key shifts all scores of a query alike, so its true gradient is zero; what is there is rounding.
    for key, parameter in ours.named_parameters():
        gradient, expected_gradient = as_theirs(key, parameter.grad), gradients[diffusers_name(key)]
        if key.endswith("attn_1.k.bias"):
            torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-6)
        else:
            assert relative(gradient, expected_gradient) < 1e-5, key

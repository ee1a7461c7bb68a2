"""The same weights in diffusers' AutoencoderKL and VQModel, independent implementations, give the same numbers."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from ldmkit_first_stages.kl import KLAutoencoder
from ldmkit_first_stages.vq import VQAutoencoder
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom

diffusers = pytest.importorskip("diffusers")

CODES = 64


@dataclass(frozen=True)
class Shape:
    """An autoencoder as the paper has it for one factor, narrower."""

    multipliers: tuple[int, ...]
    attention_factors: tuple[int, ...] = ()
    middle: str = "attention"

    @property
    def factor(self) -> int:
        return 2 ** (len(self.multipliers) - 1)

    def ours(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "width": 64,
            "multipliers": list(self.multipliers),
            "patch": 1,
            "norm": "group",
            "middle": self.middle,
            "attention_factors": list(self.attention_factors),
            "encoder_blocks": 2,
            "decoder_blocks": 3,
            "z_channels": 4,
            "dropout": 0.0,
        }

    def theirs(self) -> dict[str, Any]:
        attends = [2**level in self.attention_factors for level in range(len(self.multipliers))]
        return {
            "down_block_types": tuple("AttnDownEncoderBlock2D" if each else "DownEncoderBlock2D" for each in attends),
            "up_block_types": tuple("AttnUpDecoderBlock2D" if each else "UpDecoderBlock2D" for each in attends[::-1]),
            "block_out_channels": tuple(64 * multiplier for multiplier in self.multipliers),
            "layers_per_block": 2,
            "latent_channels": 4,
            "mid_block_add_attention": self.middle == "attention",
        }

    def theirs_named(self, key: str) -> str:
        """Name in diffusers of the parameter that CompVis calls ``key``."""
        last = len(self.multipliers) - 1
        key = re.sub(r"down\.(\d+)\.(block|attn|downsample)", r"down_blocks.\1.\2", key)
        key = re.sub(r"up\.(\d+)\.", lambda match: f"up_blocks.{last - int(match[1])}.", key)
        key = re.sub(r"mid\.block_(\d)", lambda match: f"mid_block.resnets.{int(match[1]) - 1}", key)
        key = key.replace("mid.attn_1.", "mid_block.attn.0.")
        key = key.replace(".downsample.", ".downsamplers.0.").replace(".upsample.", ".upsamplers.0.")
        key = re.sub(r"attn\.(\d+)\.([qkv])\.", r"attentions.\1.to_\2.", key)
        key = re.sub(r"attn\.(\d+)\.proj_out", r"attentions.\1.to_out.0", key)
        key = re.sub(r"attn\.(\d+)\.norm", r"attentions.\1.group_norm", key)
        key = re.sub(r"(_blocks\.\d+)\.block", r"\1.resnets", key)
        return key.replace("nin_shortcut", "conv_shortcut").replace("norm_out", "conv_norm_out")


SHAPES = {
    "kl-f4": Shape((1, 2, 4)),
    "kl-f8": Shape((1, 2, 4, 4)),
    "kl-f16": Shape((1, 1, 2, 2, 4), (16,)),
    "kl-f32": Shape((1, 1, 2, 2, 4, 4), (16, 32)),
    "vq-f4": Shape((1, 2, 4)),
    "vq-f4-noattn": Shape((1, 2, 4), middle="residual"),
    "vq-f8": Shape((1, 2, 2, 4), (8,)),
    "vq-f16": Shape((1, 1, 2, 2, 4), (16,)),
}
KL = [name for name in SHAPES if name.startswith("kl")]
VQ = [name for name in SHAPES if name.startswith("vq")]


def as_theirs(key: str, value: Tensor) -> Tensor:
    """Their attention has linear layers where CompVis has 1x1 convolutions."""
    return value.flatten(1) if re.search(r"attn[._]\d\.(q|k|v|proj_out)\.weight", key) else value


def moved(model: nn.Module) -> nn.Module:
    """Weights away from where they begin: norms from one and zero, codes from each other."""
    for name, parameter in model.named_parameters():
        parameter.data += (0.5 if "embedding" in name else 0.02) * torch.randn_like(parameter)
    return model


@cache
def pair(name: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Ours and theirs, with the same weights."""
    shape = SHAPES[name]
    torch.manual_seed(0)
    if name in KL:
        ours = moved(KLAutoencoder(KLAutoencoder.Config(name="kl", **shape.ours()), channels=3))
        theirs = diffusers.AutoencoderKL(**shape.theirs())
    else:
        quantiser: dict[str, Any] = {"quantiser": "vq", "codes": CODES, "commitment": 0.25, "placing": "legacy"}
        others = {"revive_after": 0, "codebooks": 1, "levels": [3], "entropy_weight": 0.0}
        config = VQAutoencoder.Config(name="vq", **shape.ours() | quantiser | others)
        ours = moved(VQAutoencoder(config, channels=3))
        theirs = diffusers.VQModel(**shape.theirs(), num_vq_embeddings=CODES)
    weights = {shape.theirs_named(key): as_theirs(key, value) for key, value in ours.state_dict().items()}
    theirs.load_state_dict(weights)
    return ours.to(dtype), theirs.to(dtype)


def without_gradients(*models: Any) -> tuple[Any, ...]:
    """The models, with no gradient left from another test."""
    for model in models:
        model.zero_grad()
    return models


def pictures(name: str, *grid: int) -> Tensor:
    """Two pictures with a latent grid of ``grid``."""
    factor = SHAPES[name].factor
    return uniform(2, 3, *(side * factor for side in grid))


def uniform(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def assert_gradients_agree(name: str, ours: nn.Module, theirs: nn.Module) -> None:
    """In fp32 all together within 1e-5; in fp64, where rounding no longer blurs the deepest layers, each alone."""
    gradients = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    pairs = {
        key: (as_theirs(key, parameter.grad).flatten(), gradients[SHAPES[name].theirs_named(key)].flatten())
        for key, parameter in ours.named_parameters()
    }
    assert len(pairs) == len(gradients)
    together = [torch.cat(side) for side in zip(*pairs.values(), strict=True)]
    if together[0].dtype == torch.float32:
        assert relative(*together) < 1e-5
        return
    for key, (gradient, expected) in pairs.items():
        # The bias of a key shifts all scores of a query alike, so its true gradient is zero; what is there is rounding.
        if key.endswith(".k.bias"):
            torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-14)
        else:
            assert relative(gradient, expected) < 1e-9, key


@pytest.mark.parametrize("name", KL)
@pytest.mark.parametrize("grid", [(2, 2), (1, 3)])
def test_mean_and_log_variance_agree(name: str, grid: tuple[int, int]) -> None:
    ours, theirs = pair(name)
    images = pictures(name, *grid)
    posterior, expected = ours.encode(images), theirs.encode(images).latent_dist
    assert relative(posterior.mean, expected.mean) < 1e-5
    assert relative(2 * posterior.std.log(), expected.logvar) < 1e-5
    assert relative(posterior.kl(), expected.kl()) < 1e-5


@pytest.mark.parametrize("name", KL)
@pytest.mark.parametrize("grid", [(2, 2), (1, 3)])
def test_decoded_images_agree(name: str, grid: tuple[int, int]) -> None:
    ours, theirs = pair(name)
    latents = uniform(2, 4, *grid)
    assert relative(ours.decode(latents), theirs.decode(latents).sample) < 1e-5


@pytest.mark.parametrize("name", KL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_every_parameter_agree(name: str, dtype: torch.dtype) -> None:
    ours, theirs = without_gradients(*pair(name, dtype))
    images = pictures(name, *((2, 2) if dtype == torch.float32 else (1, 2))).to(dtype)
    posterior, expected = ours.encode(images), theirs.encode(images).latent_dist
    (ours.decode(posterior.mean).square().mean() + posterior.kl().mean()).backward()
    (theirs.decode(expected.mean).sample.square().mean() + expected.kl().mean()).backward()
    assert_gradients_agree(name, ours, theirs)


@pytest.mark.parametrize("name", VQ)
@pytest.mark.parametrize("grid", [(4, 4), (2, 5)])
def test_latents_codes_and_decoded_images_of_a_codebook_agree(name: str, grid: tuple[int, int]) -> None:
    ours, theirs = pair(name)
    images = pictures(name, *grid)
    latents, expected = ours.encode(images).mean, theirs.encode(images).latents
    assert relative(latents, expected) < 1e-5
    vectors, _, (_, _, codes) = theirs.quantize(expected)
    assert torch.equal(ours.quantize.codes(latents).flatten(), codes)
    assert len(codes.unique()) >= 4  # else the rest would show little
    torch.testing.assert_close(ours.quantize(latents), vectors)
    assert relative(ours.decode(latents), theirs.decode(expected).sample) < 1e-5


@pytest.mark.parametrize("name", VQ)
@pytest.mark.parametrize("placing", ["commitment", "legacy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_penalty_and_gradients_of_a_codebook_agree(name: str, placing: str, dtype: torch.dtype) -> None:
    ours, theirs = without_gradients(*pair(name, dtype))
    ours.quantize.placing, theirs.quantize.legacy = placing, placing == "legacy"
    images = pictures(name, *((4, 4) if dtype == torch.float32 else (2, 2))).to(dtype)
    made = ours.reconstruct(images, RowRandom.of(0, "test", 0, range(2)))
    expected = theirs.decode(theirs.encode(images).latents)
    assert relative(made.penalty, expected.commit_loss) < 1e-5
    (made.images.square().mean() + made.penalty).backward()
    (expected.sample.square().mean() + expected.commit_loss).backward()
    assert_gradients_agree(name, ours, theirs)

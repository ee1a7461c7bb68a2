"""A config reaches each published network: the same names and shapes of parameters, hence the same number."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ldmkit_denoisers.unet import UNet
from torch import nn

from ldmkit.registry.composing import Composer
from ldmkit.registry.schema import typed
from ldmkit.specs import CondSpec, LatentSpec

diffusers = pytest.importorskip("diffusers")

MANIFESTS = Path(__file__).parent / "manifests"

# Name of the experiment: number of parameters, latent channels, conditioning. Numbers computed from the released files.
PUBLISHED = {
    "bsr_sr": (113_622_563, 3, CondSpec(map=3)),
    "celeba256_ffhq256_lsun_beds256": (274_056_163, 3, CondSpec()),
    "cin256-v2-vq-f4": (400_920_579, 3, CondSpec(tokens=512)),
    "cin256-vq-f8": (394_984_196, 4, CondSpec(tokens=512)),
    "inpainting_big": (387_245_827, 3, CondSpec(map=4)),
    "layout2img-openimages256": (246_277_379, 3, CondSpec(tokens=512)),
    "lsun_churches256": (294_966_916, 4, CondSpec()),
    "rdm768": (1_335_480_400, 16, CondSpec(tokens=768)),
    "sd-v1": (859_520_964, 4, CondSpec(tokens=768)),
    "semantic_synthesis256_512": (215_229_315, 3, CondSpec(map=3)),
    "text2img256-vq-f4": (403_623_939, 3, CondSpec(tokens=640)),
    "txt2img-1p4B-kl-f8": (872_300_484, 4, CondSpec(tokens=1280)),
}
SD_2: dict[str, Any] = {"heads": None, "head_channels": 64, "projection": "linear"}
SDXL: dict[str, Any] = {**SD_2, "multipliers": [1, 2, 4], "attention_factors": [2, 4], "transformer_depth": [1, 2, 10]}


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer()


def build(composer: Composer, overrides: list[str], latent: int, cond: CondSpec, **changes: Any) -> UNet:
    """The UNet of a run, on no device: shapes without numbers."""
    node = {**composer.compose(["scale=paper", "cond=[]", *overrides])["denoiser"], **changes}
    with torch.device("meta"):
        return UNet(typed(UNet.Config, node, "denoiser"), latent=LatentSpec(channels=latent, factor=8), cond=cond)


def shapes(network: nn.Module) -> dict[str, str]:
    return {key: "x".join(map(str, value.shape)) for key, value in network.state_dict().items()}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def manifest(name: str) -> dict[str, str]:
    rows = (line.split("\t") for line in (MANIFESTS / f"unet-{name}.tsv").read_text().splitlines())
    return dict(rows)  # type: ignore[arg-type]


def test_every_manifest_is_covered() -> None:
    assert {path.stem.removeprefix("unet-") for path in MANIFESTS.glob("*.tsv")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_experiments_parameters_have_the_names_and_shapes_of_the_checkpoint(name: str, composer: Composer) -> None:
    count, latent, cond = PUBLISHED[name]
    network = build(composer, [f"+experiment=paper/{name}"], latent, cond)
    assert shapes(network) == manifest(name)
    assert parameters(network) == count


def test_text_to_image_is_what_the_paper_scale_gives(composer: Composer) -> None:
    assert shapes(build(composer, [], 4, CondSpec(tokens=1280))) == manifest("txt2img-1p4B-kl-f8")


@pytest.mark.parametrize(
    ("changes", "cond", "theirs"),
    [
        (SD_2, CondSpec(tokens=1024), {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20)}),
        (
            SDXL,
            CondSpec(tokens=2048, vector=2816),
            {
                "cross_attention_dim": 2048,
                "attention_head_dim": (5, 10, 20),
                "block_out_channels": (320, 640, 1280),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "transformer_layers_per_block": (1, 2, 10),
                "class_embed_type": "projection",
                "projection_class_embeddings_input_dim": 2816,
            },
        ),
    ],
    ids=["sd-v2", "sdxl"],
)
def test_later_stable_diffusions_have_the_shapes_that_diffusers_has(
    changes: dict[str, Any], cond: CondSpec, theirs: dict[str, Any], composer: Composer
) -> None:
    ours = build(composer, [], 4, cond, **changes)
    with torch.device("meta"):
        reference = diffusers.UNet2DConditionModel(use_linear_projection=True, **theirs)
    assert sorted(shapes(ours).values()) == sorted(shapes(reference).values())
    assert parameters(ours) == {1024: 865_910_724, 2048: 2_567_463_684}[cond.tokens]

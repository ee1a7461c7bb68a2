"""A config reaches each published network: the same names and shapes of parameters, hence the same number."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ldmkit_denoisers.unet import UNet

from ldmkit.specs import CondSpec, LatentSpec

MANIFESTS = Path(__file__).parent / "manifests"
HEADS_8 = {"heads": 8, "head_channels": None}
HEAD_CHANNELS_32 = {"heads": None, "head_channels": 32}


@dataclass(frozen=True)
class Published:
    """A published network: its latent channels, conditioning, config, and number of parameters."""

    parameters: int
    latent: int
    config: dict[str, Any]
    cond: CondSpec = field(default_factory=CondSpec)


def numbers(channels: int, multipliers: list[int], factors: list[int], heads: dict[str, Any], **rest: Any) -> Any:
    return {"channels": channels, "multipliers": multipliers, "attention_factors": factors, **heads, **rest}


PUBLISHED = {
    "sd-v1": Published(859_520_964, 4, numbers(320, [1, 2, 4, 4], [4, 2, 1], HEADS_8), CondSpec(tokens=768)),
    "txt2img-1p4B-kl-f8": Published(
        872_300_484, 4, numbers(320, [1, 2, 4, 4], [4, 2, 1], HEADS_8), CondSpec(tokens=1280)
    ),
    "celeba256_ffhq256_lsun_beds256": Published(
        274_056_163, 3, numbers(224, [1, 2, 3, 4], [8, 4, 2], HEAD_CHANNELS_32)
    ),
    "lsun_churches256": Published(
        294_966_916,
        4,
        numbers(192, [1, 2, 2, 4, 4], [1, 2, 4, 8], HEADS_8, scale_shift=True, resample="block"),
    ),
    "cin256-vq-f8": Published(
        394_984_196, 4, numbers(256, [1, 2, 4], [4, 2, 1], HEAD_CHANNELS_32), CondSpec(tokens=512)
    ),
    "cin256-v2-vq-f4": Published(
        400_920_579,
        3,
        numbers(192, [1, 2, 3, 5], [8, 4, 2], {"heads": 1, "head_channels": None}),
        CondSpec(tokens=512),
    ),
    "text2img256-vq-f4": Published(
        403_623_939, 3, numbers(192, [1, 2, 3, 5], [8, 4, 2], HEAD_CHANNELS_32), CondSpec(tokens=640)
    ),
    "layout2img-openimages256": Published(
        246_277_379,
        3,
        numbers(128, [1, 2, 3, 4], [8, 4, 2], HEAD_CHANNELS_32, transformer_depth=3),
        CondSpec(tokens=512),
    ),
    # The released config names the factors 32, 16 and 8, none of which this network has.
    "semantic_synthesis256_512": Published(215_229_315, 3, numbers(128, [1, 4, 8], [], HEADS_8), CondSpec(map=3)),
    "bsr_sr": Published(113_622_563, 3, numbers(160, [1, 2, 2, 4], [8], HEAD_CHANNELS_32), CondSpec(map=3)),
    "inpainting_big": Published(
        387_245_827, 3, numbers(256, [1, 2, 3, 4], [8, 4, 2], HEADS_8, resample="block"), CondSpec(map=4)
    ),
    "rdm768": Published(
        1_335_480_400, 16, numbers(448, [1, 2, 3, 4], [4, 2, 1], HEAD_CHANNELS_32), CondSpec(tokens=768)
    ),
}


def manifest(name: str) -> dict[str, str]:
    rows = (line.split("\t") for line in (MANIFESTS / f"unet-{name}.tsv").read_text().splitlines())
    return dict(rows)  # type: ignore[arg-type]


def test_every_manifest_is_covered() -> None:
    assert {path.stem.removeprefix("unet-") for path in MANIFESTS.glob("*.tsv")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_have_the_names_and_shapes_of_the_checkpoint(name: str, config: UNet.Config) -> None:
    published = PUBLISHED[name]
    changes = {"res_blocks": 2, "feed_forward_multiple": 4, "attention_without_tokens": "plain", **published.config}
    with torch.device("meta"):
        latent = LatentSpec(channels=published.latent, factor=8)
        network = UNet(replace(config, **changes), latent=latent, cond=published.cond)
    shapes = {key: "x".join(map(str, value.shape)) for key, value in network.state_dict().items()}
    assert shapes == manifest(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == published.parameters

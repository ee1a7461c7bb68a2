"""The option files at every scale; with scale=paper they are the published networks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ldmkit_first_stages.kl import KLAutoencoder
from ldmkit_first_stages.vq import VQAutoencoder

from ldmkit.registry.composing import Composer
from ldmkit.registry.schema import typed

MANIFESTS = Path(__file__).parent / "manifests"
SCALES = ("smoke", "demo", "base", "paper")

# Numbers of parameters without the losses, computed from the released configurations.
PUBLISHED = {
    "kl-f4": 55_312_063,
    "kl-f8": 83_653_863,
    "kl-f16": 69_610_963,
    "kl-f32": 103_880_131,
    "vq-f4": 55_322_782,
    "vq-f4-noattn": 53_219_486,
    "vq-f8": 67_717_295,
    "vq-f8-n256": 67_652_783,
    "vq-f16": 69_593_371,
}
FACTORS = {**{name: int(name.split("-")[1][1:]) for name in PUBLISHED}, "kl-f2": 2}


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    return Composer()


def build(composer: Composer, option: str, scale: str, channels: int = 3) -> KLAutoencoder | VQAutoencoder:
    """Build on no device: shapes without numbers."""
    node: dict[str, Any] = composer.compose([f"scale={scale}", f"model={option}"])["model"]
    part = {"kl": KLAutoencoder, "vq": VQAutoencoder}[node["name"]]
    with torch.device("meta"):
        return part(typed(part.Config, node, "model"), channels=channels)


@pytest.mark.parametrize("option", PUBLISHED)
def test_the_paper_scale_has_the_keys_shapes_and_count_of_the_published_network(
    option: str, composer: Composer
) -> None:
    model = build(composer, option, "paper")
    lines = (MANIFESTS / f"first_stage-{option}.tsv").read_text().splitlines()
    published = dict(line.split("\t") for line in lines)
    ours = {key: "x".join(map(str, value.shape)) for key, value in model.state_dict().items()}
    assert ours == published
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[option]


def test_kl_f2_at_the_paper_scale_has_two_levels_and_two_channels(composer: Composer) -> None:
    model = build(composer, "kl-f2", "paper")
    assert (model.spec.factor, model.spec.channels) == (2, 2)  # table 8: f = 2, c = 2
    assert [level.block[0].conv2.weight.shape[0] for level in model.encoder.down] == [128, 256]


@pytest.mark.parametrize("option", FACTORS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("channels", [1, 4])
def test_every_option_maps_images_with_any_channels_to_its_grid_and_back_at_every_scale(
    option: str, scale: str, channels: int, composer: Composer
) -> None:
    model = build(composer, option, scale, channels)
    factor = FACTORS[option]
    assert model.spec.factor == factor
    posterior = model.encode(torch.empty(2, channels, 2 * factor, 3 * factor, device="meta"))
    assert posterior.mean.shape == posterior.std.shape == (2, model.spec.channels, 2, 3)
    assert model.decode(posterior.mean).shape == (2, channels, 2 * factor, 3 * factor)
    assert model.last_layer.shape[0] == channels * model.decoder.patch**2
    assert any(model.last_layer is parameter for parameter in model.decoder.parameters())

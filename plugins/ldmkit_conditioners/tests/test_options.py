"""The option files have the keys of the classes they configure, and the classes can be built from them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import ldmkit_conditioners
import pytest
from ldmkit_conditioners.class_label import ClassLabel
from ldmkit_conditioners.image import Image
from ldmkit_conditioners.inpaint import Inpaint
from ldmkit_conditioners.layout import Layout
from ldmkit_conditioners.low_res import LowRes
from ldmkit_conditioners.scalar import Scalar
from ldmkit_conditioners.semantic import Semantic
from ldmkit_conditioners.size import Size
from ldmkit_conditioners.text import Text
from omegaconf import OmegaConf

from ldmkit.diffusion.latent_space import LatentSpace
from ldmkit.registry.schema import typed
from ldmkit.specs import DataSpec, FieldSpec
from ldmkit.testing.fields import Averages

OPTIONS = Path(ldmkit_conditioners.__file__).parent / "conf" / "cond"
PARTS: dict[str, Any] = {
    "class": ClassLabel, "image": Image, "inpaint": Inpaint, "layout": Layout, "low-res": LowRes, "scalar": Scalar,
    "semantic": Semantic, "size": Size, "text": Text,
}  # fmt: skip
SCALE = {
    "text": {
        "vocabulary": 64, "length": 8, "width": 16, "depth": 1, "heads": 2, "head_channels": 8, "vector": True
    },
    "layout": {
        "vocabulary": 64, "length": 8, "width": 16, "depth": 1, "heads": 2, "head_channels": 8, "vector": True
    },
    "cond": {"class_width": 16, "semantic_channels": 2, "scalar_width": 16, "size_features": 4},
}  # fmt: skip
DATA = DataSpec(
    size=64,
    channels=3,
    fields={
        "caption": FieldSpec(kind="text"),
        "class": FieldSpec(kind="label", names=("cat", "dog")),
        "semantic": FieldSpec(kind="map", names=("sky", "sea")),
        "boxes": FieldSpec(kind="boxes", names=("cat", "dog")),
        **{
            name: FieldSpec(kind="scalar")
            for name in ("radius", "original_height", "original_width", "crop_top", "crop_left")
        },
    },
)


def option(name: str) -> dict[str, Any]:
    node = OmegaConf.create({"scale": SCALE, "cond": {name: OmegaConf.load(OPTIONS / f"{name}.yaml")}})
    resolved: Any = OmegaConf.to_container(node, resolve=True)
    return dict(resolved["cond"][name])


def test_every_component_has_an_option_file_and_every_option_file_a_component() -> None:
    names = {component.name for component in ldmkit_conditioners.components()}
    assert names == set(PARTS) == {path.stem for path in OPTIONS.glob("*.yaml")}


@pytest.mark.parametrize("name", PARTS)
def test_an_option_file_stays_in_a_place_of_its_own(name: str) -> None:
    assert (OPTIONS / f"{name}.yaml").read_text().startswith(f"# @package cond.{name}\n")


@pytest.mark.parametrize("name", PARTS)
def test_an_option_file_has_the_keys_of_its_config_in_their_order_and_builds_it(name: str) -> None:
    config = PARTS[name].Config
    assert list(option(name)) == [field.name for field in fields(config)]
    latents = {"latents": LatentSpace(Averages())} if PARTS[name].in_latents else {}
    part = PARTS[name](typed(config, option(name), f"cond.{name}"), data=DATA, **latents)
    assert part.dropout == 0.1
    there = {**DATA.fields, **part.observed}
    assert set(part.needs.items()) <= {(field, spec.kind) for field, spec in there.items()}

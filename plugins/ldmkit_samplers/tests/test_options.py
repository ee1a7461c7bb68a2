"""The option files have the keys of the classes they configure, and the classes can be built from them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import ldmkit_samplers
import pytest
from ldmkit_samplers.ddim import DDIM
from ldmkit_samplers.dpmpp_2m import DPMpp2M
from omegaconf import OmegaConf

from ldmkit.registry.schema import typed

CONF = Path(ldmkit_samplers.__file__).parent / "conf"
PARTS: dict[tuple[str, str], Any] = {
    ("sampler", "ddim"): DDIM,
    ("sampler", "dpmpp-2m"): DPMpp2M,
}


def test_every_component_has_an_option_file_and_every_option_file_a_component() -> None:
    components = {(component.kind, component.name) for component in ldmkit_samplers.components()}
    assert components == set(PARTS) == {(path.parent.name, path.stem) for path in CONF.glob("*/*.yaml")}


@pytest.mark.parametrize("part", PARTS, ids="=".join)
def test_an_option_file_has_the_keys_of_its_config_in_their_order_and_builds_it(part: tuple[str, str]) -> None:
    kind, name = part
    option: Any = OmegaConf.to_container(OmegaConf.load(CONF / kind / f"{name}.yaml"))
    config = PARTS[part].Config
    assert list(option) == [field.name for field in fields(config)]
    assert isinstance(PARTS[part](typed(config, option, kind)), PARTS[part])

"""The option files have the keys of the classes they configure, and the classes can be built from them."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import ldmkit_objectives
import pytest
from ldmkit_objectives.edm import EDM
from ldmkit_objectives.eps import Eps
from ldmkit_objectives.flow import Flow
from ldmkit_objectives.v import V
from ldmkit_objectives.x0 import X0
from omegaconf import OmegaConf

from ldmkit.registry.schema import typed

OPTIONS = Path(ldmkit_objectives.__file__).parent / "conf" / "objective"
PARTS: dict[str, Any] = {"edm": EDM, "eps": Eps, "flow": Flow, "v": V, "x0": X0}
TIMES = {"distribution": "logit-normal", "mean": 0.5, "std": 1.0}


def keys(config: Any) -> dict[str, Any]:
    hints = get_type_hints(config)
    return {f.name: keys(hints[f.name]) if is_dataclass(hints[f.name]) else None for f in fields(config)}


def keys_of_yaml(node: Any) -> Any:
    return {key: keys_of_yaml(value) for key, value in node.items()} if isinstance(node, dict) else None


def test_every_component_has_an_option_file_and_every_option_file_a_component() -> None:
    names = {component.name for component in ldmkit_objectives.components()}
    assert names == set(PARTS) == {path.stem for path in OPTIONS.glob("*.yaml")}


@pytest.mark.parametrize("name", PARTS)
def test_an_option_file_has_the_keys_of_its_config_in_their_order(name: str) -> None:
    option: Any = OmegaConf.to_container(OmegaConf.load(OPTIONS / f"{name}.yaml"))
    expected = keys(PARTS[name].Config)
    assert keys_of_yaml(option) == expected
    assert list(option) == list(expected)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_built_from_its_option_file(name: str) -> None:
    node = OmegaConf.create({"scale": {"times": TIMES}, "objective": OmegaConf.load(OPTIONS / f"{name}.yaml")})
    resolved: Any = OmegaConf.to_container(node, resolve=True)
    option = resolved["objective"]
    part = PARTS[name](typed(PARTS[name].Config, option, "objective"))
    assert len(part.levels(3)) == 4

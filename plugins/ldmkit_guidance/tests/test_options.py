"""The option files have the keys of the classes they configure, and the classes can be built from them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import ldmkit_guidance
import pytest
from ldmkit_guidance.autoguidance import Autoguidance
from ldmkit_guidance.cfg import CFG
from ldmkit_guidance.cfg_zero_star import CFGZeroStar
from ldmkit_guidance.pag import PAG
from ldmkit_guidance.unguided import Unguided
from omegaconf import OmegaConf

from ldmkit.registry.schema import typed

CONF = Path(ldmkit_guidance.__file__).parent / "conf" / "guidance"
PARTS: dict[str, Any] = {
    "autoguidance": Autoguidance,
    "cfg": CFG,
    "cfg-zero-star": CFGZeroStar,
    "none": Unguided,
    "pag": PAG,
}


def test_every_component_has_an_option_file_and_every_option_file_a_component() -> None:
    components = {component.name for component in ldmkit_guidance.components()}
    assert components == set(PARTS) == {path.stem for path in CONF.glob("*.yaml")}


@pytest.mark.parametrize("name", PARTS)
def test_an_option_file_has_the_keys_of_its_config_in_their_order_and_builds_it(name: str) -> None:
    option: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    config = PARTS[name].Config
    assert list(option) == [field.name for field in fields(config)]
    assert isinstance(PARTS[name](typed(config, option, "guidance")), PARTS[name])

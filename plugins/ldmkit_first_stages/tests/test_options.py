"""The option files beside the parts: their keys are those of the parts' configs, in the same order, commented."""

from dataclasses import fields
from importlib import import_module
from pathlib import Path

import ldmkit_first_stages
import pytest
import yaml

CONF = Path(ldmkit_first_stages.__file__).parent / "conf"
OPTIONS = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml"))
COMPONENTS = {(each.kind, each.name): each for each in ldmkit_first_stages.components()}


def test_the_options_of_the_main_job_are_there() -> None:
    assert OPTIONS == [
        "loss/kl.yaml",
        "loss/l1-kl.yaml",
        "loss/vq.yaml",
        "model/identity.yaml",
        "model/kl-f4.yaml",
        "model/kl-f8.yaml",
    ]


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_has_the_keys_of_its_config_in_order(option: str) -> None:
    path = CONF / option
    keys = yaml.safe_load(path.read_text())
    module, name = COMPONENTS[path.parent.name, keys["name"]].target.split(":")
    config = getattr(import_module(module), name).Config
    assert list(keys) == [field.name for field in fields(config)]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_key_but_the_name_has_a_comment(option: str) -> None:
    lines = (CONF / option).read_text().splitlines()
    assert lines[0].startswith("# ")
    assert all(" # " in line for line in lines[2:])


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.startswith("model/kl-f")])
def test_the_number_in_the_name_of_an_option_is_its_factor(option: str) -> None:
    keys = yaml.safe_load((CONF / option).read_text())
    assert Path(option).stem == f"kl-f{keys['factor']}"
    assert keys["z_channels"] == f"${{scale.first_stage.z_channels.f{keys['factor']}}}"

"""The option files beside the parts: their keys are those of the parts' configs, in the same order, commented."""

from dataclasses import fields
from importlib import import_module
from pathlib import Path

import ldmkit_first_stages
import pytest
import yaml

CONF = Path(ldmkit_first_stages.__file__).parent / "conf"
OPTIONS = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml"))
MODELS = [Path(option).stem for option in OPTIONS if option.startswith("model/")]
COMPONENTS = {(each.kind, each.name): each for each in ldmkit_first_stages.components()}


def test_the_first_stages_of_the_paper_are_there() -> None:
    kl = ["kl-f16", "kl-f2", "kl-f32", "kl-f4", "kl-f8"]
    vq = ["vq-f16", "vq-f4", "vq-f4-noattn", "vq-f8", "vq-f8-n256"]
    assert sorted(["identity", *kl, *vq]) == sorted(MODELS)


def test_the_losses_are_there() -> None:
    assert [option for option in OPTIONS if option.startswith("loss/")] == [
        "loss/kl.yaml",
        "loss/l1-kl.yaml",
        "loss/vq.yaml",
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
    keys = [line for line in lines if not line.startswith(("#", "name:"))]
    assert all(" # " in line for line in keys)


@pytest.mark.parametrize("option", [option for option in MODELS if option != "identity"])
def test_the_name_of_an_option_says_its_part_and_its_factor(option: str) -> None:
    keys = yaml.safe_load((CONF / "model" / f"{option}.yaml").read_text())
    assert option.split("-")[:2] == [keys["name"], f"f{keys['factor']}"]
    for key in ("patch", "z_channels"):
        assert keys[key].endswith(f"{key}.f{keys['factor']}}}")

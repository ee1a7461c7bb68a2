"""The option files have the keys of the classes they configure, and the classes can be built from them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import ldmkit_samplers
import pytest
from ldmkit_samplers.ddim import DDIM
from ldmkit_samplers.ddpm import DDPM
from ldmkit_samplers.deis import DEIS
from ldmkit_samplers.dpmpp_2m import DPMpp2M
from ldmkit_samplers.dpmpp_2s import DPMpp2S
from ldmkit_samplers.dpmpp_3m import DPMpp3M
from ldmkit_samplers.dpmpp_sde import DPMppSDE
from ldmkit_samplers.heun import Heun
from ldmkit_samplers.ode import ODE
from ldmkit_samplers.plms import PLMS
from ldmkit_samplers.unipc import UniPC
from omegaconf import OmegaConf

from ldmkit.registry.schema import typed

CONF = Path(ldmkit_samplers.__file__).parent / "conf"
PARTS: dict[tuple[str, str], Any] = {
    ("sampler", "ddim"): DDIM,
    ("sampler", "ddpm"): DDPM,
    ("sampler", "deis"): DEIS,
    ("sampler", "dpmpp-2m"): DPMpp2M,
    ("sampler", "dpmpp-2s"): DPMpp2S,
    ("sampler", "dpmpp-3m"): DPMpp3M,
    ("sampler", "dpmpp-sde"): DPMppSDE,
    ("sampler", "euler"): DDIM,
    ("sampler", "euler-a"): DDIM,
    ("sampler", "heun"): Heun,
    ("sampler", "ode"): ODE,
    ("sampler", "plms"): PLMS,
    ("sampler", "unipc"): UniPC,
}


def test_every_component_has_an_option_file_and_every_option_file_a_component() -> None:
    files = {(path.parent.name, path.stem): OmegaConf.load(path)["name"] for path in CONF.glob("*/*.yaml")}
    assert set(files) == set(PARTS)
    components = {(component.kind, component.name) for component in ldmkit_samplers.components()}
    assert components == {(kind, name) for (kind, _), name in files.items()}


@pytest.mark.parametrize("part", PARTS, ids="=".join)
def test_an_option_file_has_the_keys_of_its_config_in_their_order_and_builds_it(part: tuple[str, str]) -> None:
    kind, name = part
    option: Any = OmegaConf.to_container(OmegaConf.load(CONF / kind / f"{name}.yaml"))
    config = PARTS[part].Config
    assert list(option) == [field.name for field in fields(config)]
    assert isinstance(PARTS[part](typed(config, option, kind)), PARTS[part])

"""Which keys of a config sampling alone reads."""

from __future__ import annotations

from typing import Any

import pytest

import ldmkit
from ldmkit.errors import ConfigError
from ldmkit.registry.sampling_keys import trained, with_settings


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return ldmkit.compose(["scale=smoke", "cond=[text,low-res]"])


def test_training_does_not_depend_on_them(config: dict[str, Any]) -> None:
    node = config["cond"]["low-res"]
    assert node.keys() - trained("cond", node).keys() == {"sampling_noise"}
    assert trained("cond", config["cond"]["text"]) == config["cond"]["text"]


def test_other_values_are_put_in_their_place_and_the_config_stays_as_it_is(config: dict[str, Any]) -> None:
    changed = with_settings(config, {"guidance.scale": 7.0, "cond.low-res.sampling_noise": 0.2})
    assert changed["guidance"] == {**config["guidance"], "scale": 7.0}
    assert changed["cond"]["low-res"]["sampling_noise"] == 0.2
    assert config["guidance"]["scale"] != 7.0


@pytest.mark.parametrize("path", ["cond.low-res.noise", "sampler.name", "denoiser.dropout", "sampler", "guidance.scal"])
def test_any_other_key_is_refused_and_the_nearest_named(config: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError, match=f"^{path} is no key of this run that sampling reads.*There is: cond.low-res"):
        with_settings(config, {path: 1})

"""A node of a config is checked key by key, and what is wrong is said in one line that names the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from ldmkit.errors import ConfigError, LdmkitError
from ldmkit.registry.schema import type_text, typed


class Part:
    @dataclass(frozen=True, kw_only=True)
    class Form:
        tokens: int
        vector: int

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        width: int
        rate: float
        norm: Literal["group", "layer"] | None
        levels: list[int]
        betas: tuple[float, float]
        sizes: dict[str, int]
        form: Form  # noqa: F821 - a class around it has the name
        forms: list[Form]  # noqa: F821
        steps: int | Literal["auto"]
        path: Path | None
        on: bool
        anything: Any
        names: Sequence[str]
        table: Mapping[str, list[float]]


GOOD: dict[str, Any] = {
    "name": "text",
    "width": 64,
    "rate": 1,
    "norm": "group",
    "levels": [1, 2],
    "betas": [0.9, 0.99],
    "sizes": {"f8": 4},
    "form": {"tokens": 1, "vector": 0},
    "forms": [{"tokens": 1, "vector": 0}],
    "steps": "auto",
    "path": "a/b",
    "on": True,
    "anything": {"a": [1]},
    "names": ["a"],
    "table": {"a": [1, 2.5]},
}


def test_a_good_node_becomes_a_frozen_instance() -> None:
    config = typed(Part.Config, GOOD, "cond.text")
    assert config.form == Part.Form(tokens=1, vector=0)
    assert config.forms == [Part.Form(tokens=1, vector=0)]
    assert config.betas == (0.9, 0.99)
    assert config.path == Path("a/b")
    assert type(config.rate) is float
    assert config.table == {"a": [1.0, 2.5]}
    with pytest.raises(FrozenInstanceError):
        config.width = 3  # type: ignore[misc]


def test_every_alternative_of_a_union_is_taken() -> None:
    config = typed(Part.Config, {**GOOD, "steps": 3, "norm": None, "path": None}, "cond.text")
    assert (config.steps, config.norm, config.path) == (3, None, None)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"widht": 3}, "cond 'text' has no key 'widht'; did you mean 'width'? There is: anything, "),
    ({"_target_": "os.system"}, "cond 'text' has no key '_target_'"),
    ({"width": "wide"}, "cond.text.width: 'wide' is not an int"),
    ({"width": 64.0}, "cond.text.width: 64.0 is not an int"),
    ({"width": True}, "cond.text.width: true is not an int"),
    ({"width": None}, "cond.text.width: null is not an int"),
    ({"on": 1}, "cond.text.on: 1 is not true or false"),
    ({"rate": "1"}, "cond.text.rate: '1' is not a float"),
    ({"rate": True}, "cond.text.rate: true is not a float"),
    ({"rate": float("nan")}, "cond.text.rate: nan is not a float"),
    ({"name": 3}, "cond.text.name: 3 is not a string"),
    ({"norm": "grup"}, "cond.text.norm: 'grup' is not 'group' or 'layer' or null; did you mean 'group'?"),
    ({"steps": "atuo"}, "cond.text.steps: 'atuo' is not an int or 'auto'; did you mean 'auto'?"),
    ({"levels": 3}, "cond.text.levels: 3 is not a list of int"),
    ({"levels": [1, "2"]}, "cond.text.levels[1]: '2' is not an int"),
    ({"betas": [0.9]}, "cond.text.betas: [0.9] has 1 elements; it must have 2"),
    ({"betas": [0.9, "x"]}, "cond.text.betas[1]: 'x' is not a float"),
    ({"sizes": [1]}, "cond.text.sizes: [1] is not a mapping"),
    ({"sizes": {"f8": "x"}}, "cond.text.sizes.f8: 'x' is not an int"),
    ({"sizes": {8: 4}}, "cond.text.sizes (a key): 8 is not a string"),
    ({"form": 3}, "cond.text.form: 3 is not a mapping with the keys tokens, vector"),
    ({"form": {"tokens": 1, "vectr": 1}}, "cond.text.form has no key 'vectr'; did you mean 'vector'?"),
    ({"form": {"tokens": 1}}, "cond.text.form lacks the key vector"),
    ({"form": {}}, "cond.text.form lacks the keys tokens, vector"),
    ({"forms": [{"tokens": 1, "vector": "x"}]}, "cond.text.forms[0].vector: 'x' is not an int"),
    ({"name": "${oc.env:HOME}"}, "cond.text.name: '${oc.env:HOME}' holds an interpolation"),
    ({"anything": "${oc.env:HOME}"}, "cond.text.anything: '${oc.env:HOME}' holds an interpolation"),
    ({"path": "${oc.env:HOME}"}, "cond.text.path: '${oc.env:HOME}' holds an interpolation"),
    ({"name": "x" * 200, "width": "y" * 200}, "yyy... is not an int"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message[:50] for _, message in WRONG])
def test_what_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        typed(Part.Config, {**GOOD, **change}, "cond.text")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["${oc.env:HOME}", ["a", "${oc.env:HOME}"], {"a": {"b": ["${oc.env:HOME}"]}}])
def test_an_interpolation_is_refused_however_deep_it_lies(value: Any) -> None:
    with pytest.raises(ConfigError, match="holds an interpolation"):
        typed(Part.Config, {**GOOD, "anything": value}, "cond.text")


def test_a_node_that_is_no_mapping_says_which_keys_it_should_have() -> None:
    with pytest.raises(ConfigError, match="cond 'text': 3 is not a mapping with the keys name, width, "):
        typed(Part.Config, 3, "cond.text")


def test_a_missing_key_is_named_but_a_misspelt_one_first() -> None:
    lacking = {key: value for key, value in GOOD.items() if key != "width"}
    with pytest.raises(ConfigError, match="cond 'text' lacks the key width"):
        typed(Part.Config, lacking, "cond.text")
    with pytest.raises(ConfigError, match="has no key 'widht'; did you mean 'width'"):
        typed(Part.Config, {**lacking, "widht": 3}, "cond.text")


def test_a_single_select_part_is_called_by_its_registered_name() -> None:
    with pytest.raises(ConfigError, match="denoiser 'text' has no key 'x'"):
        typed(Part.Config, {**GOOD, "x": 3}, "denoiser")


def test_a_class_that_cannot_be_a_config_is_an_error_of_its_author() -> None:
    class NotOne:
        width: int

    with pytest.raises(LdmkitError, match="is not a dataclass"):
        typed(NotOne, {}, "cond.text")

    @dataclass(frozen=True)
    class Odd:
        value: complex

    with pytest.raises(LdmkitError, match="a Config cannot have the type complex"):
        typed(Odd, {"value": 1}, "cond.text")

    @dataclass(frozen=True)
    class Unknown:
        value: NoSuchType  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(LdmkitError, match="cannot be read: name 'NoSuchType' is not defined"):
        typed(Unknown, {"value": 1}, "cond.text")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "an int"),
        (list[int], "a list of int"),
        (tuple[float, ...], "a list of float"),
        (int | None, "an int or null"),
        (dict[str, int], "a mapping"),
        (Literal["a", 1], "'a' or 1"),
        (list, "a list"),
    ],
)
def test_types_are_named_in_plain_words(kind: Any, text: str) -> None:
    assert type_text(kind) == text

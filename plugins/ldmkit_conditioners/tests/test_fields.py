"""A conditioner that the data cannot serve says what it needs, what there is and what to type."""

from typing import Any

import pytest
from ldmkit_conditioners.fields import require_field

from ldmkit.errors import ConfigError
from ldmkit.specs import DataSpec, FieldSpec


def data(**kinds: str) -> DataSpec:
    return DataSpec(size=64, channels=3, fields={name: FieldSpec(kind=kind) for name, kind in kinds.items()})


def message(**kinds: str) -> str:
    with pytest.raises(ConfigError) as caught:
        require_field("text", "caption", "text", data(**kinds))
    return str(caught.value)


def test_a_field_of_the_right_kind_is_returned() -> None:
    assert require_field("text", "caption", "text", data(caption="text")).kind == "text"


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (
            {"title": "text", "scene": "map"},
            "cond 'text' needs the field 'caption' (text), but the data offers: scene (map), title (text); "
            "point cond.text.field at title",
        ),
        (
            {"title": "text", "alt": "text"},
            "cond 'text' needs the field 'caption' (text), but the data offers: alt (text), title (text); "
            "point cond.text.field at one of alt, title",
        ),
        (
            {"caption": "label"},
            "cond 'text' needs the field 'caption' (text), but the data offers: caption (label); "
            "choose other data or leave 'text' out of cond",
        ),
        (
            {},
            "cond 'text' needs the field 'caption' (text), but the data offers: no fields; "
            "choose other data or leave 'text' out of cond",
        ),
    ],
)
def test_the_error_is_one_line_with_the_way_out(kinds: dict[str, Any], expected: str) -> None:
    assert message(**kinds) == expected

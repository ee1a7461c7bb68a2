"""A reference picture: of any size, as tokens, a vector or both."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ldmkit_conditioners.image import Image

from ldmkit.errors import ConfigError
from ldmkit.specs import CondSpec, DataSpec, FieldSpec


def part(data: DataSpec | None = None, **keys: Any) -> Image:
    config = {"field": "image", "dropout": 0.1, "size": 16, "channels": 8, "width": 24, "tokens": True, "vector": True}
    torch.manual_seed(0)
    return Image(Image.Config(name="image", **{**config, **keys}), data=data or DataSpec(size=32, channels=3))


def pictures(height: int, width: int) -> torch.Tensor:
    shape = (2, 3, height, width)
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (7, 50), (64, 16)])
def test_a_picture_of_any_size_is_sixteen_tokens_and_a_vector(height: int, width: int) -> None:
    got = part()({"image": pictures(height, width)}, (4, 4))
    assert got.tokens.shape == (2, 16, 24)
    assert got.vector.shape == (2, 24)


def test_only_the_forms_that_are_asked_for_are_made() -> None:
    assert part(vector=False).spec == CondSpec(tokens=24)
    assert part(tokens=False).spec == CondSpec(vector=24)
    assert part(tokens=False)({"image": pictures(8, 8)}, (4, 4)).tokens is None


def test_where_something_is_in_the_picture_shows_in_the_tokens_and_not_in_the_null() -> None:
    conditioner = part()
    picture = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    marked = picture.clone()
    marked[..., :4, :4] = 255
    apart = (conditioner({"image": marked}, (4, 4)).tokens - conditioner({"image": picture}, (4, 4)).tokens).abs()
    assert apart[0, 0].max() > apart[0, -1].max()
    null = conditioner.null(2, (4, 4))
    assert torch.equal(null.tokens[:, :1].expand(-1, 16, -1), null.tokens)


def test_another_field_is_one_that_the_data_offers() -> None:
    data = DataSpec(size=32, channels=3, fields={"style": FieldSpec("image"), "caption": FieldSpec("text")})
    conditioner = part(data, field="style")
    assert conditioner.needs == {"style": "image"}
    assert conditioner.observed == {}
    with pytest.raises(ConfigError, match=r"needs the field 'caption' \(image\), .* point cond.image.field at style"):
        part(data, field="caption")


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"size": 24}, "size is 24 but must be a power of two, 8 or more"), ({"size": 4}, "size is 4"),
     ({"tokens": False, "vector": False}, "tokens and vector are both false")],
)  # fmt: skip
def test_keys_that_make_no_sense_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part(**keys)

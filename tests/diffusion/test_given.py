"""Pictures and masks that somebody gives: their form is checked, and they say how large the result is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ldmkit
from ldmkit.diffusion.given import picture_size
from ldmkit.specs import FieldSpec
from ldmkit.values import to_uint8

IMAGE = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
MASK = torch.ones(2, 32, 32, dtype=torch.bool)


@pytest.fixture(scope="module")
def model() -> Any:
    return ldmkit.build(ldmkit.compose(["scale=smoke", "cond=[inpaint]", "sampler.steps=1"]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": IMAGE.float(), "mask": MASK}, r"'image' must be a tensor uint8 \(B, 3, H, W\), got torch.float32"),
        ({"image": IMAGE[:, :1], "mask": MASK}, r"'image' must be .* got torch.uint8 \(2, 1, 32, 32\)"),
        ({"image": IMAGE[0], "mask": MASK}, "'image' must be"),
        ({"image": ["a.png"], "mask": MASK}, "'image' must be .* got list"),
        ({"image": IMAGE, "mask": MASK.float()}, r"'mask' must be a tensor bool \(B, H, W\), got torch.float32"),
        ({"image": IMAGE, "mask": MASK[:, :16]}, "several sizes: 32x32 by 'image', 16x32 by 'mask'"),
        ({"image": IMAGE, "mask": MASK[:1]}, "different lengths: image 2, mask 1"),
        ({"image": IMAGE}, "conditioned on image, mask, but mask is missing; given were: image"),
        ({"image": IMAGE, "mask": MASK, "low_res": IMAGE}, "no field 'low_res'"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(model: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ldmkit.ConfigError, match=message):
        model.sample(fields)


def test_the_size_is_that_of_the_picture_times_its_factor() -> None:
    specs = {"low": FieldSpec("image", factor=4), "any": FieldSpec("image"), "text": FieldSpec("text")}
    fields = {"low": torch.zeros(1, 3, 8, 10), "any": torch.zeros(1, 3, 5, 5), "text": ["a"]}
    assert picture_size(fields, specs, None) == (32, 40)
    assert picture_size({"any": fields["any"]}, specs, None) is None
    assert picture_size({}, specs, (64, 32)) == (64, 32)


def test_known_pixels_come_back_bit_for_bit_and_can_be_left_as_drawn(model: Any) -> None:
    image = torch.randint(256, (2, 3, 32, 48), dtype=torch.uint8)
    mask = torch.zeros(2, 32, 48, dtype=torch.bool)
    mask[:, :, 16:] = True
    drawn, pasted = (model.sample({"image": image, "mask": mask}, paste=paste) for paste in (False, True))
    assert torch.equal(to_uint8(pasted)[..., :16], image[..., :16])
    assert torch.equal(pasted[..., 16:], drawn[..., 16:])
    assert not torch.equal(pasted[..., :16], drawn[..., :16])

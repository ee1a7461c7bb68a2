"""Boxes of the metadata: their forms, their way through crop and scaling, and what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ldmkit.errors import DataError

WIDTH, HEIGHT = 64, 32


@pytest.fixture
def boxed(tmp_path, folder):
    """Build the source of four pictures of 64 x 32 whose lines have ``columns(n)``."""

    def build(columns, size=(WIDTH, HEIGHT), **changes):
        for n in range(4):
            pixels = np.random.default_rng(n).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        lines = [{"file_name": f"{n}.png", "number": n} | columns(n) for n in range(4)]
        (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return folder(**changes)

    return build


def field(source, number=0):
    """The boxes of picture ``number``, wherever it is."""
    for split in ("train", "validation"):
        fields = source.fields(split, range(source.length(split)))
        for one, boxes in zip(fields["number"].tolist(), fields["boxes"], strict=True):
            if one == number:
                return boxes
    raise AssertionError(number)


def same(columns):
    return lambda n: columns


@pytest.mark.parametrize(
    "columns",
    [
        {"boxes": [[16, 8, 32, 24, "dog"], [32, 0, 48, 32, "cat"]]},
        {"box_fractions": [[0.25, 0.25, 0.5, 0.75, "dog"], [0.5, 0, 0.75, 1, "cat"]]},
        {
            "box_fractions": [
                {"box": [0.25, 0.25, 0.5, 0.75], "label": "dog"},
                {"box": [0.5, 0, 0.75, 1], "label": "cat"},
            ]
        },
        {"objects": {"bbox": [[16, 8, 16, 16], [32, 0, 16, 32]], "categories": ["dog", "cat"], "id": [3, 4]}},
        {"objects": {"bbox": [[16, 8, 16, 16], [32, 0, 16, 32]], "category": ["dog", "cat"]}},
    ],
)
def test_boxes_are_fractions_of_the_central_square_whatever_form_they_are_stated_in(boxed, columns):
    """Of 64 x 32 pixels the square keeps x from 16 to 48."""
    source = boxed(same(columns))
    assert source.spec.fields["boxes"].kind == "boxes"
    assert source.spec.fields["boxes"].names == ("cat", "dog")
    expected = torch.tensor([[0, 0.25, 0.5, 0.75, 1], [0.5, 0, 1, 1, 0]])
    assert torch.equal(field(source), expected)
    assert field(source).dtype == torch.float32


def test_squash_keeps_fractions_of_the_whole_image(boxed):
    source = boxed(same({"boxes": [[16, 8, 32, 24, "dog"]]}), resize="squash")
    assert field(source).tolist() == [[0.25, 0.25, 0.5, 0.75, 0]]


def test_a_box_that_the_crop_cuts_is_clipped_and_one_outside_it_is_left_out_and_counted(boxed):
    source = boxed(same({"boxes": [[0, 0, 32, 16, "a"], [0, 0, 16, 32, "b"], [50, 1, 60, 9, "a"]]}))
    assert field(source).tolist() == [[0, 0, 0.5, 0.5, 0]]
    assert (
        "8 of 12 boxes lie outside the central square and are left out; data.resize=squash keeps them" in source.notices
    )
    assert source.spec.fields["boxes"].names == ("a", "b")


def test_a_box_that_reaches_beyond_the_image_ends_at_its_edge(boxed):
    source = boxed(same({"boxes": [[-5, -5, 80, 16, "a"]]}), resize="squash")
    assert field(source).tolist() == [[0, 0, 1, 0.5, 0]]


def test_pictures_have_different_numbers_of_boxes_and_some_have_none(boxed):
    source = boxed(lambda n: {"boxes": [[20, 4, 40, 20, n % 2]] * n})
    assert [len(field(source, n)) for n in range(4)] == [0, 1, 2, 3]
    assert field(source, 0).shape == (0, 5)
    assert source.spec.fields["boxes"].names == ("0", "1")
    batch = source.read("train", [0, 1])
    assert len(batch.fields["boxes"]) == 2


def test_boxes_follow_an_image_that_exif_turns(boxed, tmp_path):
    """The boxes are those of the upright image."""
    source_of = lambda: boxed(same({"boxes": [[0, 0, 16, 32, "a"]]}), size=(32, 64), resize="squash")  # noqa: E731
    source_of()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: 32 x 64 in the file is 64 x 32 upright
    from ldmkit_data.folder import Folder

    config = source_of().config
    for n in range(4):
        Image.open(tmp_path / f"{n}.png").save(tmp_path / f"{n}.png", exif=exif)
    assert field(Folder(config)).tolist() == [[0, 0, 0.25, 1, 0]]


def test_a_column_in_csv_holds_them_as_json(folder, tmp_path):
    for n in range(2):
        Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(tmp_path / f"{n}.png")
    lines = [f'{n}.png,{n},"[[0, 0, 4, 8, ""a""]]"' for n in range(2)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,number,boxes", *lines]))
    assert field(folder()).tolist() == [[0, 0, 0.5, 1, 0]]


def test_boxes_that_some_images_lack_are_no_field(boxed):
    source = boxed(lambda n: {"boxes": [[1, 1, 9, 9, "a"]]} if n else {})
    assert "boxes" not in source.spec.fields
    assert any("1 of 4 images, first '0.png', have no 'boxes'" in notice for notice in source.notices)


def test_where_no_image_has_a_box_there_is_no_field(boxed):
    source = boxed(same({"boxes": []}))
    assert "boxes" not in source.spec.fields
    assert source.notices == ["no image has a box, so there is no field 'boxes'"]


def test_another_box_is_another_digest(boxed):
    one, other = (boxed(same({"boxes": [[20, 4, right, 20, "a"]]})).digest() for right in (30, 31))
    assert one != other


def test_objects_that_are_no_boxes_are_what_any_column_is(boxed):
    source = boxed(same({"objects": "a lamp and a chair"}))
    assert source.spec.fields["objects"].kind == "text"
    assert "boxes" not in source.spec.fields


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"boxes": [[1, 2, 3, 4]]}, r"line 1: 'boxes' is \[\[1, 2, 3, 4\]\]; expected a list of \[left, top"),
        ({"boxes": "none"}, r"line 1: 'boxes' is \"none\"; expected a list"),
        ({"boxes": 7}, r"line 1: 'boxes' is 7; expected a list"),
        (
            {"boxes": [[9, 2, 3, 4, "a"]]},
            r"line 1: the box \[9.0, 2.0, 3.0, 4.0\]; expected left < right and top < bottom",
        ),
        ({"boxes": [[70, 2, 80, 4, "a"]]}, r"line 1: the box .* lies outside the image, which is 64x32 pixels"),
        ({"boxes": [[0.1, 0.2, 0.3, 0.9, "a"]]}, r"no box in the column 'boxes' is larger .* call it 'box_fractions'"),
        ({"box_fractions": [[0, 0, 12, 9, "a"]]}, r"line 1: the box .* not within 0 to 1; call the column 'boxes'"),
        ({"boxes": [], "box_fractions": []}, r"columns 'box_fractions' and 'boxes', which are all boxes; keep one"),
        ({"objects": {"bbox": [[1, 2, 3, 4]], "categories": []}}, r"line 1: 'objects' is .*; expected {\"bbox\""),
        ({"objects": {"bbox": [[1, 2, 3, 4]]}}, r"line 1: 'objects' is .*; expected {\"bbox\""),
    ],
)
def test_what_is_no_box_is_named_with_its_line(boxed, columns, message):
    with pytest.raises(DataError, match=message):
        boxed(same(columns))

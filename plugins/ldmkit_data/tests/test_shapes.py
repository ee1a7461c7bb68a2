"""The embedded data set: the same picture for the same index, words that say what is drawn, combinations kept apart."""

import dataclasses

import numpy as np
import pytest
import torch
from ldmkit_data.shapes import Shapes
from ldmkit_data.shapes_scene import ABSENT, BACKGROUND, caption, combinations, parse, split_combinations

CONFIG = Shapes.Config(
    name="shapes", size=64, train=1000, validation=300, two_objects=0.4, held_out=0.15, prompt_objects=1, seed=0
)


def shapes(**changes: object) -> Shapes:
    return Shapes(dataclasses.replace(CONFIG, **changes))


def objects_of(text: str) -> str:
    return text.split(" on a", maxsplit=1)[0]


def test_an_index_gives_the_same_example_in_any_batch():
    source = shapes()
    many, one = source.read("train", [5, 900, 17]), source.read("train", [17])
    assert torch.equal(many.images[2:], one.images)
    assert many.fields["caption"][2] == one.fields["caption"][0]
    assert torch.equal(many.fields["semantic"][2:], one.fields["semantic"])


def test_seed_and_split_change_the_examples():
    first = shapes().read("train", range(8)).images
    assert not torch.equal(first, shapes(seed=1).read("train", range(8)).images)
    assert not torch.equal(first, shapes().read("validation", range(8)).images)


def test_fields_are_those_of_reading_everything():
    source = shapes(validation=20)
    fields, read = source.fields("validation", range(20)), source.read("validation", range(20)).fields
    assert set(fields) == set(read) == set(source.spec.fields)
    assert fields["caption"] == read["caption"]
    assert torch.equal(fields["class"], read["class"])
    assert torch.equal(fields["semantic"], read["semantic"])


def test_values_are_what_the_spec_says():
    source = shapes()
    batch = source.read("train", range(40))
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (40, 3, 64, 64)
    labels, semantic = batch.fields["class"], batch.fields["semantic"]
    names = source.spec.fields["class"].names
    for text, label in zip(batch.fields["caption"], labels.tolist(), strict=True):
        assert " ".join(text.split()[2:4]) == names[label]
    shown = source.spec.fields["semantic"].names
    for text, row in zip(batch.fields["caption"], semantic, strict=True):
        seen = {shown[index] for index in row.unique().tolist()} - {"background"}
        assert seen == {word for word in text.split() if word in shown} - {"background"}


def test_boxes_are_tight_around_the_objects_that_the_map_shows():
    source = shapes(size=128)
    batch = source.read("train", range(60))
    names, shown = source.spec.fields["boxes"].names, source.spec.fields["semantic"].names
    for semantic, boxes, label in zip(
        batch.fields["semantic"], batch.fields["boxes"], batch.fields["class"], strict=True
    ):
        assert boxes[0, 4] == label
        shapes_in = [names[int(index)].split()[1] for index in boxes[:, 4]]
        if len(set(shapes_in)) < len(shapes_in):
            continue  # the map cannot tell two objects of one shape apart
        for box, shape in zip(boxes, shapes_in, strict=True):
            rows, columns = torch.where(semantic == shown.index(shape))
            seen = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 128
            assert (box[:4] - seen).abs().max() < 2.5 / 128  # a triangle's tip is thin


def test_the_radius_is_that_of_a_circle_of_equal_area():
    batch = shapes(two_objects=0.0, size=128).read("train", range(50))
    area = (batch.fields["semantic"] > 0).float().mean((1, 2))
    torch.testing.assert_close((area / np.pi).sqrt(), batch.fields["radius"], rtol=0.03, atol=0)


def test_a_picture_is_a_photograph_of_its_own_size_that_nothing_is_cut_from():
    fields = shapes(size=48).fields("train", range(3))
    assert {name: fields[name].tolist() for name in fields if name.startswith(("original", "crop"))} == {
        "original_height": [48.0] * 3, "original_width": [48.0] * 3, "crop_top": [0.0] * 3, "crop_left": [0.0] * 3
    }  # fmt: skip


def test_area_of_the_semantic_map_is_that_of_the_stated_size():
    source = shapes(two_objects=0.0)
    batch = source.read("train", range(100))
    area = (batch.fields["semantic"] > 0).float().mean((1, 2)) * 64**2
    large = torch.tensor([" large " in text for text in batch.fields["caption"]])
    assert area[large].min() > np.pi * 11**2 > np.pi * 9.2**2 > area[~large].max()


def test_a_picture_looks_alike_at_twice_the_size():
    small, large = (shapes(size=size).read("train", range(20)).images.float() for size in (64, 128))
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert (small - shrunk).abs().mean() < 0.5


def test_held_out_combinations_are_never_trained_on():
    source = shapes(train=4000)
    trained = {objects_of(text) for text in source.fields("train", range(4000))["caption"]}
    held = {objects_of(text) for text in source.fields("validation", range(300))["caption"]}
    assert trained.isdisjoint(held)
    for count in (1, 2):
        prompts = shapes(prompt_objects=count).prompts(300)["caption"]
        assert trained.isdisjoint(map(objects_of, prompts))


def test_combinations_are_complete_and_parted_by_the_share():
    # 2 sizes, 8 colours, 4 shapes: 64 objects at 9 positions; 4 relations of pairs that differ in colour
    assert len(combinations(1)) == 64 * 9
    assert len(combinations(2)) == 4 * 64 * 56
    for objects in (1, 2):
        kept, held = split_combinations(objects, 0.15)
        assert len(kept) + len(held) == len(combinations(objects))
        assert abs(len(held) / len(combinations(objects)) - 0.15) < 0.03


def test_there_are_256_different_prompts_of_one_object():
    fields = shapes().prompts(256)
    assert len(set(fields["caption"])) == 256
    assert len(fields["class"]) == len(fields["semantic"]) == 256
    assert not any(" of a " in text or " above " in text or " below " in text for text in fields["caption"])


def test_captions_are_read_back_as_they_were_written():
    rows = np.concatenate([combinations(1), combinations(2)[::37]])
    rows[:, BACKGROUND] = np.arange(len(rows)) % 4
    for row in rows:
        assert np.array_equal(parse(caption(row)), row)


def test_captions_may_leave_things_out():
    scene = parse("Red circle in the center.")
    assert scene is not None
    assert (scene == ABSENT).sum() == 5  # no background, no size, no second object
    assert parse("a photograph of a cat") is None


def test_captions_read_well():
    texts = shapes().fields("train", range(1000))["caption"]
    assert any(text.endswith("on an olive background") for text in texts)
    assert not any("a olive" in text for text in texts)


def test_digest_tells_data_apart():
    assert shapes().digest() == shapes().digest()
    assert len({shapes(**{key: 2}).digest() for key in ("train", "validation", "prompt_objects", "seed")}) == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [("train", 0), ("validation", 0), ("size", 16), ("two_objects", 1.5), ("held_out", 0.0), ("prompt_objects", 3)],
)
def test_a_bad_number_is_named(key, value):
    with pytest.raises(ValueError, match=f"^{key} is {value} but must be"):
        shapes(**{key: value})


def test_an_index_beyond_the_split_is_an_error():
    with pytest.raises(IndexError, match="300 examples"):
        shapes().read("validation", [300])

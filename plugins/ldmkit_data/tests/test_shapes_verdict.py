"""Pictures are held against their class, map and boxes: real ones obey, and what differs does not."""

import dataclasses

import pytest
import torch
from ldmkit_data.shapes import Shapes

CONFIG = Shapes.Config(
    name="shapes", size=64, train=1000, validation=200, two_objects=0.4, held_out=0.15, prompt_objects=1, seed=5
)
COUNT = 120
FIELDS = {"class": "class", "semantic": "semantic_iou", "boxes": "boxes"}


@pytest.fixture(scope="module")
def batch():
    return Shapes(CONFIG).read("validation", range(COUNT))


def judged(batch, *names, images=None, **changed):
    fields = {name: batch.fields[name] for name in names} | changed
    return Shapes(CONFIG).verify(batch.images if images is None else images, fields)


def empty(batch):
    return batch.images[:, :, -1:, -1:].expand_as(batch.images)


def single(batch):
    return torch.tensor([len(boxes) == 1 for boxes in batch.fields["boxes"]])


@pytest.mark.parametrize("size", [32, 64, 128])
def test_real_pictures_obey_all_their_fields(size):
    source = Shapes(dataclasses.replace(CONFIG, size=size))
    pictures = source.read("validation", range(60))
    seen = source.verify(pictures.images, pictures.fields)
    assert set(seen) == {"colour", "size", "position", "shape", "class", "semantic_iou", "boxes", "all"}
    assert seen["class"].all()
    assert seen["boxes"].min() == 1
    assert seen["semantic_iou"].min() > 0.9  # a pixel is of the map by its centre, of the picture by its cover
    assert seen["semantic_iou"].mean() > 0.99
    assert seen["all"].all()


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_alone_is_judged_alone(batch, name):
    seen = judged(batch, name)
    assert set(seen) == {FIELDS[name], "all"}
    assert seen["all"].all()


@pytest.mark.parametrize("name", FIELDS)
def test_an_empty_picture_obeys_nothing(batch, name):
    seen = judged(batch, name, images=empty(batch))
    assert not seen["all"].any()
    assert seen[FIELDS[name]].max() < 0.5


@pytest.mark.parametrize("step", [1, 4])
def test_another_shape_or_colour_is_another_class(batch, step):
    rows = single(batch)
    wrong = (batch.fields["class"] + step) % 32
    assert not judged(batch, images=batch.images[rows], **{"class": wrong[rows]})["class"].any()


def test_a_map_of_another_picture_is_not_obeyed(batch):
    seen = judged(batch, semantic=batch.fields["semantic"].roll(1, 0))
    assert seen["semantic_iou"].mean() < 0.4
    assert seen["all"].float().mean() < 0.05


def test_a_map_of_another_shape_leaves_only_the_background_alike(batch):
    semantic = batch.fields["semantic"]
    seen = judged(batch, semantic=torch.where(semantic > 0, semantic % 4 + 1, 0))["semantic_iou"][single(batch)]
    torch.testing.assert_close(seen, torch.full_like(seen, 1 / 3), atol=0.02, rtol=0)  # of three classes one


def moved(batch, x, y):
    return [boxes + torch.tensor([x, y, x, y, 0]) for boxes in batch.fields["boxes"]]


def test_a_box_moved_by_a_little_still_holds_its_object_and_one_moved_by_more_does_not(batch):
    assert (judged(batch, boxes=moved(batch, 0.04, 0.0))["boxes"] == 1).all()
    for x, y in ((0.1, 0.0), (0.0, -0.1)):
        seen = judged(batch, boxes=moved(batch, x, y))
        assert not seen["boxes"].any()
        assert not seen["all"].any()


def test_an_object_in_a_box_far_too_large_does_not_obey_it(batch):
    whole = [
        torch.cat([torch.tensor([[0.0, 0, 1, 1]] * len(boxes)), boxes[:, 4:]], 1) for boxes in batch.fields["boxes"]
    ]
    assert not judged(batch, boxes=whole)["boxes"].any()


def test_a_box_of_another_class_is_not_obeyed(batch):
    wrong = [torch.cat([boxes[:, :4], (boxes[:, 4:] + 1) % 32], 1) for boxes in batch.fields["boxes"]]
    assert not judged(batch, boxes=wrong)["boxes"].any()


def test_an_object_without_a_box_is_one_too_many_though_the_boxes_are_obeyed(batch):
    fewer = [boxes[:1] for boxes in batch.fields["boxes"]]
    seen = judged(batch, boxes=fewer)
    assert (seen["boxes"] == 1).all()
    assert torch.equal(seen["all"], single(batch))


def test_of_two_boxes_one_may_be_obeyed(batch):
    rows = ~single(batch)
    wrong = [
        torch.stack([one[0], (one[1] + torch.tensor([0, 0, 0, 0, 1.0])) % 32])
        for one, two in zip(batch.fields["boxes"], rows, strict=True)
        if two
    ]
    seen = judged(batch, images=batch.images[rows], boxes=wrong)
    assert (seen["boxes"] == 0.5).all()


def test_no_boxes_are_obeyed_by_an_empty_picture(batch):
    none = [torch.zeros(0, 5)] * COUNT
    assert judged(batch, images=empty(batch), boxes=none)["all"].all()
    assert not judged(batch, boxes=none)["all"].any()


def test_no_pictures_give_no_verdicts_but_their_names(batch):
    seen = Shapes(CONFIG).verify(batch.images[:0], {"caption": [], "boxes": []})
    assert {name: len(values) for name, values in seen.items()} == dict.fromkeys(
        ("colour", "size", "position", "shape", "boxes", "all"), 0
    )


def test_a_scalar_alone_cannot_be_judged(batch):
    assert judged(batch, "radius") is None

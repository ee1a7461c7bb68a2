"""Geometry, fields, splits, order and digest of ``data=folder``."""

import json
import os
import pickle
import random
import unicodedata

import numpy as np
import pytest
import torch
from ldmkit_data import folder_pixels
from ldmkit_data.folder_scan import scan
from PIL import Image

from ldmkit.errors import ConfigError, DataError


def save(path, seed=0, size=(8, 8), mode="RGB", **options):
    """A picture of noise, lossless, so that each seed has a content of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": (3,), "L": (), "P": ()}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    Image.fromarray(values, "RGB" if mode == "RGB" else "L").save(path, **options)
    return values


def every(source):
    """Fields and images of both splits, by the images' mean, which tells pictures of noise apart."""
    return {split: source.read(split, range(source.length(split))) for split in ("train", "validation")}


def texts(source, name="caption"):
    both = every(source)
    return sorted(text for batch in both.values() for text in batch.fields[name])


def read_all(source):
    return torch.cat([batch.images for batch in every(source).values()])


def test_pixels_of_the_right_size_arrive_untouched(folder, tmp_path):
    values = [save(tmp_path / f"{seed}.png", seed) for seed in range(4)]
    source = folder()
    images = read_all(source)
    assert images.dtype == torch.uint8
    assert images.shape == (4, 3, 8, 8)
    assert {image.numpy().tobytes() for image in images} == {v.transpose(2, 0, 1).tobytes() for v in values}


@pytest.mark.parametrize(("size", "kept"), [((13, 8), (2, 0)), ((8, 11), (0, 1)), ((12, 8), (2, 0))])
def test_crop_keeps_the_central_square(folder, tmp_path, size, kept):
    values = save(tmp_path / "a.png", 0, size)
    save(tmp_path / "b.png", 1)
    left, top = kept
    expected = values[top : top + 8, left : left + 8].transpose(2, 0, 1)
    assert any(np.array_equal(image, expected) for image in read_all(folder()).numpy())


def test_squash_keeps_all_of_the_image(folder, tmp_path):
    values = np.zeros((8, 32, 3), np.uint8)
    values[:, :16] = 200  # the left half
    for name in "ab":
        Image.fromarray(values + (name == "b")).save(tmp_path / f"{name}.png")
    image = folder(resize="squash", filter="box", upscale=True).read("train", [0]).images[0, 0]
    assert (image[:, :4] >= 200).all()
    assert (image[:, 4:] <= 1).all()


def test_box_scaling_is_the_mean_over_each_block(folder, tmp_path):
    values = [save(tmp_path / f"{seed}.png", seed, (32, 32)) for seed in range(2)]
    means = [v.reshape(8, 4, 8, 4, 3).mean((1, 3)).transpose(2, 0, 1) for v in values]
    images = read_all(folder(filter="box")).numpy()
    assert all(min(np.abs(image - mean).max() for mean in means) <= 1.01 for image in images)


@pytest.mark.parametrize("filter", ["lanczos", "bicubic", "bilinear", "box"])
def test_scaling_down_is_antialiased(folder, tmp_path, filter):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255  # one pixel wide: without antialiasing it comes out black or white
    for name in "ab":
        Image.fromarray(stripes).save(tmp_path / f"{name}.png", comment=name)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes() + b" ")
    inner = read_all(folder(filter=filter))[..., 2:-2].float()
    assert (inner - 127.5).abs().max() <= 6


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (4097, 41), (7, 9)])
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_any_proportion_becomes_a_square(folder, tmp_path, size, resize):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", seed, size)
    assert read_all(folder(resize=resize)).shape == (2, 3, 8, 8)


def test_small_images_are_enlarged_with_a_notice_or_left_out(folder, tmp_path):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed, (8, 8))
    save(tmp_path / "small.png", 3, (7, 30))
    source = folder()
    assert source.length("train") + source.length("validation") == 4
    assert any("1 of 4 images have a side below 8 pixels and are enlarged" in notice for notice in source.notices)
    source = folder(upscale=False, max_bad=0.0)
    assert source.length("train") + source.length("validation") == 3
    assert any("left out" in notice for notice in source.notices)
    assert source.skipped == ()


def test_one_channel_is_asked_for_and_delivered(folder, tmp_path):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", seed, mode="L")
    source = folder(channels=1)
    assert source.spec.channels == 1
    assert read_all(source).shape == (2, 1, 8, 8)


def test_what_the_cache_does_not_hold_is_decoded_to_the_same(folder, tmp_path):
    # 512 * 512 * (3 + 2) bytes is 1.25 MiB: a cache of 2 MiB holds one of three.
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed, (64, 64))
        save(tmp_path / f"{seed}_map.png", seed, (64, 64), mode="L")
    batches = [every(folder(size=512, cache_mb=megabytes)) for megabytes in (0, 2, 64)]
    for split in ("train", "validation"):
        for batch in batches[1:]:
            assert torch.equal(batch[split].images, batches[0][split].images)
            assert torch.equal(batch[split].fields["semantic"], batches[0][split].fields["semantic"])


# Maps


def test_a_map_has_the_geometry_of_its_image(folder, tmp_path):
    # Each pixel of the image says in red which class the map has there, so both can be compared after scaling.
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a": (24, 61), "b": (50, 16), "c": (8, 8)}.items():
        classes = np.kron(rng.integers(0, 5, (height // 4 + 1, width // 4 + 1)), np.ones((4, 4)))[:height, :width]
        Image.fromarray(np.repeat((classes * 50).astype(np.uint8)[..., None], 3, -1)).save(tmp_path / f"{name}.png")
        Image.fromarray(classes.astype(np.uint8)).save(tmp_path / f"{name}_map.png")
    for resize in ("crop", "squash"):
        source = folder(resize=resize, size=48, filter="box")
        for batch in every(source).values():
            classes, red = batch.fields["semantic"], batch.images[:, 0].float() / 50
            assert classes.dtype == torch.int64
            same = (classes - red).abs() < 0.5
            assert same.float().mean() > 0.9
    assert source.spec.fields["semantic"].kind == "map"
    assert source.spec.fields["semantic"].names == tuple("01234")


@pytest.mark.parametrize("size", [5, 48])
def test_scaling_a_map_invents_no_class(folder, tmp_path, size):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", seed, (16, 16))
        classes = np.random.default_rng(seed).choice(np.array([0, 200], np.uint8), (16, 16))
        Image.fromarray(classes).save(tmp_path / f"{seed}_map.png")
    for batch in every(folder(size=size)).values():
        assert set(batch.fields["semantic"].unique().tolist()) == {0, 200}


def test_maps_are_turned_upright_as_images_are(folder, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    for seed in range(2):
        values = save(tmp_path / f"{seed}.png", seed, (8, 12), exif=exif)
        Image.fromarray(values[..., 0]).save(tmp_path / f"{seed}_map.png", exif=exif)
    batch = folder().read("train", [0])
    assert torch.equal(batch.images[:, 0].long(), batch.fields["semantic"])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("map_names.txt", "sky\nsea\r\nland\n"),
        ("map_names.json", '["sky", "sea", "land"]'),
        ("map_names.json", '{"0": "sky", "2": "land", "1": "sea"}'),
    ],
)
def test_classes_of_maps_are_named_by_a_file(folder, tmp_path, file, text):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", seed)
        Image.fromarray(np.full((8, 8), seed, np.uint8)).save(tmp_path / f"{seed}_map.png")
    (tmp_path / file).write_text(text)
    assert folder().spec.fields["semantic"].names == ("sky", "sea", "land")


def test_too_few_names_for_a_map_are_an_error(folder, tmp_path):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", seed)
        Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / f"{seed}_map.png")
    (tmp_path / "map_names.txt").write_text("sky\nsea\n")
    with pytest.raises(DataError, match=r"map_names.txt names 2 classes, but a map has index 255"):
        folder()


def test_a_map_of_another_size_costs_its_image(folder, tmp_path):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed)
        save(tmp_path / f"{seed}_map.png", seed, (8, 9 if seed == 2 else 8), mode="L")
    assert folder().skipped == (("2.png", "its map '2_map.png' is 8x9 pixels, but the image is 8x8"),)


def test_a_picture_that_is_only_called_like_a_map_is_a_picture(folder, tmp_path):
    for seed, name in enumerate(["world_map.png", "other.png"]):
        save(tmp_path / name, seed)
    source = folder()
    assert source.length("train") + source.length("validation") == 2
    assert "semantic" not in source.spec.fields


def test_a_picture_that_the_metadata_names_is_no_map(folder, tmp_path):
    for seed, name in enumerate(["world.png", "world_map.png"]):
        save(tmp_path / name, seed)
    (tmp_path / "metadata.csv").write_text("file_name,text\nworld.png,the world\nworld_map.png,a map\n")
    assert texts(folder()) == ["a map", "the world"]


def test_a_map_whose_image_is_gone_is_bad_where_others_have_theirs(folder, tmp_path):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed)
        save(tmp_path / f"{seed}_map.png", seed, mode="L")
    (tmp_path / "1.png").unlink()
    assert folder().skipped == (("1_map.png", "a map without its image"),)


# Fields


def test_class_folders_are_labels(folder, tmp_path):
    for index, name in enumerate(["zebra", "ant", "ant", "10", "9"]):
        save(tmp_path / name / "deeper" / f"{index}.png", index)
        (tmp_path / name / "deeper" / f"{index}.txt").write_text(name)
    source = folder(validation=0.4)
    assert source.spec.fields["class"].kind == "label"
    assert source.spec.fields["class"].names == ("9", "10", "ant", "zebra")
    for batch in every(source).values():
        assert batch.fields["class"].dtype == torch.int64
        names = [source.spec.fields["class"].names[label] for label in batch.fields["class"]]
        assert names == batch.fields["caption"]
    assert "class" not in folder(class_folders=False).spec.fields


def test_one_folder_or_a_picture_outside_of_the_folders_makes_no_classes(folder, tmp_path):
    for seed in range(3):
        save(tmp_path / "images" / f"{seed}.png", seed)
    assert "class" not in folder().spec.fields
    save(tmp_path / "others" / "3.png", 3)
    assert "class" in folder().spec.fields
    save(tmp_path / "4.png", 4)
    source = folder()
    assert "class" not in source.spec.fields
    assert any("1 of 5 images, first '4.png', have no 'class'" in notice for notice in source.notices)


def test_folders_called_like_splits_are_pointed_out(folder, tmp_path):
    save(tmp_path / "train" / "0.png", 0)
    save(tmp_path / "val" / "1.png", 1)
    assert folder().notices == ["the folders train, val count as classes; if they are splits, point data.path at one"]


FRAMING = {"original_height", "original_width", "crop_top", "crop_left"}


def test_a_folder_without_annotations_has_fields_of_size_alone(folder, tmp_path):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", seed)
    source = folder()
    assert set(source.spec.fields) == set(source.fields("train", [0])) == FRAMING


@pytest.mark.parametrize(
    ("resize", "size", "expected"),
    [
        ("crop", (32, 16), (16, 32, 0, 4)),  # 8 of 32 pixels are cut away at the left, and all is halved
        ("crop", (12, 24), (24, 12, 4, 0)),
        ("crop", (8, 8), (8, 8, 0, 0)),
        ("squash", (32, 16), (16, 32, 0, 0)),
    ],
)
def test_fields_say_the_original_size_and_what_was_cut_from_the_scaled_image(folder, tmp_path, resize, size, expected):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", seed, size)
    fields = folder(resize=resize).fields("train", [0])
    got = [fields[name] for name in ("original_height", "original_width", "crop_top", "crop_left")]
    assert torch.cat(got).tolist() == list(expected)
    assert all(value.dtype == torch.float32 for value in got)


def test_a_column_that_states_the_original_size_wins(folder, tmp_path):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed)
    lines = [{"file_name": f"{seed}.png", "original_height": 4000 + seed} for seed in range(3)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = folder()
    assert (source.fields("train", [0, 1])["original_height"] >= 4000).all()
    assert set(source.spec.fields) == FRAMING


def test_fields_decode_nothing_until_a_map_is_asked_for(folder, tmp_path, monkeypatch):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed)
        save(tmp_path / f"{seed}_map.png", seed, mode="L")
        (tmp_path / f"{seed}.txt").write_text(f"picture {seed}")
    source = folder(cache_mb=0)
    decoded = []
    for name in ("decode", "decode_map"):
        real = getattr(folder_pixels, name)
        monkeypatch.setattr(
            folder_pixels, name, lambda *args, name=name, real=real, **keys: decoded.append(name) or real(*args, **keys)
        )
    fields = source.fields("train", range(source.length("train")))
    prompts = source.prompts(4)
    assert len(fields["caption"]) == 2
    assert len(set(prompts["caption"])) == 1
    assert len(prompts["caption"]) == 4
    assert decoded == []
    assert fields["semantic"].shape == (2, 8, 8)
    assert decoded == ["decode_map"] * 2


def test_fields_are_those_of_the_batch(folder, tmp_path):
    for seed in range(6):
        save(tmp_path / f"{seed % 2}" / f"{seed}.png", seed)
        save(tmp_path / f"{seed % 2}" / f"{seed}_map.png", seed, mode="L")
    lines = [{"file_name": f"{seed % 2}/{seed}.png", "text": f"picture {seed}", "score": seed / 4} for seed in range(6)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = folder(validation=0.5)
    assert set(source.spec.fields) == {"caption", "class", "score", "semantic"} | FRAMING
    for split in ("train", "validation"):
        batch, fields = source.read(split, [2, 0]), source.fields(split, [2, 0])
        assert batch.fields["caption"] == fields["caption"]
        for name in ("class", "score", "semantic"):
            assert torch.equal(batch.fields[name], fields[name])
        numbers = [int(caption.split()[1]) for caption in fields["caption"]]
        assert fields["score"].tolist() == [number / 4 for number in numbers]
        assert fields["score"].dtype == torch.float32


# Splits, order, digest


def test_the_share_is_exact_and_nothing_is_in_both(folder, tmp_path):
    for seed in range(20):
        save(tmp_path / f"{seed}.png", seed)
    for share, count in ((0.05, 1), (0.06, 2), (0.5, 10), (0.001, 1)):
        both = every(folder(validation=share))
        assert len(both["validation"].images) == count
        contents = [{image.numpy().tobytes() for image in batch.images} for batch in both.values()]
        assert len(contents[0] | contents[1]) == 20
        assert not contents[0] & contents[1]


def test_who_is_held_out_depends_on_the_content_alone(folder, tmp_path):
    for seed in range(12):
        save(tmp_path / f"{seed}.png", seed)
    before = {image.numpy().tobytes() for image in every(folder(validation=0.25))["validation"].images}
    for seed in range(12):
        (tmp_path / f"{seed}.png").rename(tmp_path / f"renamed {(seed * 7) % 12}.png")
    after = {image.numpy().tobytes() for image in every(folder(validation=0.25))["validation"].images}
    assert before == after


def test_copies_of_a_picture_are_held_out_together(folder, tmp_path):
    for seed in range(4):
        save(tmp_path / f"{seed}.png", seed)
        for copy in range(3):
            save(tmp_path / f"copy {copy} of {seed}.png", seed)
    both = every(folder(validation=0.01))
    assert len(both["validation"].images) == 4
    held_out = {image.numpy().tobytes() for image in both["validation"].images}
    assert len(held_out) == 1
    assert not held_out & {image.numpy().tobytes() for image in both["train"].images}


@pytest.mark.parametrize("count", [1, 3])
def test_one_picture_be_it_thrice_is_too_few(folder, tmp_path, count):
    for copy in range(count):
        save(tmp_path / f"{copy}.png", 0)
    with pytest.raises(DataError, match="1 different image to use; expected at least one to train on and one to hold"):
        folder()


def test_the_order_is_that_of_the_paths_however_the_file_system_lists_them(folder, tmp_path, monkeypatch):
    names = ["b/2.png", "a/10.png", "a/9.png", "é.png", "Z.png", "a.png", "a/1.jpg"]
    for seed, name in enumerate(names):
        save(tmp_path / name, seed)
        (tmp_path / name).with_suffix(".txt").write_text(unicodedata.normalize("NFC", name))
    (tmp_path / "bad.png").write_bytes(b"")
    first = folder(validation=0.01)
    digest, skipped, captions = first.digest(), first.skipped, first.fields("train", range(6))["caption"]
    assert captions == sorted(captions, key=str.encode)
    real = os.scandir

    class Shuffled:
        seed = 0

        def __init__(self, path):
            with real(path) as entries:
                self.entries = list(entries)
            random.Random(f"{path} {Shuffled.seed}").shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(os, "scandir", Shuffled)
    for Shuffled.seed in range(5):
        again = folder(validation=0.01)
        assert (again.digest(), again.skipped) == (digest, skipped)
        assert again.fields("train", range(6))["caption"] == captions


def test_decomposed_names_find_their_captions_and_sort_as_composed_ones(folder, tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for name in ("e\u0301", "f"):  # as bytes e comes first, and \u00e9, which is the same name, last
        (tmp_path / "order").mkdir(exist_ok=True)
        (tmp_path / "order" / name).write_text("")
    assert scan(tmp_path / "order", follow_links=False).files == ["f", "e\u0301"]
    save(tmp_path / f"{composed}.png", 0)
    (tmp_path / f"{decomposed}.txt").write_text("coffee")
    save(tmp_path / "cafz.png", 1)
    (tmp_path / "cafz.txt").write_text("none")
    assert texts(folder()) == ["coffee", "none"]


def test_two_sources_of_one_directory_have_one_digest_wherever_it_lies(folder, tmp_path):
    for where in ("here", "there"):
        for seed in range(3):
            save(tmp_path / where / f"{seed}.png", seed)
            (tmp_path / where / f"{seed}.txt").write_text(f"picture {seed}")
    here, there = (folder(path=str(tmp_path / where)) for where in ("here", "there"))
    assert here.digest() == folder(path=str(tmp_path / "here")).digest() == there.digest()
    assert len(here.digest()) == 64
    assert here.digest() == folder(path=str(tmp_path / "here"), cache_mb=0, max_bad=0.5).digest()


def test_every_change_of_the_data_changes_the_digest(folder, tmp_path):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed)
        save(tmp_path / f"{seed}_map.png", seed, mode="L")
        (tmp_path / f"{seed}.txt").write_text(f"picture {seed}")
    digests = [folder().digest()]

    def changed(**keys):
        digests.append(folder(**keys).digest())

    data = bytearray((tmp_path / "0.png").read_bytes())
    (tmp_path / "0.png").write_bytes(data + b"\0")  # behind the image: the same pixels, another file
    changed()
    (tmp_path / "2.txt").write_text("another caption")
    changed()
    (tmp_path / "map_names.json").write_text(json.dumps([f"name {index}" for index in range(256)]))
    changed()
    save(tmp_path / "1_map.png", 7, mode="L")
    changed()
    save(tmp_path / "3.png", 3)
    changed()
    (tmp_path / "3.png").rename(tmp_path / "4.png")
    changed()
    for key, value in {
        **{"size": 9, "channels": 1, "resize": "squash", "filter": "box", "background": "black", "validation": 0.5}
    }.items():
        changed(**{key: value})
    assert len(set(digests)) == len(digests)


def test_the_same_index_gives_the_same_example_in_any_batch(folder, tmp_path):
    for seed in range(8):
        save(tmp_path / f"{seed}.png", seed)
    source = folder()
    together = source.read("train", range(7)).images
    for index in (6, 0, 3):
        assert torch.equal(source.read("train", [index, index]).images, together[[index, index]])
    assert source.read("train", []).images.shape == (0, 3, 8, 8)
    for index in (7, -1):
        with pytest.raises(IndexError, match=rf"example {index} of train, which has 7"):
            source.read("train", [index])


def test_a_source_survives_the_way_to_a_worker(folder, tmp_path):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed)
    source = folder(cache_mb=0)
    there = pickle.loads(pickle.dumps(source))
    assert there.digest() == source.digest()
    assert torch.equal(read_all(there), read_all(source))


# Keys


def test_without_a_path_the_key_to_type_is_named(folder):
    with pytest.raises(ConfigError, match=r"data=folder needs data\.path=DIRECTORY"):
        folder(path=None)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("size", 0, "1 or more"),
        ("validation", 0.0, "more than 0"),
        ("validation", 1.0, "below 1"),
        ("max_bad", 1.5, "0 to 1"),
        ("max_pixels", 0, "1 or more"),
        ("cache_mb", -1, "0 or more"),
    ],
)
def test_a_number_out_of_range_is_named_with_its_range(folder, key, value, expected):
    with pytest.raises(ValueError, match=rf"^{key} is {value} but must be .*{expected}$"):
        folder(**{key: value})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("background", "whit", "expected a name or '#rrggbb'"),
        ("background", "#11223344", "no opaque colour"),
    ],
)
def test_a_key_that_cannot_be_is_named_with_what_can(folder, key, value, expected):
    with pytest.raises(ConfigError, match=rf"data\.{key}=.*{expected}"):
        folder(**{key: value})

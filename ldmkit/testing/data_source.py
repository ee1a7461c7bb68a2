"""Checks of data sources."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin
from unittest import SkipTest

import torch
from torch import Tensor

from ldmkit.errors import LdmkitError
from ldmkit.protocols import DataSource
from ldmkit.registry.schema import field_types
from ldmkit.specs import FIELD_KINDS
from ldmkit.testing.process import untouched
from ldmkit.testing.suite import Suite
from ldmkit.values import Batch

SPLITS = ("train", "validation")
MOST = 256
"""Examples of a split that are compared with those of the other."""


class DataSourceSuite(Suite):
    """Checks of a part of the group ``data``. A source that has to be pointed at files does so by ``overrides``."""

    kind = "data"
    protocol = DataSource

    def found(self, part: Any) -> dict[str, Any]:
        """Its digest, and what is compared of the data."""
        prompts = Batch(part.read("validation", [0, 0, 0]).images, part.prompts(3))
        told = tuple(contents(prompts, row) for row in range(3))
        return {"digest": part.digest(), "data": fingerprint(part), "prompts": told}

    def test_it_has_examples_to_train_on_and_to_hold_out(self) -> None:
        part = self.part()
        for split in SPLITS:
            assert part.length(split) >= 1, f"expected 1 or more examples in {split}, got {part.length(split)}"

    def test_images_are_uint8_squares_of_the_declared_size(self) -> None:
        part = self.part()
        for split in SPLITS:
            for rows in ([], [0], [part.length(split) - 1, 0, 0]):
                images = part.read(split, rows).images
                expected = (len(rows), part.spec.channels, part.spec.size, part.spec.size)
                assert images.dtype == torch.uint8, f"expected uint8, got {images.dtype}"
                assert tuple(images.shape) == expected, f"expected {expected} of {split}, got {tuple(images.shape)}"

    def test_fields_are_as_declared(self) -> None:
        part = self.part()
        for split in SPLITS:
            rows = range(min(part.length(split), 32))
            fields = part.read(split, rows).fields
            assert set(fields) == set(part.spec.fields), f"expected {sorted(part.spec.fields)}, got {sorted(fields)}"
            for name, spec in part.spec.fields.items():
                assert spec.kind in FIELD_KINDS, f"expected a kind of {FIELD_KINDS}, got '{spec.kind}' of '{name}'"
                check_field(name, fields[name], spec, len(rows), part.spec.size)

    def test_an_index_always_gives_the_same_example(self) -> None:
        part = self.part()
        for split in SPLITS:
            last = part.length(split) - 1
            batch = part.read(split, [last, 0, last])
            for row, index in enumerate([last, 0, last]):
                alone = contents(part.read(split, [index]), 0)
                assert contents(batch, row) == alone, f"expected example {index} of {split} to be as alone, got another"

    def test_another_instance_has_the_same_examples_and_digest(self) -> None:
        one, other = self.part(), self.part()
        assert one.digest() == other.digest(), f"expected the same digest, got {one.digest()} and {other.digest()}"
        assert fingerprint(one) == fingerprint(other), "expected the same examples of another instance, got others"

    def test_its_digest_is_hexadecimal(self) -> None:
        digest = self.part().digest()
        hexadecimal = bool(digest) and set(digest) <= set(string.hexdigits)
        assert hexadecimal, f"expected hexadecimal digits, got '{digest}'"

    def test_what_changes_the_data_changes_the_digest(self) -> None:
        part = self.part()
        digest, examples = part.digest(), fingerprint(part)
        for key, value in self.other_values():
            try:
                other = self.part({key: value})
            except LdmkitError:
                continue
            same = other.digest() == digest and fingerprint(other) != examples
            assert not same, f"expected another digest with {key}={value!r}, which changes the data; got the same"

    def test_no_image_is_both_trained_on_and_held_out(self) -> None:
        part = self.part()
        train, held_out = (
            {contents(batch, row)[0] for row in range(len(batch.images))}
            for batch in (part.read(split, range(min(part.length(split), MOST))) for split in SPLITS)
        )
        assert not train & held_out, f"expected other images in validation than in train, got {len(train & held_out)}"

    def test_fields_alone_are_those_that_come_with_the_images(self) -> None:
        part = self.part()
        for split in SPLITS:
            rows = range(min(part.length(split), 3))
            batch = part.read(split, rows)
            alone = Batch(batch.images, part.fields(split, rows))
            for row in rows:
                assert contents(alone, row) == contents(batch, row), f"expected the fields of {split} {row}, got others"

    def test_each_example_has_a_name_of_its_own(self) -> None:
        part = self.part()
        counts = {split: min(part.length(split), MOST) for split in SPLITS}
        names = [name for split, count in counts.items() for name in part.names(split, range(count))]
        expected = sum(counts.values())
        assert len(set(names)) == expected, f"expected {expected} names, each another, got {len(set(names))}"

    def test_prompts_are_as_many_as_asked(self) -> None:
        part = self.part()
        for count in (1, 3, part.length("validation") + 2):
            prompts = part.prompts(count)
            for name in part.spec.fields:
                assert len(prompts[name]) == count, f"expected {count} of '{name}', got {len(prompts[name])}"

    def test_its_own_images_obey_their_fields(self) -> None:
        part = self.part()
        batch = part.read("validation", range(min(part.length("validation"), 32)))
        verdict = part.verify(batch.images, batch.fields)
        if verdict is None:
            raise SkipTest("it cannot verify images")
        for aspect, right in verdict.items():
            expected, got = (len(batch.images),), tuple(right.shape)
            assert got == expected, f"expected {expected} of {aspect}, got {got}"
            known = right.dtype == torch.bool or (right.is_floating_point() and not ((right < 0) | (right > 1)).any())
            assert known, f"expected bool, or a score from 0 to 1, of {aspect}, got {right.dtype} {right.tolist()}"
        assert "all" in verdict, f"expected 'all' among the aspects, got {sorted(verdict)}"
        assert verdict["all"].dtype == torch.bool, f"expected bool of all, got {verdict['all'].dtype}"
        wrong = [row for row, right in enumerate(verdict["all"]) if not right]
        assert not wrong, f"expected every image of its own to obey its fields, got {wrong} that do not"

    def test_reading_draws_no_global_random_numbers(self) -> None:
        part = self.part()
        part.read("train", [0])
        with untouched(during="reading"):
            contents(part.read("train", [0]), 0)

    def other_values(self) -> Iterator[tuple[str, Any]]:
        """Other values of the part's keys, one key at a time."""
        types = field_types(self.part_class().Config)
        for key, value in self.node().items():
            if get_origin(types[key]) is Literal:
                yield from ((key, other) for other in get_args(types[key]) if other != value)
            elif isinstance(value, bool):
                yield key, not value
            elif isinstance(value, int):
                yield from ((key, value + 1), (key, 2 * value))
            elif isinstance(value, float):
                yield from ((key, value / 2), (key, 1 - value))


def check_field(name: str, values: Any, spec: Any, rows: int, size: int) -> None:
    """Assert that ``values`` of a field are what its ``spec`` says."""
    assert len(values) == rows, f"expected {rows} of '{name}', got {len(values)}"
    if spec.kind == "text":
        texts = isinstance(values, list) and all(isinstance(text, str) for text in values)
        assert texts, f"expected a list of strings as '{name}', got {type(values).__name__}"
    elif spec.kind in ("label", "map"):
        expected = (torch.int64, (rows,) if spec.kind == "label" else (rows, size, size))
        got = (values.dtype, tuple(values.shape))
        assert got == expected, f"expected {expected} of '{name}', got {got}"
        low, high, last = int(values.min()), int(values.max()), len(spec.names) - 1
        assert min(low, last - high) >= 0, f"expected '{name}' from 0 to {last}, got {low} to {high}"
    elif spec.kind == "scalar":
        got = (values.dtype, tuple(values.shape))
        assert got == (torch.float32, (rows,)), f"expected float32 ({rows},) of '{name}', got {got}"
        assert values.isfinite().all(), f"expected finite numbers of '{name}', got {values.tolist()}"
    elif spec.kind == "boxes":
        for boxes in values:
            check_boxes(name, boxes, len(spec.names))


def check_boxes(name: str, boxes: Any, classes: int) -> None:
    """Assert that ``boxes`` of one picture are float32 (N, 5): corners in [0, 1], in order, and a class."""
    got = (boxes.dtype, boxes.ndim, boxes.shape[-1])
    assert got == (torch.float32, 2, 5), f"expected float32 (N, 5) of '{name}', got {boxes.dtype} {tuple(boxes.shape)}"
    corners, labels = boxes[:, :4], boxes[:, 4]
    inside = bool(((corners >= 0) & (corners <= 1)).all() and (corners[:, :2] < corners[:, 2:]).all())
    assert inside, f"expected left < right and top < bottom in [0, 1] of '{name}', got {corners.tolist()}"
    known = bool(((labels >= 0) & (labels < classes) & (labels == labels.round())).all())
    assert known, f"expected classes 0 to {classes - 1} of '{name}', got {labels.tolist()}"


def contents(batch: Batch, row: int) -> tuple[bytes, ...]:
    """All that one row of a batch holds, the image first."""
    values = (batch.fields[name][row] for name in sorted(batch.fields))
    texts = (value.numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode() for value in values)
    return (batch.images[row].numpy().tobytes(), *texts)


def fingerprint(part: DataSource) -> tuple[Any, ...]:
    """What of the data is compared: its size and declaration, and the first and last examples of either split."""
    found: list[Any] = [part.spec]
    for split in SPLITS:
        length = part.length(split)
        rows = sorted({*range(min(8, length)), length - 1})
        batch = part.read(split, rows)
        found += [length, *(contents(batch, row) for row in range(len(rows)))]
    return tuple(found)

"""What is known about each image beside its pixels, gathered from all the places where people write it down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ldmkit.errors import DataError
from ldmkit.specs import FieldSpec
from ldmkit_data.folder_boxes import Boxes, box_column, boxes_field, read_boxes
from ldmkit_data.folder_captions import CaptionError, caption_files, clean, read_caption
from ldmkit_data.folder_metadata import CAPTION, TEXT, Paths, Row, read_metadata
from ldmkit_data.folder_pixels import Seen
from ldmkit_data.folder_resize import Square
from ldmkit_data.folder_scan import Listing, composed, numbers_first, printable, stem

CLASS_COLUMNS = ("class", "label")
MAP_COLUMNS = ("map_file_name", "map")
MAP = "semantic"
BOXES = "boxes"
MAP_SUFFIX = "_map.png"
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test"}
LARGEST = float(np.finfo(np.float32).max)
MAP_NAMES = ("map_names.txt", "map_names.json")


@dataclass
class Annotations:
    """Fields by name, each by the path of its image; an image that lacks a field is absent from it.

    ``maps`` are paths; ``refused`` and ``notices`` as in :class:`~ldmkit_data.folder.Folder`.
    """

    images: list[str]
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    scalars: dict[str, dict[str, float]] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    maps: dict[str, str] = field(default_factory=dict)
    boxes: dict[str, Boxes] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def gather(root: Path, listing: Listing, *, class_folders: bool) -> Annotations:
    """Read every annotation below ``root``. Raises DataError for metadata that cannot be what was meant."""
    images = listing.images()
    rows = read_metadata(root, listing.files, [*images, *listing.unread(), *(path for path, _ in listing.refused)])
    maps, orphans = _maps(listing, images, rows)
    taken = {*maps.values(), *orphans}
    found = Annotations([image for image in images if image not in taken], maps=maps, rows=rows)
    found.refused += [(path, "a map without its image") for path in orphans]
    if class_folders:
        found.classes = {path: path.split("/")[0] for path in found.images if "/" in path}
    _from_columns(found)
    _from_captions(root, listing, found)
    return found


def _maps(listing: Listing, images: Sequence[str], rows: Mapping[str, Row]) -> tuple[dict[str, str], list[str]]:
    """Maps by image, and files called like maps that have no image while others do."""
    named = {stem(image) for image in images}
    called = [image for image in images if image.lower().endswith(MAP_SUFFIX) and image not in rows]
    by_stem = {composed(path[: -len(MAP_SUFFIX)]): path for path in called}
    beside = {stem_: path for stem_, path in by_stem.items() if stem_ in named}
    maps = {image: beside[stem(image)] for image in images if stem(image) in beside}
    for column in MAP_COLUMNS:
        paths = Paths.of(images, column)
        for image, row in rows.items():
            if column in row.values:
                maps[image] = paths.find(row.values[column], row.folder, row.place)
    used = set(maps.values())
    return maps, [path for path in called if path not in used] if maps else []


def _from_columns(found: Annotations) -> None:
    """Columns of the metadata => texts, scalars, classes and boxes."""
    boxes = box_column(found.rows)
    if boxes is not None:
        found.boxes = read_boxes(found.rows, boxes)
    columns = {column: None for row in found.rows.values() for column in row.values}
    if {TEXT, CAPTION} <= columns.keys():
        raise DataError(f"the metadata has the columns {TEXT!r} and {CAPTION!r}, and both are the caption; keep one")
    for column in columns:
        if column in MAP_COLUMNS or column == boxes:
            continue
        values = {image: row.values[column] for image, row in found.rows.items() if column in row.values}
        if column == next((name for name in CLASS_COLUMNS if name in columns), None):
            found.classes = {image: _class_name(value) for image, value in values.items()}
        elif any(isinstance(value, list | dict) for value in values.values()):
            found.notices.append(f"the metadata's column {column!r} holds lists or objects, which are no field yet")
        elif column != TEXT and all(isinstance(value, int | float) for value in values.values()):
            found.scalars[column] = {image: _scalar(value, found.rows[image]) for image, value in values.items()}
        else:
            found.texts[CAPTION if column == TEXT else column] = {
                image: clean(str(value)) for image, value in values.items()
            }


def _class_name(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return clean(str(int(value) if whole else value))


def _scalar(value: float, row: Row) -> float:
    if abs(value) > LARGEST:
        raise DataError(f"{row.place}: a number is above {LARGEST:.3g}, the largest that a 32-bit float holds")
    return float(value)


def _from_captions(root: Path, listing: Listing, found: Annotations) -> None:
    """Captions beside the images, unless the metadata has captions. A caption that cannot be read costs its image."""
    files = caption_files(listing.files, found.images)
    if not files:
        return
    if CAPTION in found.texts:
        found.notices.append(f"captions come from the metadata; {len(files)} caption files beside images are not used")
        return
    captions: dict[str, str] = {}
    latin1: list[str] = []
    for image, path in files.items():
        try:
            caption = read_caption(root / path)
        except CaptionError as error:
            found.refused.append((image, f"its caption {printable(path)!r} {error}"))
            continue
        if caption is not None:
            captions[image] = caption.text
            latin1 += [path] * caption.latin1
    if captions:
        found.texts[CAPTION] = captions
    if latin1:
        found.notices.append(f"{len(latin1)} captions not in UTF-8 are read as Latin-1, first {printable(latin1[0])!r}")


def map_names(root: Path, listing: Listing, highest: int) -> tuple[str, ...]:
    """Names of the classes of maps whose highest index is ``highest``: from ``map_names.txt`` or ``.json``, or numbers.

    A text file has one name a line; JSON has a list, or an object from index to name.
    """
    for name in MAP_NAMES:
        if name not in listing.files:
            continue
        try:
            text = (root / name).read_text(encoding="utf-8-sig")
            names = json.loads(text) if name.endswith(".json") else text.splitlines()
            if isinstance(names, dict):
                by_index = {int(index): value for index, value in names.items()}
                names = [by_index.get(index, str(index)) for index in range(max(by_index, default=-1) + 1)]
            if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
                raise ValueError("expected a list of names, or an object from index to name")
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{name} cannot be read: {error}") from None
        names = [clean(one) for one in names]
        while names and not names[-1]:
            names.pop()
        if len(names) <= highest:
            raise DataError(f"{name} names {len(names)} classes, but a map has index {highest}; name all of them")
        return tuple(names)
    return tuple(str(index) for index in range(highest + 1))


@dataclass
class Columns:
    """Fields of N images, ready to be indexed: ``texts`` lists of str, ``numbers`` int64 or float32 (N,), ``boxes``
    lists of float32 (boxes, 5).

    ``framing`` are numbers that the images' files alone determine. ``maps`` only names the fields that are maps, whose
    ``specs`` await the highest index.
    """

    specs: dict[str, FieldSpec]
    texts: dict[str, list[str]]
    numbers: dict[str, np.ndarray]
    boxes: dict[str, list[np.ndarray]]
    framing: dict[str, np.ndarray]
    maps: tuple[str, ...]


def columns(found: Annotations, seen: Sequence[Seen], square: Square, notices: list[str]) -> Columns:
    """Fields that all images ``seen`` have. A text that is missing is empty, with a notice; any other field that some
    of them lack is left out, with a notice."""
    images = [one.path for one in seen]
    result = Columns({}, {}, {}, {}, {}, ())
    for name, texts in found.texts.items():
        if lacking := [image for image in images if image not in texts]:
            notices.append(f"{_count(lacking, images)} have no {name!r}, which is empty there")
        result.texts[name] = [texts.get(image, "") for image in images]
        result.specs[name] = FieldSpec(kind="text")
    if len(set(found.classes.values())) > 1 and _complete("class", found.classes, images, notices):
        names = sorted({found.classes[image] for image in images}, key=numbers_first)
        index = {name: number for number, name in enumerate(names)}
        result.numbers["class"] = np.array([index[found.classes[image]] for image in images], np.int64)
        result.specs["class"] = FieldSpec(kind="label", names=tuple(printable(name) for name in names))
        if {name.lower() for name in names} <= SPLITS:
            notices.append(
                f"the folders {', '.join(names)} count as classes; if they are splits, point data.path at one"
            )
    for name, scalars in found.scalars.items():
        if _complete(name, scalars, images, notices):
            result.numbers[name] = np.array([scalars[image] for image in images], np.float32)
            result.specs[name] = FieldSpec(kind="scalar")
    if found.boxes and _complete(BOXES, found.boxes, images, notices):
        sizes = [(one.path, one.width, one.height) for one in seen]
        result.boxes[BOXES], boxed = boxes_field(found.boxes, sizes, square, notices)
        if boxed:
            result.specs[BOXES] = FieldSpec(kind="boxes", names=boxed)
        else:
            del result.boxes[BOXES]
            notices.append(f"no image has a box, so there is no field {BOXES!r}")
    framing = [square.framing(one.width, one.height) for one in seen]
    for name in [name for name in framing[0] if name not in result.specs] if framing else ():
        result.framing[name] = np.array([values[name] for values in framing], np.float32)
    if found.maps and _complete(MAP, found.maps, images, notices):
        result.maps = (MAP,)
    return result


def _complete(name: str, values: Mapping[str, Any], images: Sequence[str], notices: list[str]) -> bool:
    lacking = [image for image in images if image not in values]
    if lacking:
        notices.append(f"{_count(lacking, images)} have no {name!r}, which is therefore no field")
    return not lacking


def _count(lacking: Sequence[str], images: Sequence[str]) -> str:
    return f"{len(lacking)} of {len(images)} images, first {printable(lacking[0])!r},"


def unnamed(found: Annotations, images: Sequence[str]) -> Iterator[str]:
    """Images that the metadata, where there is any, does not name."""
    return (image for image in images if found.rows and image not in found.rows)

"""Boxes that the metadata states for an image => fractions of the square that is kept of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ldmkit.errors import DataError
from ldmkit_data.folder_captions import clean
from ldmkit_data.folder_metadata import Row
from ldmkit_data.folder_resize import Square
from ldmkit_data.folder_scan import numbers_first

PIXELS, FRACTIONS, OBJECTS = "boxes", "box_fractions", "objects"
"""Columns of boxes: [left, top, right, bottom, class] each, or {"box": [left, top, right, bottom], "label": class} as
`ldmkit sample` reads them, in pixels or in fractions; and as Hugging Face's
ImageFolder has them, {"bbox": [[x, y, width, height], ...], "categories": [...]} in pixels."""

ROUNDED = 1e-3
"""How far fractions may lie outside of 0 to 1 and still count as rounded."""


@dataclass(frozen=True)
class Boxes:
    """The boxes of one image as its line states them: ``corners`` (N, 4) and as many ``names`` of classes."""

    corners: np.ndarray
    names: tuple[str, ...]
    fractions: bool
    place: str

    def kept(self, width: int, height: int, square: Square) -> tuple[np.ndarray, np.ndarray]:
        """Corners (N, 4) as fractions of what ``square`` keeps of the image, clipped, and which of them have an area.

        Raises DataError for a box that no part of the image lies in.
        """
        corners = self.corners * ([width, height, width, height] if self.fractions else 1)
        inside = _clipped(corners, 0, 0, width, height)
        if not _has_area(inside).all():
            wrong = self.corners[~_has_area(inside)][0].tolist()
            raise DataError(f"{self.place}: the box {wrong} lies outside the image, which is {width}x{height} pixels")
        left, top, right, bottom = square.box(width, height)
        cut = _clipped(inside, left, top, right, bottom)
        return (cut - [left, top, left, top]) / np.tile([right - left, bottom - top], 2), _has_area(cut)


def box_column(rows: Mapping[str, Row]) -> str | None:
    """The one column of boxes that the metadata has; None without boxes. Raises DataError when there are two."""
    there = {column for row in rows.values() for column in row.values if column in (PIXELS, FRACTIONS)}
    if any(isinstance(row.values.get(OBJECTS), dict) and "bbox" in row.values[OBJECTS] for row in rows.values()):
        there.add(OBJECTS)
    if len(there) > 1:
        named = " and ".join(map(repr, sorted(there)))
        raise DataError(f"the metadata has the columns {named}, which are all boxes; keep one")
    return next(iter(there), None)


def read_boxes(rows: Mapping[str, Row], column: str) -> dict[str, Boxes]:
    """Boxes by image, from ``column``. Raises DataError, with the line, for what is no box."""
    found = {image: _read(column, row.values[column], row) for image, row in rows.items() if column in row.values}
    stated = [boxes.corners for boxes in found.values() if len(boxes.corners)]
    if column != FRACTIONS and stated and max(float(corners.max()) for corners in stated) <= 1:
        raise DataError(
            f"no box in the column {column!r} is larger than a pixel; call it {FRACTIONS!r} if these are fractions"
        )
    return found


def _read(column: str, value: Any, row: Row) -> Boxes:
    try:
        value = json.loads(value) if isinstance(value, str) else value
        stated = _objects(value) if column == OBJECTS else list(map(_labelled, value))
        corners = np.array([box for box, _ in stated], np.float64).reshape(-1, 4)
        names = tuple(clean(str(name)) for _, name in stated)
    except (ValueError, TypeError, KeyError, RecursionError):
        form = (
            '{"bbox": [[x, y, width, height], ...], "categories": [...]}'
            if column == OBJECTS
            else "a list of [left, top, right, bottom, class]"
        )
        raise DataError(f"{row.place}: {column!r} is {_shown(value)}; expected {form}") from None
    for corner in corners:
        if not (np.isfinite(corner).all() and corner[0] < corner[2] and corner[1] < corner[3]):
            raise DataError(f"{row.place}: the box {corner.tolist()}; expected left < right and top < bottom")
        if column == FRACTIONS and not (corner.min() >= -ROUNDED and corner.max() <= 1 + ROUNDED):
            raise DataError(
                f"{row.place}: the box {corner.tolist()} is not within 0 to 1; call the column {PIXELS!r} if these are "
                "pixels"
            )
    return Boxes(corners, names, column == FRACTIONS, row.place)


def _labelled(box: Any) -> tuple[list[float], Any]:
    if isinstance(box, dict):
        return box["box"], box["label"]
    left, top, right, bottom, name = box
    return [left, top, right, bottom], name


def _objects(value: Any) -> list[tuple[list[float], Any]]:
    names = value["categories"] if "categories" in value else value["category"]
    return [
        ([x, y, x + width, y + height], name) for (x, y, width, height), name in zip(value["bbox"], names, strict=True)
    ]


def _clipped(corners: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return corners.clip([left, top, left, top], [right, bottom, right, bottom])


def _has_area(corners: np.ndarray) -> np.ndarray:
    return np.all(corners[:, :2] < corners[:, 2:], axis=1)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def boxes_field(
    found: Mapping[str, Boxes], images: Sequence[tuple[str, int, int]], square: Square, notices: list[str]
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Boxes of ``images`` (path, width, height), float32 (N, 5) each, and the names of their classes.

    A box of which the crop leaves nothing is left out, and a notice says how many there are.
    """
    named = {name for path, _, _ in images for name in found[path].names}
    names = sorted(named, key=numbers_first)
    index = {name: number for number, name in enumerate(names)}
    fields, total, lost = [], 0, 0
    for path, width, height in images:
        corners, left = found[path].kept(width, height, square)
        labels = np.array([index[name] for name in found[path].names], np.float64)
        fields.append(np.concatenate([corners, labels[:, None]], axis=1)[left].astype(np.float32))
        total, lost = total + len(left), lost + int((~left).sum())
    if lost:
        notices.append(
            f"{lost} of {total} boxes lie outside the central square and are left out; data.resize=squash keeps them"
        )
    return fields, tuple(names)

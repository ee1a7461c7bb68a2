"""A sheet: rows of pictures, each with its name to the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CELL = 96
"""Pixels to which smaller pictures are enlarged, by whole factors."""
GAP = 4
TEXT = 14
LONGEST = 32
"""Characters of a name; what is longer is cut."""


@dataclass(frozen=True)
class Strip:
    """One row of the sheet: its name, and the PNG files in it."""

    name: str
    pictures: Sequence[Path]


def save_sheet(strips: Sequence[Strip], path: Path) -> Path | None:
    """Write ``strips`` as one PNG; return its path, or None where there is no picture to show.

    Every picture takes a cell of the size of the largest; smaller ones are enlarged by whole factors to fill it.
    """
    opened = [(strip.name, [_read(picture) for picture in strip.pictures]) for strip in strips if strip.pictures]
    if not opened:
        return None
    cell = max(CELL, *(side for _, pictures in opened for picture in pictures for side in picture.size))
    font = ImageFont.load_default(TEXT)
    names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..." for name, _ in opened]
    margin = int(max(font.getlength(name) for name in names)) + 3 * GAP
    columns = max(len(pictures) for _, pictures in opened)
    sheet = Image.new("RGB", (margin + columns * (cell + GAP), len(opened) * (cell + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, (_, pictures)) in enumerate(zip(names, opened, strict=True)):
        top = GAP + row * (cell + GAP)
        draw.text((GAP, top + cell // 2), name, "black", font, anchor="lm")
        for column, picture in enumerate(pictures):
            sheet.paste(_enlarged(picture, cell), (margin + column * (cell + GAP), top))
    sheet.save(path)
    return path


def _read(path: Path) -> Image.Image:
    with Image.open(path, formats=["PNG"]) as opened:
        return opened.convert("RGB")


def _enlarged(picture: Image.Image, cell: int) -> Image.Image:
    factor = max(1, cell // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)

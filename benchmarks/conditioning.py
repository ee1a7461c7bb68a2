"""A sheet of what models were given and what they drew, one or two rows for each finished run.

    python benchmarks/conditioning.py docs/images/conditioning.png class=outputs/runs/<id> layout=outputs/runs/<id> ...

A row of what was given stands above the samples where it can be seen: maps in colours, boxes as frames. Where pictures
were observed, the rows are those of the run's ``samples/beside.png``: given, drawn, original.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ldmkit_tasks.sheet import Strip, save_sheet
from PIL import Image, ImageDraw

from ldmkit.artifacts.checkpoint import read_json
from ldmkit.models import CONFIG, build_data, find_checkpoint
from ldmkit.specs import DataSpec
from ldmkit.values import Fields

COLUMNS = 8
GAP = 2
"""Pixels between the pictures of a run's grid."""
PALETTE = np.array(
    [(40, 40, 44), (222, 40, 42), (52, 186, 72), (58, 108, 242), (250, 226, 60), (152, 60, 204), (64, 208, 222)],
    np.uint8,
)
"""Colours of the first classes of a map or of boxes; further ones begin anew."""


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="name of the rows, and a finished run")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        strips = []
        for number, (name, _, run) in enumerate(each.partition("=") for each in asked.runs):
            place = Path(folder) / str(number)
            place.mkdir()
            strips += rows_of(name, Path(run), place)
        save_sheet(strips, asked.out)


def rows_of(name: str, run: Path, place: Path) -> Iterator[Strip]:
    """Yield the rows of one run; pictures that are made for them go to ``place``."""
    if (run / "samples" / "beside.png").is_file():
        for row, pictures in zip(
            ("given", "drawn", "original"), cut(run / "samples" / "beside.png", place), strict=True
        ):
            yield Strip(f"{name}: {row}", pictures)
        return
    config = read_json(find_checkpoint(str(run)) / CONFIG)
    data = build_data(config)
    prompts = data.prompts(COLUMNS)
    needs = {field for node in config["cond"].values() if (field := node.get("field"))}
    for field in sorted(needs):
        drawn = list(shown(field, data.spec, prompts))
        if drawn:
            paths = [place / f"{field}-{index}.png" for index in range(len(drawn))]
            for picture, path in zip(drawn, paths, strict=True):
                picture.save(path)
            yield Strip(f"{name}: {field}", paths)
    yield Strip(f"{name}: drawn" if needs else name, sorted((run / "samples").glob("[0-9]*.png"))[:COLUMNS])


def shown(field: str, data: DataSpec, prompts: Fields) -> Iterator[Image.Image]:
    """Yield a field as pictures, where it is of a kind that can be seen."""
    kind = data.fields[field].kind
    if kind == "map":
        for classes in np.asarray(prompts[field]):
            yield Image.fromarray(PALETTE[classes % len(PALETTE)])
    elif kind == "boxes":
        for boxes in prompts[field]:
            yield framed(np.asarray(boxes), data)


def framed(boxes: np.ndarray, data: DataSpec) -> Image.Image:
    """Draw boxes (N, 5), fractions and class, as frames with the names of their classes."""
    side = 128
    picture = Image.new("RGB", (side, side), (40, 40, 44))
    draw = ImageDraw.Draw(picture)
    names = data.fields["boxes"].names
    for left, top, right, bottom, label in boxes:
        draw.rectangle([side * left, side * top, side * right, side * bottom], outline="white", width=2)
        words = names[int(label)].replace(" ", "\n")
        draw.multiline_text((side * (left + right) / 2, side * (top + bottom) / 2), words, "white", anchor="mm")
    return picture


def cut(sheet: Path, place: Path) -> list[list[Path]]:
    """Cut a grid of three rows of square pictures into its cells."""
    with Image.open(sheet) as opened:
        picture = opened.convert("RGB")
    size, rows = (picture.height - 2 * GAP) // 3, []
    for row in range(3):
        rows.append([place / f"{row}-{column}.png" for column in range(COLUMNS)])
        for column, path in enumerate(rows[-1]):
            left, top = column * (size + GAP), row * (size + GAP)
            picture.crop((left, top, left + size, top + size)).save(path)
    return rows


if __name__ == "__main__":
    main()

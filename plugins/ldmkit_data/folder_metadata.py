"""``metadata.jsonl`` and ``metadata.csv``: one line an image, as Hugging Face's ImageFolder has them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ldmkit.errors import DataError, nearest
from ldmkit_data.folder_captions import clean
from ldmkit_data.folder_scan import composed, printable

NAMES = ("metadata.jsonl", "metadata.csv")
REFUSED = ("metadata.parquet", "metadata.json")
FILE, TEXT, CAPTION = "file_name", "text", "caption"
MAX_LINE = 1 << 20  # characters


@dataclass(frozen=True)
class Row:
    """The columns of one image; ``place`` says where they are, as ``metadata.csv line 3``, and in which ``folder``."""

    values: dict[str, Any]
    place: str
    folder: str


@dataclass(frozen=True)
class Paths:
    """Finds what a column means among the paths below the root; ``column`` is what it is called."""

    known: dict[str, str]
    column: str

    @classmethod
    def of(cls, paths: Iterable[str], column: str) -> Paths:
        return cls({composed(path): path for path in paths}, column)

    def find(self, name: Any, folder: str, place: str) -> str:
        """Return the path that ``name``, relative to ``folder``, stands for. Raises DataError when there is none."""
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise DataError(f"{place}: {self.column} is {name!r}; expected the relative path of a file")
        windows = PureWindowsPath(name)
        if windows.anchor or windows.drive or PurePosixPath(name).is_absolute() or ".." in windows.parts:
            raise DataError(f"{place}: {self.column} {name!r} leads out of the directory; expected a path inside it")
        for spelling in (name, name.replace("\\", "/")):
            path = composed(str(PurePosixPath(folder) / spelling))
            if path in self.known:
                return self.known[path]
        near = nearest(composed(str(PurePosixPath(folder) / name)), list(self.known)[:10_000])
        hint = f"; did you mean {printable(self.known[near])!r}?" if near else ""
        raise DataError(f"{place}: there is no image {name!r}{hint}")


def read_metadata(root: Path, files: Iterable[str], images: Iterable[str]) -> dict[str, Row]:
    """Rows by the path of their image, one of ``images``, over every metadata file below ``root``; or none at all.

    Raises DataError, with the number of the line, for lines that cannot be read, that name no image, or that name one
    twice.
    """
    paths = Paths.of(images, FILE)
    rows: dict[str, Row] = {}
    sources: dict[str, str] = {}
    for path in files:
        name = PurePosixPath(path).name
        if name in REFUSED:
            raise DataError(f"{printable(path)!r} is not read; save it as metadata.jsonl or metadata.csv")
        if name not in NAMES:
            continue
        folder = str(PurePosixPath(path).parent)
        if folder in sources:
            raise DataError(f"there are {sources[folder]!r} and {printable(path)!r}; keep one")
        sources[folder] = printable(path)
        for number, values in _lines(root / path, printable(path)):
            place = f"{printable(path)} line {number}"
            if FILE not in values:
                near = nearest(FILE, values)
                hint = f"; did you mean to call {near!r} so?" if near else ""
                raise DataError(f"{place}: there is no {FILE}{hint}")
            image = paths.find(values[FILE], folder, place)
            if image in rows:
                raise DataError(f"{place}: {printable(image)!r} is named again, after {rows[image].place}")
            rows[image] = Row({key: value for key, value in values.items() if key != FILE}, place, folder)
    return rows


def _lines(path: Path, shown: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and columns of one file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from (_jsonl(file, shown) if path.suffix == ".jsonl" else _csv(file, shown))
    except UnicodeDecodeError:
        raise DataError(f"{shown} is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{shown} cannot be read: {error.strerror}") from None


def _jsonl(file: Any, shown: str) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if not line.strip():
            continue
        if len(line) > MAX_LINE:
            raise DataError(f"{shown} line {number}: the line is over 1 MiB")
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{shown} line {number}: not JSON ({error})") from None
        if not isinstance(values, dict):
            raise DataError(f"{shown} line {number}: {type(values).__name__}; expected an object, {{...}}")
        for key, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise DataError(f"{shown} line {number}: {key!r} is {value}; expected a finite number")
        yield number, {clean(key): value for key, value in values.items() if value is not None}


def _csv(file: Any, shown: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(file, strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        for values in reader:
            if None in values or None in values.values():
                raise DataError(f"{shown} line {reader.line_num}: not as many columns as the first line has")
            rows.append((reader.line_num, {clean(key): value for key, value in values.items() if value}))
    except csv.Error as error:
        raise DataError(f"{shown} line {reader.reader.line_num}: {error}") from None
    texts = {key for _, row in rows for key, value in row.items() if _number(value) is None} | {FILE, TEXT, CAPTION}
    for number, row in rows:
        yield number, {key: value if key in texts else _number(value) for key, value in row.items()}


def _number(cell: str) -> int | float | None:
    """The finite number that a cell of CSV spells, or None."""
    for kind in (int, float):
        try:
            number = kind(cell)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None

"""Captions that lie beside their images: ``cat.jpg`` and ``cat.txt``."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldmkit_data.folder_scan import stem, suffix

EXTENSIONS = (".txt", ".caption", ".json")
"""Where a caption is looked for; the first that there is counts."""

KEYS = ("caption", "text", "tags")
"""Keys of a JSON caption; the first that there is counts. A list of tags is joined by commas."""

MAX_BYTES = 1 << 20
BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class CaptionError(Exception):
    """A caption file that cannot be read; the message is the reason, in one line."""


@dataclass(frozen=True)
class Caption:
    """The text, and whether its file was not Unicode and has been read as Latin-1."""

    text: str
    latin1: bool = False


def caption_files(files: Iterable[str], images: Iterable[str]) -> dict[str, str]:
    """The caption file of each image that has one: paths by path."""
    beside: dict[str, dict[str, str]] = {}
    for path in files:
        if suffix(path) in EXTENSIONS:
            beside.setdefault(stem(path), {})[suffix(path)] = path
    found = {}
    for image in images:
        candidates = beside.get(stem(image), {})
        for extension in EXTENSIONS:
            if extension in candidates:
                found[image] = candidates[extension]
                break
    return found


def read_caption(path: Path) -> Caption | None:
    """Read one caption file; None when it is JSON of something else. Raises :class:`CaptionError`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CaptionError(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise CaptionError("is over 1 MiB; a caption is a sentence")
    text, latin1 = _decode(data)
    if suffix(path.name) == ".json":
        parsed = _from_json(text)
        return None if parsed is None else Caption(clean(parsed), latin1)
    return Caption(clean(text), latin1)


def clean(text: str) -> str:
    """One line: white space and control characters, line ends and NUL among them, become single spaces.

    Halves of a surrogate pair, which JSON can hold and no file can, become U+FFFD.
    """
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    visible = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in whole)
    return " ".join(visible.split())


def _decode(data: bytes) -> tuple[str, bool]:
    encoding = BYTE_ORDER_MARKS.get(data[:2], "utf-8-sig")
    try:
        return data.decode(encoding), False
    except UnicodeDecodeError:
        return data.decode("latin-1"), True


def _from_json(text: str) -> str | None:
    try:
        parsed: Any = json.loads(text) if text.strip() else None
    except ValueError as error:
        raise CaptionError(f"is not JSON: {error}") from None
    except RecursionError:
        raise CaptionError("is JSON that is nested too deeply") from None
    if not isinstance(parsed, dict):
        return None
    for key in KEYS:
        value = parsed.get(key)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
            return ", ".join(value)
        if value is not None:
            raise CaptionError(f"has a {type(value).__name__} at {key!r}; expected text or a list of tags")
    return None

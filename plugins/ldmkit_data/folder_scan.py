"""What lies in a directory: regular files only, in an order that no file system decides."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ldmkit.errors import DataError

READ = re.compile(r"\.(jpe?g|jpe|jfif|a?png|webp|gif|bmp|tiff?|avif|p[pgbn]m)")
UNREAD = re.compile(
    r"\.(hei[cf]|svgz?|psd|xcf|fits?|jp2|j2k|jpx|jxl|ico|tga|exr|hdr|dng|cr[23]|nef|arw|raf|orf|rw2|eps|pcx|qoi|dds|pfm)"
)
"""Images that are not decoded: they are listed as bad, for to ignore them would lose them silently."""


OUTSIDE = "a link that leads out of the directory; data.follow_links=true follows it"


@dataclass(frozen=True)
class Listing:
    """Relative POSIX paths below a root, in order. ``refused`` are (path, reason) of what was met but not entered."""

    files: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def images(self) -> list[str]:
        """Files whose extension is that of an image that is decoded."""
        return [path for path in self.files if READ.fullmatch(suffix(path))]

    def unread(self) -> list[str]:
        """Files whose extension is that of an image that is not decoded."""
        return [path for path in self.files if UNREAD.fullmatch(suffix(path))]


def suffix(path: str) -> str:
    """Extension in lower case, with its dot."""
    return PurePosixPath(path).suffix.lower()


def stem(path: str) -> str:
    """Path without its extension, in Unicode's composed form: what a file and those beside it have in common."""
    return composed(str(PurePosixPath(path).with_suffix("")))


def composed(path: str) -> str:
    """Unicode NFC; file systems differ in what they make of an accent."""
    return unicodedata.normalize("NFC", path)


def order(path: str) -> tuple[bytes, bytes]:
    """Sort key: the bytes of the composed path, then the bytes as they are."""
    return os.fsencode(composed(path)), os.fsencode(path)


def numbers_first(name: str) -> tuple[int, int, str]:
    """Sort key of names: whole numbers by their value, then the others."""
    return (0, int(name), name) if name.isascii() and name.isdigit() else (1, 0, composed(name))


def printable(path: str) -> str:
    """Path as text that every terminal and file takes: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def scan(root: Path, *, follow_links: bool) -> Listing:
    """List ``root`` and all below it. Hidden files, FIFOs and devices are left out.

    A symbolic link that leads out of ``root`` is refused unless ``follow_links``; one back up is not entered.
    """
    listing = Listing()
    try:
        start = root.resolve(strict=True)
        if not start.is_dir():
            raise DataError(f"data.path={str(root)!r} is a file; expected a directory of images")
    except OSError as error:
        raise DataError(f"data.path={str(root)!r} cannot be read: {error.strerror}") from None
    pending: list[tuple[str, Path, tuple[tuple[int, int], ...]]] = [("", start, (_identity(start),))]
    while pending:
        prefix, directory, above = pending.pop()
        try:
            with os.scandir(directory) as entries:
                found = sorted(entries, key=lambda entry: order(entry.name))
        except OSError as error:
            listing.refused.append((prefix or ".", f"cannot be read: {error.strerror}"))
            continue
        for entry in found:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.is_symlink() and not follow_links and not _inside(entry.path, start):
                listing.refused.append((path, OUTSIDE))
            elif _is(entry.is_dir):
                identity = _identity(Path(entry.path))
                if identity not in above:
                    pending.append((path, Path(entry.path), (*above, identity)))
            elif _is(entry.is_file):
                listing.files.append(path)
            elif entry.is_symlink() and READ.fullmatch(suffix(path)):
                listing.refused.append((path, "a link that leads nowhere"))
    listing.files.sort(key=order)
    listing.refused.sort(key=lambda pair: order(pair[0]))
    return listing


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _inside(link: str, root: Path) -> bool:
    """Whether the link ends within ``root``, be there a file or not."""
    return Path(os.path.realpath(link)).is_relative_to(root)


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link to itself
        return False

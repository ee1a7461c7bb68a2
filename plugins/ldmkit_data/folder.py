"""Real images from a directory."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import ImageColor

from ldmkit.errors import ConfigError, DataError
from ldmkit.protocols import DataSource
from ldmkit.registry.ranges import above, at_least, below_one, between
from ldmkit.specs import DataSpec, FieldSpec
from ldmkit.values import Batch, Fields
from ldmkit_data.folder_fields import MAP, Annotations, Columns, columns, gather, map_names, unnamed
from ldmkit_data.folder_pixels import Pixels
from ldmkit_data.folder_resize import Square
from ldmkit_data.folder_scan import Listing, order, printable, scan, suffix

VERSION = 1  # of the pixels and fields made of a file; to be raised with every change of them
SHOWN = 5  # files named in one message

logger = logging.getLogger(__name__)


class Folder(DataSource):
    """Images below a directory as squares of ``size`` pixels, with whatever is written about them there.

    Fields: ``caption``, from files beside the images or the metadata; ``class``, from folders or a column;
    ``semantic``, from maps beside the images or a column; ``boxes``, from a column; every other column of the metadata;
    size and crop of the original, unless columns state them. Each file is decoded once
    when the source is built. ``skipped`` holds (path, reason) of the bad files, which every run leaves out alike;
    ``notices`` what else a user should know, one line each.

    Raises ConfigError for a key that cannot be; DataError for a directory that cannot be read, for metadata that is
    wrong, with its line, when more than ``max_bad`` of the files are bad, and when fewer than two images are left.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        path: str | None
        size: int
        channels: Literal[3, 1]
        resize: Literal["crop", "squash"]
        filter: Literal["lanczos", "bicubic", "bilinear", "box"]
        upscale: bool
        background: str
        class_folders: bool
        validation: float
        max_pixels: int
        max_bad: float
        follow_links: bool
        cache_mb: int

        def __post_init__(self) -> None:
            at_least(1, size=self.size, max_pixels=self.max_pixels)
            above(0, validation=self.validation)
            below_one(validation=self.validation)
            between(0, 1, max_bad=self.max_bad)
            at_least(0, cache_mb=self.cache_mb)

    def __init__(self, config: Config) -> None:
        self.config = config
        background = _background(config)
        root = Path(str(config.path)).expanduser()
        listing = scan(root, follow_links=config.follow_links)
        found = gather(root, listing, class_folders=config.class_folders)
        self.notices: list[str] = found.notices
        square = Square(config.size, config.resize, config.filter)
        self._pixels = Pixels(
            root,
            square,
            channels=config.channels,
            background=background,
            max_pixels=config.max_pixels,
            cache_bytes=config.cache_mb << 20,
        )
        self.skipped = self._check_files(listing, found)
        self._leave_out_small()
        _check_named(found, [seen.path for seen in self._pixels.seen])
        self._columns = columns(found, self._pixels.seen, square, self.notices)
        self._splits = self._split()
        if self._columns.maps:
            names = map_names(root, listing, max(seen.highest for seen in self._pixels.seen))
            self._columns.specs[MAP] = FieldSpec(kind="map", names=names)
        framing = dict.fromkeys(self._columns.framing, FieldSpec(kind="scalar"))
        fields = {**self._columns.specs, **framing}
        self.spec = DataSpec(size=config.size, channels=config.channels, fields=fields)
        for notice in self.notices:
            logger.warning("data.path=%r: %s", config.path, notice)

    def digest(self) -> str:
        """sha256 over what makes pixels of files, the files' paths and contents, the fields, and who is held out.

        Fields that the files alone determine are in the files' contents.
        """
        config = self.config
        digest = hashlib.sha256()

        def add(value: Any) -> None:
            digest.update(json.dumps(value).encode() + b"\n")

        add([VERSION, config.size, config.channels, config.resize, config.filter, config.background, config.validation])
        for seen in self._pixels.seen:
            add([seen.path, seen.sha256, seen.map_sha256])
        for name, spec in self._columns.specs.items():
            add([name, spec.kind, spec.names])
        for name, texts in self._columns.texts.items():
            add([name, texts])
        for name, numbers in self._columns.numbers.items():
            add([name, numbers.tolist()])
        for name, boxes in self._columns.boxes.items():
            add([name, [one.tolist() for one in boxes]])
        return digest.hexdigest()

    def length(self, split: str) -> int:
        """Number of images in ``split``."""
        return len(self._splits[split])

    def read(self, split: str, indices: Sequence[int]) -> Batch:
        """Examples of ``split``: train in the order of paths, validation in the order of hashes, which mixes them."""
        rows = self._rows(split, indices)
        return Batch(torch.from_numpy(self._pixels.images(rows)), dict(self.fields(split, indices)))

    def fields(self, split: str, indices: Sequence[int]) -> Fields:
        """Fields of examples of ``split``; no image is decoded, and maps are only when they are asked for."""
        return LateFields(self._columns, self._rows(split, indices), self._pixels)

    def names(self, split: str, indices: Sequence[int]) -> list[str]:
        """Paths of the files below the directory, with slashes."""
        return [self._pixels.seen[row].path for row in self._rows(split, indices)]

    def prompts(self, count: int) -> Fields:
        """Fields of the first ``count`` images that are held out, over again where there are fewer."""
        length = self.length("validation")
        return self.fields("validation", [index % length for index in range(count)])

    def _rows(self, split: str, indices: Sequence[int]) -> list[int]:
        rows = self._splits[split]
        for index in indices:
            if not 0 <= index < len(rows):
                raise IndexError(f"example {index} of {split}, which has {len(rows)}")
        return [rows[index] for index in indices]

    def _check_files(self, listing: Listing, found: Annotations) -> tuple[tuple[str, str], ...]:
        """Decode everything; return the bad files. Stops as soon as there are too many."""
        bad = [*listing.refused, *found.refused]
        bad += [(path, f"{suffix(path)} is not read; convert it to PNG, JPEG or WebP") for path in listing.unread()]
        refused = {path for path, _ in bad}
        images = [path for path in found.images if path not in refused]
        total = len(images) + len(bad)
        if not total:
            raise DataError(f"data.path={self.config.path!r} has no images; there are {len(listing.files)} other files")
        self._stop_above_max_bad(bad, total)
        for path, reason in self._pixels.check(images, found.maps):
            if reason is not None:
                bad.append((path, reason))
                self._stop_above_max_bad(bad, total)
        if bad:
            self.notices.append(f"{_files(len(bad), total)} left out as bad: {_list(bad)}")
        return tuple((printable(path), reason) for path, reason in sorted(bad, key=lambda pair: order(pair[0])))

    def _stop_above_max_bad(self, bad: list[tuple[str, str]], total: int) -> None:
        if len(bad) > self.config.max_bad * total:
            raise DataError(
                f"data.path={self.config.path!r}: {_files(len(bad), total)} bad, more than data.max_bad="
                f"{self.config.max_bad:g} allows: {_list(bad)}"
            )

    def _leave_out_small(self) -> None:
        seen = self._pixels.seen
        if not (small := sum(one.small for one in seen)):
            return
        what = f"{small} of {len(seen)} images have a side below {self.config.size} pixels and are"
        if self.config.upscale:
            self.notices.append(f"{what} enlarged; data.upscale=false leaves them out")
            return
        self.notices.append(f"{what} left out; data.upscale=true enlarges them")
        self._pixels.keep([number for number, one in enumerate(seen) if not one.small])

    def _split(self) -> dict[str, list[int]]:
        """Hold out the share with the smallest sha256, and whatever has the same content as one of these."""
        seen = self._pixels.seen
        by_hash = sorted(range(len(seen)), key=lambda row: (seen[row].sha256, row))
        count = math.ceil(self.config.validation * len(seen))
        while 0 < count < len(seen) and seen[by_hash[count]].sha256 == seen[by_hash[count - 1]].sha256:
            count += 1
        if count >= len(seen):
            different = len({one.sha256 for one in seen})
            what = f"data.path={self.config.path!r} has {different} different image{'s' * (different != 1)} to use"
            share = f"data.validation={self.config.validation:g}"
            raise DataError(
                "; ".join([what, f"expected at least one to train on and one to hold out ({share})", *self.notices])
            )
        return {"train": sorted(by_hash[count:]), "validation": by_hash[:count]}


class LateFields(Mapping[str, Any]):
    """Fields of the images ``rows``, each made when it is asked for: maps are costly and mostly not wanted."""

    def __init__(self, known: Columns, rows: list[int], pixels: Pixels) -> None:
        self._known, self._rows, self._pixels = known, rows, pixels

    def __getitem__(self, name: str) -> Any:
        if name in self._known.texts:
            return [self._known.texts[name][row] for row in self._rows]
        for numbers in (self._known.numbers, self._known.framing):
            if name in numbers:
                return torch.from_numpy(numbers[name][self._rows])
        if name in self._known.boxes:
            return [torch.from_numpy(self._known.boxes[name][row].copy()) for row in self._rows]
        if name in self._known.maps:
            return torch.from_numpy(self._pixels.maps(self._rows))
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        known = self._known
        return iter((*known.texts, *known.numbers, *known.boxes, *known.framing, *known.maps))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _background(config: Folder.Config) -> tuple[int, int, int]:
    """Red, green, blue of the background; ConfigError where there is no path or no such colour."""
    if not config.path:
        raise ConfigError("data=folder needs data.path=DIRECTORY, the directory of your images")
    try:
        red, green, blue, *alpha = ImageColor.getrgb(config.background)
    except ValueError:
        alpha = [0]
    if alpha:
        raise ConfigError(f"data.background={config.background!r} is no opaque colour; expected a name or '#rrggbb'")
    return red, green, blue


def _check_named(found: Annotations, images: Sequence[str]) -> None:
    missing = [printable(path) for path in unnamed(found, images)]
    if missing:
        shown = ", ".join(repr(path) for path in missing[:SHOWN])
        raise DataError(
            f"the metadata names {len(images) - len(missing)} of {len(images)} images; not {shown}"
            f"{', ...' if len(missing) > SHOWN else ''}; add their lines or move them out"
        )


def _files(count: int, total: int) -> str:
    return f"{count} of {total} files {'is' if count == 1 else 'are'}"


def _list(bad: Sequence[tuple[str, str]]) -> str:
    shown = "; ".join(f"{printable(path)!r}: {reason}" for path, reason in bad[:SHOWN])
    return shown + (f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else "")

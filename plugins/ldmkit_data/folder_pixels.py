"""Decodes every file once to see that it can be, keeps what fits in memory, decodes the rest whenever it is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from tqdm import tqdm

from ldmkit.errors import DataError
from ldmkit_data.decode import UndecodableError, decode, decode_map, decoding
from ldmkit_data.folder_resize import Square
from ldmkit_data.folder_scan import printable

BLOCK = 64  # images in flight


@dataclass(frozen=True)
class Seen:
    """One image that can be decoded, and its map: sha256 of each file; the highest index of the map; pixels of the
    upright image."""

    path: str
    map: str | None
    sha256: str
    map_sha256: str
    highest: int
    small: bool
    width: int
    height: int


class Pixels:
    """Images and maps of files below ``root`` as squares of ``square.size`` pixels.

    ``channels``, ``background`` and ``max_pixels`` as in :mod:`ldmkit_data.decode`; ``cache_bytes`` bounds the memory.
    """

    def __init__(
        self,
        root: Path,
        square: Square,
        *,
        channels: int,
        background: tuple[int, int, int],
        max_pixels: int,
        cache_bytes: int,
    ) -> None:
        self.root, self.square = root, square
        self.channels, self.background, self.max_pixels = channels, background, max_pixels
        self.cache_bytes = cache_bytes
        self.seen: list[Seen] = []

    def check(self, images: Sequence[str], maps: dict[str, str]) -> Iterator[tuple[str, str | None]]:
        """Decode ``images`` and their ``maps`` in order, yielding each path with None or the reason against it."""
        size = self.square.size
        row_bytes = size * size * (self.channels + 2 * bool(maps))
        rows = min(len(images), self.cache_bytes // row_bytes)
        self._images = np.empty((rows, self.channels, size, size), np.uint8)
        self._maps = np.empty((rows if maps else 0, size, size), np.uint16)
        self._row: list[int] = []

        def examine(item: tuple[int, str]) -> Seen | str:
            row, path = item
            try:
                return self._examine(path, maps.get(path), row if row < rows else None)
            except UndecodableError as error:
                return str(error)

        with tqdm(total=len(images), desc="checking images", unit="img", delay=2, disable=None, leave=False) as bar:
            for start in range(0, len(images), BLOCK):
                block = list(enumerate(images[start : start + BLOCK], start))
                for (row, path), result in zip(block, self._parallel(examine, block), strict=True):
                    bar.update()
                    if isinstance(result, str):
                        yield path, result
                        continue
                    self.seen.append(result)
                    self._row.append(row)
                    yield path, None

    def keep(self, numbers: Sequence[int]) -> None:
        """Forget all but the images ``numbers`` of :attr:`seen`."""
        self.seen = [self.seen[number] for number in numbers]
        self._row = [self._row[number] for number in numbers]

    def images(self, numbers: Sequence[int]) -> np.ndarray:
        """Images ``numbers`` of :attr:`seen`: uint8 (B, C, size, size)."""
        return self._read(numbers, self._images, self._read_image)

    def maps(self, numbers: Sequence[int]) -> np.ndarray:
        """Maps of images ``numbers`` of :attr:`seen`: int64 (B, size, size)."""
        return self._read(numbers, self._maps, self._read_map).astype(np.int64)

    def _read(self, numbers: Sequence[int], cache: np.ndarray, decode_one: Callable[[int], np.ndarray]) -> np.ndarray:
        result = np.empty((len(numbers), *cache.shape[1:]), cache.dtype)
        rows = np.array([self._row[number] for number in numbers], np.int64)
        cached = rows < len(cache)
        result[cached] = cache[rows[cached]]
        missing = np.flatnonzero(~cached)
        if len(missing):
            decoded = self._parallel(decode_one, [numbers[index] for index in missing.tolist()])
            for index, value in zip(missing, decoded, strict=True):
                result[index] = value
        return result

    def _examine(self, path: str, map_path: str | None, row: int | None) -> Seen:
        image, digest = self._open(path, self._decode)
        map_digest, highest = "", -1
        if map_path is not None:
            try:
                indices, map_digest = self._open(map_path, decode_map)
            except UndecodableError as error:
                raise UndecodableError(f"its map {printable(map_path)!r}: {error}") from None
            if indices.size != image.size:
                is_, has = "{}x{}".format(*indices.size), "{}x{}".format(*image.size)
                raise UndecodableError(f"its map {printable(map_path)!r} is {is_} pixels, but the image is {has}")
            highest = int(np.asarray(indices).max())
            if row is not None:
                self._maps[row] = self.square.indices(indices)
        if row is not None:
            self._images[row] = self.square.pixels(image)
        return Seen(path, map_path, digest, map_digest, highest, self.square.enlarges(*image.size), *image.size)

    def _decode(self, file: BinaryIO) -> Image.Image:
        return decode(file, channels=self.channels, background=self.background)

    def _open(self, path: str, decoder: Callable[[BinaryIO], Image.Image]) -> tuple[Image.Image, str]:
        """Decode one file; return it with the sha256 of its bytes."""
        try:
            with (self.root / path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
                return decoder(file), digest
        except OSError as error:
            raise UndecodableError(f"cannot be read: {error.strerror}") from None
        except MemoryError:
            raise DataError(f"{printable(path)!r} needs more memory than there is; lower data.max_pixels") from None

    def _read_image(self, number: int) -> np.ndarray:
        seen = self.seen[number]
        return self.square.pixels(self._again(seen.path, seen.sha256, self._decode))

    def _read_map(self, number: int) -> np.ndarray:
        seen = self.seen[number]
        assert seen.map is not None
        return self.square.indices(self._again(seen.map, seen.map_sha256, decode_map))

    def _again(self, path: str, sha256: str, decoder: Callable[[BinaryIO], Image.Image]) -> Image.Image:
        """Decode a file that could be decoded before. Raises DataError when it is no longer the same."""
        try:
            image, digest = self._open(path, decoder)
        except UndecodableError as error:
            raise DataError(f"{printable(path)!r} could be read at the start and now: {error}") from None
        if digest != sha256:
            raise DataError(f"{printable(path)!r} has changed since the start; start again with the files as they are")
        return image

    def _parallel(self, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Results in order. Pillow decodes and scales without holding the interpreter's lock."""
        with decoding(self.max_pixels), ThreadPoolExecutor(min(len(items), _cores(), 8)) as pool:
            return list(pool.map(work, items))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

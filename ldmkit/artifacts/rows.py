"""Single rows of tensors that are too large to be read whole."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldmkit.errors import CheckpointError

DTYPES = {"F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in its file: rows of ``shape`` one behind the other, from byte ``start`` on."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    row_bytes: int


class TensorRows:
    """The floating-point tensors of a safetensors file that all have one length, read row by row.

    Between two reads nothing is held but the header: no file is open, nothing is mapped, and memory does not grow with
    the rows that have been read. The system keeps in its cache of files what it finds room for. Layout of the file: 8
    bytes with the length of the header, the header as JSON, the tensors (github.com/huggingface/safetensors, "Format").

    Raises CheckpointError that names the file when it is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size))
            header.pop("__metadata__", None)
            (self._length,) = {node["shape"][0] for node in header.values()}
            self._places = {name: _place(node, 8 + size) for name, node in header.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError) as error:
            raise CheckpointError(f"cannot read '{path}': {error!r}") from error

    def __len__(self) -> int:
        return self._length

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of a row of each tensor."""
        return {name: place.shape for name, place in self._places.items()}

    def read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Read ``rows`` of every tensor: (len(rows), ...) each, in the type they are stored in."""
        if not all(0 <= row < self._length for row in rows):
            raise IndexError(f"'{self._path}' has rows 0 to {self._length - 1}, not all of {list(rows)}")
        read = {}
        try:
            with self._path.open("rb", buffering=0) as file:
                for name, place in self._places.items():
                    values = torch.empty(len(rows), *place.shape, dtype=place.dtype)
                    memory = values.numpy().view(np.uint8).reshape(len(rows), place.row_bytes)
                    for into, row in zip(memory, rows, strict=True):
                        file.seek(place.start + row * place.row_bytes)
                        if file.readinto(into.data) != place.row_bytes:
                            raise CheckpointError(f"'{self._path}' ends before row {row}")
                    read[name] = values
        except OSError as error:
            raise CheckpointError(f"cannot read '{self._path}': {error}") from error
        return read


def _place(node: dict[str, Any], begin: int) -> _Place:
    dtype, shape = DTYPES[node["dtype"]], tuple(node["shape"][1:])
    return _Place(dtype, shape, begin + node["data_offsets"][0], math.prod(shape) * dtype.itemsize)

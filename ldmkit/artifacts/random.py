"""Randomness without state: every number is a pure function of (seed, stage, step, sample index, purpose).

Nothing has to be saved to resume exactly, and the numbers of one sample do not depend on the batch it is in, on the
number of loader workers or on the device. The generator is the counter-based Philox (Salmon et al. 2011, "Parallel
random numbers: as easy as 1, 2, 3"), keyed by a hash of that tuple.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def generator(*key: int | str) -> np.random.Generator:
    """Return the generator that belongs to ``key``; equal keys give equal streams, different keys independent ones."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def permutation(length: int, *key: int | str) -> np.ndarray:
    """Return the order 0..``length``-1 shuffled by the stream of ``key``: int64 (length,)."""
    return generator(*key).permutation(length)


@dataclass(frozen=True)
class RowRandom:
    """The random numbers of B rows, each row with a stream of its own; ``keys`` has one tuple for each row."""

    keys: Sequence[tuple[int | str, ...]]

    @classmethod
    def of(cls, seed: int, stage: str, step: int, indices: Sequence[int]) -> RowRandom:
        """Rows ``indices`` of the batch at ``step`` of ``stage``."""
        return cls([(seed, stage, step, int(index)) for index in indices])

    def __len__(self) -> int:
        return len(self.keys)

    def normal(
        self,
        purpose: str,
        shape: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Standard normal numbers (B, *shape)."""
        double = dtype == torch.float64
        kind = np.float64 if double else np.float32
        rows = np.empty((len(self), *shape), kind)
        for row, key in zip(rows, self.keys, strict=True):
            generator(*key, purpose).standard_normal(out=row, dtype=kind)
        return torch.from_numpy(rows).to(device=device, dtype=dtype)

    def uniform(self, purpose: str, shape: Sequence[int] = (), *, device: torch.device | str = "cpu") -> Tensor:
        """Numbers uniform in [0, 1): float32 (B, *shape)."""
        rows = np.empty((len(self), *shape), np.float32)
        for index, key in enumerate(self.keys):
            rows[index] = generator(*key, purpose).random(shape, dtype=np.float32)
        return torch.from_numpy(rows).to(device)

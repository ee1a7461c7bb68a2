"""Embeddings that are computed already."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Embedding:
    """What an encoder gives for one text: ``tokens`` (M, D) and ``vector`` (D,), on the CPU."""

    tokens: Tensor
    vector: Tensor

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.tokens.nbytes + self.vector.nbytes


class Cache:
    """Embeddings by the sha256 of their text, at most ``capacity`` bytes of them; those used last are kept."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.used = capacity, 0
        self._kept: OrderedDict[bytes, Embedding] = OrderedDict()

    def get(self, text: str, make: Callable[[str], Embedding]) -> Embedding:
        """The embedding of ``text``, made if it is not there."""
        key = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        embedding = make(text)
        self._kept[key] = embedding
        self.used += embedding.bytes
        while self.used > self.capacity:
            _, oldest = self._kept.popitem(last=False)
            self.used -= oldest.bytes
        return embedding

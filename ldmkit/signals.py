"""Signals that are answered by a function for a while."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def answering(numbers: Iterable[int], answer: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within, ``answer`` is called for each of these signals. Outside the main thread they are left alone."""
    before = {}
    try:
        for number in numbers:
            before[number] = signal.signal(number, answer)
    except ValueError:  # not the main thread
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

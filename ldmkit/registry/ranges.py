"""Ranges of a config's numbers, for the ``__post_init__`` of its dataclass.

Each function takes numbers by their keys and raises ValueError for the first one that is out of range, NaN or
infinite; ``typed`` puts the path before the key. A list stands for its elements, and None, "not given", is in range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

Number = int | float
Numbers = Number | None | Sequence[Number]


def at_least(low: Number, **numbers: Numbers) -> None:
    """Raise ValueError unless each number is ``low`` or more."""
    _require(lambda number: number >= low, f"{low} or more", numbers)


def above(low: Number, **numbers: Numbers) -> None:
    """Raise ValueError unless each number is more than ``low``."""
    _require(lambda number: number > low, f"more than {low}", numbers)


def between(low: Number, high: Number, **numbers: Numbers) -> None:
    """Raise ValueError unless each number lies in [``low``, ``high``]."""
    _require(lambda number: low <= number <= high, f"{low} to {high}", numbers)


def below_one(**numbers: Numbers) -> None:
    """Raise ValueError unless each number lies in [0, 1)."""
    _require(lambda number: 0 <= number < 1, "at least 0 and below 1", numbers)


def finite(**numbers: Numbers) -> None:
    """Raise ValueError unless each number is finite."""
    _require(lambda number: True, "finite", numbers)


def _require(fits: Callable[[Number], bool], range_text: str, numbers: dict[str, Numbers]) -> None:
    for key, number in _each(numbers):
        if not (math.isfinite(number) and fits(number)):
            raise ValueError(f"{key} is {number} but must be {range_text}")


def _each(numbers: dict[str, Numbers]) -> Iterator[tuple[str, Number]]:
    for key, value in numbers.items():
        if isinstance(value, Sequence):
            yield from ((f"{key}.{index}", number) for index, number in enumerate(value))
        elif value is not None:
            yield key, value

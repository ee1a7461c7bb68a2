"""What a scene of ``shapes`` says: its vocabulary, the combinations of it, and captions there and back.

A scene is a row of integers, by column: place, background, and for each of two objects size, colour and shape. The
place counts positions (of one object) and then relations (of the first object to the second); ``ABSENT`` marks what a
scene lacks or, in a parsed caption, what it does not state.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re

import numpy as np

SHAPES = ("circle", "square", "triangle", "cross")
SIZES = ("small", "large")
COLOURS = {
    "red": (222, 40, 42),
    "orange": (247, 140, 28),
    "yellow": (250, 226, 60),
    "green": (52, 186, 72),
    "cyan": (64, 208, 222),
    "blue": (58, 108, 242),
    "purple": (152, 60, 204),
    "pink": (252, 136, 194),
}
BACKGROUNDS = {"grey": (108, 108, 112), "brown": (104, 62, 44), "navy": (30, 38, 82), "olive": (84, 96, 44)}
POSITIONS = (
    "in the top left",
    "at the top",
    "in the top right",
    "at the left",
    "in the centre",
    "at the right",
    "in the bottom left",
    "at the bottom",
    "in the bottom right",
)
RELATIONS = ("above", "below", "left of", "right of")

ABSENT = -1
PLACE, BACKGROUND = 0, 1
SIZE, COLOUR, SHAPE = (2, 5), (3, 6), (4, 7)  # columns of the first and the second object
COLUMNS = 8


def two_objects(scenes: np.ndarray) -> np.ndarray:
    """Which of ``scenes`` (B, COLUMNS) show two objects: bool (B,)."""
    return scenes[:, SHAPE[1]] != ABSENT


def _object(scene: np.ndarray, index: int) -> str:
    size, colour, shape = scene[SIZE[index]], scene[COLOUR[index]], scene[SHAPE[index]]
    return f"a {SIZES[size]} {list(COLOURS)[colour]} {SHAPES[shape]}"


def _objects(scene: np.ndarray) -> str:
    if scene[SHAPE[1]] == ABSENT:
        return f"{_object(scene, 0)} {POSITIONS[scene[PLACE]]}"
    return f"{_object(scene, 0)} {RELATIONS[scene[PLACE] - len(POSITIONS)]} {_object(scene, 1)}"


def caption(scene: np.ndarray) -> str:
    """Describe ``scene`` (COLUMNS,): 'a small red circle in the top left on a navy background'."""
    background = list(BACKGROUNDS)[scene[BACKGROUND]]
    return f"{_objects(scene)} on {'an' if background[0] in 'aeiou' else 'a'} {background} background"


def _choice(name: str, words: tuple[str, ...]) -> str:
    return f"(?P<{name}>{'|'.join(sorted(words, key=len, reverse=True))})"


def _object_pattern(index: int) -> str:
    size, colour = _choice(f"size{index}", SIZES), _choice(f"colour{index}", tuple(COLOURS))
    return rf"(?:an? )?(?:{size} )?(?:{colour} )?{_choice(f'shape{index}', SHAPES)}"


_PATTERN = re.compile(
    rf"{_object_pattern(0)}"
    rf"(?: {_choice('position', POSITIONS)}| {_choice('relation', RELATIONS)} {_object_pattern(1)})?"
    rf"(?: on an? {_choice('background', tuple(BACKGROUNDS))} background)?"
)


def parse(text: str) -> np.ndarray | None:
    """Read a caption back: int64 (COLUMNS,), or None when it is not one.

    Size, colour, position and background may be left out, and are then ``ABSENT``.
    """
    words = " ".join(text.lower().replace(".", " ").replace(",", " ").replace("center", "centre").split())
    match = _PATTERN.fullmatch(words)
    if match is None:
        return None
    scene = np.full(COLUMNS, ABSENT, np.int64)
    found = {name: word for name, word in match.groupdict().items() if word is not None}
    words_of = ((SIZE, "size", SIZES), (COLOUR, "colour", tuple(COLOURS)), (SHAPE, "shape", SHAPES))
    for index in (0, 1):
        for column, name, choices in words_of:
            if f"{name}{index}" in found:
                scene[column[index]] = choices.index(found[f"{name}{index}"])
    if "position" in found:
        scene[PLACE] = POSITIONS.index(found["position"])
    if "relation" in found:
        scene[PLACE] = len(POSITIONS) + RELATIONS.index(found["relation"])
    if "background" in found:
        scene[BACKGROUND] = tuple(BACKGROUNDS).index(found["background"])
    return scene


@functools.cache
def combinations(objects: int) -> np.ndarray:
    """All scenes of one or two objects, their backgrounds left open: int64 (N, COLUMNS).

    Two objects of one scene differ in colour.
    """
    one = list(itertools.product(range(len(SIZES)), range(len(COLOURS)), range(len(SHAPES))))
    if objects == 1:
        rows = [(place, ABSENT, *first, *[ABSENT] * 3) for place in range(len(POSITIONS)) for first in one]
    else:
        places = range(len(POSITIONS), len(POSITIONS) + len(RELATIONS))
        pairs = [(first, second) for first in one for second in one if first[1] != second[1]]
        rows = [(place, ABSENT, *first, *second) for place in places for first, second in pairs]
    return np.array(rows, np.int64)


@functools.cache
def split_combinations(objects: int, held_out: float) -> tuple[np.ndarray, np.ndarray]:
    """Part :func:`combinations` into those of training and the share ``held_out`` that training never shows.

    The part depends on a hash of the words alone, so it is the same for every seed and size.
    """
    scenes = combinations(objects)
    digests = (hashlib.blake2b(_objects(scene).encode(), digest_size=8).digest() for scene in scenes)
    held = np.array([int.from_bytes(digest, "little") / 2**64 < held_out for digest in digests])
    return scenes[~held], scenes[held]

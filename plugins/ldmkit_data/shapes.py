"""The embedded data set: a few coloured shapes on a background, every picture of which can be checked exactly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldmkit.artifacts.random import generator
from ldmkit.protocols import DataSource
from ldmkit.registry.ranges import at_least, between
from ldmkit.specs import DataSpec, FieldSpec
from ldmkit.values import Batch, Fields
from ldmkit_data.shapes_render import DRAWS, boxes_around, lay_out, render
from ldmkit_data.shapes_scene import (
    BACKGROUND,
    BACKGROUNDS,
    COLOUR,
    COLOURS,
    SHAPE,
    SHAPES,
    caption,
    split_combinations,
    two_objects,
)
from ldmkit_data.shapes_verdict import judge

VERSION = 2  # of the pictures; to be raised with every change of a pixel or a word
CHUNK = 512  # scenes drawn at once
MIN_SIZE = 32  # pixels; below, shapes cannot be told apart


class Shapes(DataSource):
    """One or two shapes, each with a colour and a size, at a position or in a relation, on a shaded background.

    Scenes are procedural: example ``index`` is a function of (seed, split, index). A share of all combinations of words
    (all but the background, which goes with every combination) is held out: ``train`` never shows them, ``validation``
    and :meth:`prompts` show nothing else. Fields: ``caption``; ``class``, colour and shape of the first object;
    ``semantic``, the shape at each pixel; ``boxes``, exactly around each object, with its colour and shape; ``radius``
    of the first object, a fraction of the side; and the size and crop of photographs, which are those of a whole
    picture here.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        size: int
        train: int
        validation: int
        two_objects: float
        held_out: float
        prompt_objects: int
        seed: int

        def __post_init__(self) -> None:
            at_least(MIN_SIZE, size=self.size)
            at_least(1, train=self.train, validation=self.validation)
            between(0, 1, two_objects=self.two_objects)
            between(0.01, 0.9, held_out=self.held_out)
            between(1, 2, prompt_objects=self.prompt_objects)

    def __init__(self, config: Config) -> None:
        self.config = config
        self._framing = {"original_height": config.size, "original_width": config.size, "crop_top": 0, "crop_left": 0}
        labels = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
        self.spec = DataSpec(
            size=config.size,
            channels=3,
            fields={
                "caption": FieldSpec(kind="text"),
                "class": FieldSpec(kind="label", names=labels),
                "semantic": FieldSpec(kind="map", names=("background", *SHAPES)),
                "boxes": FieldSpec(kind="boxes", names=labels),
                **dict.fromkeys(("radius", *self._framing), FieldSpec(kind="scalar")),
            },
        )

    def digest(self) -> str:
        """sha256 over the version of the pictures and the keys that determine them."""
        keys = {"version": VERSION, **asdict(self.config)}
        return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()

    def length(self, split: str) -> int:
        """Number of pictures in ``split``, as configured."""
        return {"train": self.config.train, "validation": self.config.validation}[split]

    def read(self, split: str, indices: Sequence[int]) -> Batch:
        """Draw the pictures ``indices`` of ``split``: uint8 (B, 3, size, size)."""
        scenes, uniform = self._scenes(split, indices)
        images, semantic = self._render(scenes, uniform)
        return Batch(images, self._fields(scenes, uniform, lambda: semantic))

    def fields(self, split: str, indices: Sequence[int]) -> Fields:
        """Fields of ``indices`` of ``split``; the maps are drawn when they are asked for."""
        scenes, uniform = self._scenes(split, indices)
        return self._fields(scenes, uniform, lambda: self._render(scenes, uniform)[1])

    def prompts(self, count: int) -> Fields:
        """Held-out scenes of ``prompt_objects`` objects, each combination once before any comes again."""
        _, held = split_combinations(self.config.prompt_objects, self.config.held_out)
        variants = np.repeat(held, len(BACKGROUNDS), axis=0)
        variants[:, BACKGROUND] = np.tile(np.arange(len(BACKGROUNDS)), len(held))
        order = generator("shapes", "prompts", self.config.prompt_objects).permutation(len(variants))
        scenes = variants[order[np.arange(count) % len(order)]]
        uniform = self._uniform("prompts", range(count))[:, :DRAWS]
        return self._fields(scenes, uniform, lambda: self._render(scenes, uniform)[1])

    def verify(self, images: Tensor, fields: Fields) -> Mapping[str, Tensor] | None:
        """Read the pictures back, see :func:`ldmkit_data.shapes_verdict.judge`."""
        return judge(images, fields)

    def _uniform(self, split: str, indices: Sequence[int]) -> np.ndarray:
        key = ("shapes", self.config.seed, split)
        rows = [generator(*key, int(index)).random(DRAWS + 3) for index in indices]
        return np.array(rows, np.float64).reshape(-1, DRAWS + 3)

    def _scenes(self, split: str, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """What examples ``indices`` show, (B, columns), and the numbers that lay them out, (B, DRAWS)."""
        if any(not 0 <= index < self.length(split) for index in indices):
            raise IndexError(f"split '{split}' has {self.length(split)} examples")
        uniform = self._uniform(split, indices)
        draws, (objects, combination, background) = uniform[:, :DRAWS], uniform[:, DRAWS:].T
        one, two = (split_combinations(count, self.config.held_out)[split == "validation"] for count in (1, 2))
        scenes = np.where(
            (objects < self.config.two_objects)[:, None],
            two[(combination * len(two)).astype(np.int64)],
            one[(combination * len(one)).astype(np.int64)],
        )
        scenes[:, BACKGROUND] = (background * len(BACKGROUNDS)).astype(np.int64)
        return scenes, draws

    def _render(self, scenes: np.ndarray, uniform: np.ndarray) -> tuple[Tensor, Tensor]:
        size, count = self.config.size, len(scenes)
        images = torch.empty(count, 3, size, size, dtype=torch.uint8)
        semantic = torch.empty(count, size, size, dtype=torch.int64)
        for start in range(0, count, CHUNK):
            part = slice(start, start + CHUNK)
            drawn = render(scenes[part], lay_out(scenes[part], uniform[part]), size)
            images[part], semantic[part] = (torch.from_numpy(array) for array in drawn)
        return images, semantic

    def _fields(self, scenes: np.ndarray, uniform: np.ndarray, semantic: Callable[[], Tensor]) -> Fields:
        framing = {
            name: lambda value=value: torch.full((len(scenes),), float(value)) for name, value in self._framing.items()
        }
        return _LateFields(
            {
                "caption": lambda: [caption(scene) for scene in scenes],
                "class": lambda: torch.from_numpy(_labels(scenes)[:, 0]),
                "semantic": semantic,
                "boxes": lambda: _boxes(scenes, uniform),
                "radius": lambda: torch.from_numpy(lay_out(scenes, uniform).radius[:, 0].astype(np.float32)),
                **framing,
            }
        )


class _LateFields(Mapping[str, Any]):
    """Fields that are made at their first use, since the maps of a whole split are large."""

    def __init__(self, make: Mapping[str, Callable[[], Any]]) -> None:
        self._make = make
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._make[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)


def _labels(scenes: np.ndarray) -> np.ndarray:
    """Index of colour and shape of both objects: int64 (B, 2), without meaning where there is no second one."""
    return scenes[:, list(COLOUR)] * len(SHAPES) + scenes[:, list(SHAPE)]


def _boxes(scenes: np.ndarray, uniform: np.ndarray) -> list[Tensor]:
    layout = lay_out(scenes, uniform)
    corners = boxes_around(scenes[:, list(SHAPE)], layout.centre, layout.radius)
    labelled = np.concatenate([corners, _labels(scenes)[..., None]], axis=-1).astype(np.float32)
    return [torch.from_numpy(rows[:count]) for rows, count in zip(labelled, 1 + two_objects(scenes), strict=True)]

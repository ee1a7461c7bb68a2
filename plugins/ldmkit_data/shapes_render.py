"""From scenes of ``shapes`` to pixels: where things lie, their outlines, and the antialiased picture.

Lengths are fractions of the picture's side, so one scene looks alike at every size. An object's radius is that of the
circle of equal area. Arrays: B pictures, K objects (1 or 2), H W pixels, S shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ldmkit_data.shapes_scene import (
    BACKGROUND,
    BACKGROUNDS,
    COLOUR,
    COLOURS,
    PLACE,
    POSITIONS,
    SHAPE,
    SHAPES,
    SIZE,
    two_objects,
)

RADII = ((0.125, 0.138), (0.178, 0.190))  # of small and large objects
STEP = 0.22  # between neighbouring positions of the 3x3 grid
JITTER = 0.03  # of a position, either way
APART = 0.25  # of two objects from the middle, along the axis of their relation
DRIFT = 0.08  # of two objects, across that axis, either way
SHADING = 0.15  # relative change of brightness over the background, either way
DRAWS = 9  # uniform numbers that lay out one scene

SQUARE = np.sqrt(np.pi) / 2  # half side of the square, in radii
TRIANGLE = np.sqrt(2 * np.pi)  # width and height of the triangle, in radii
ARM = np.sqrt(np.pi / 5)  # width of the cross's bars, which are three times as long, in radii
REACH = np.array([1.0, SQUARE, TRIANGLE / 2, 1.5 * ARM])  # of each shape from its middle, along x and y, in radii
CENTROIDS = np.array([0.0, 0.0, TRIANGLE / 6, 0.0])  # y of the centroid below the middle of the shape, in radii


@dataclass(frozen=True)
class Layout:
    """Geometry of B scenes: ``centre`` (B, 2, 2) as (x, y), ``radius`` (B, 2), ``slope`` (B, 2) of the background."""

    centre: np.ndarray
    radius: np.ndarray
    slope: np.ndarray


def lay_out(scenes: np.ndarray, uniform: np.ndarray) -> Layout:
    """Place the objects of ``scenes`` (B, columns) by ``uniform`` numbers (B, DRAWS) in [0, 1)."""
    signed = 2 * uniform - 1
    low, high = np.moveaxis(np.array(RADII)[scenes[:, SIZE]], -1, 0)
    radius = low + (high - low) * uniform[:, 0:2]

    cell = np.stack([scenes[:, PLACE] % 3, scenes[:, PLACE] // 3], axis=1) - 1
    alone = 0.5 + STEP * cell[:, None] + JITTER * signed[:, 2:6].reshape(-1, 2, 2)

    relation = scenes[:, PLACE] - len(POSITIONS)  # above, below, left of, right of
    along = np.where(relation < 2, 1, 0)
    side = np.where(relation % 2 == 0, -APART, APART)
    pair = 0.5 + np.where(np.arange(2) == along[:, None], side[:, None], 0.0)[:, None] * np.array([[1.0], [-1.0]])
    reach = np.where(np.arange(2) == along[:, None], 0.01, DRIFT)[:, None]
    pair = pair + reach * signed[:, 2:6].reshape(-1, 2, 2)

    angle = 2 * np.pi * uniform[:, 6]
    slope = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (0.3 + 0.7 * uniform[:, 7:8])
    return Layout(np.where(two_objects(scenes)[:, None, None], pair, alone), radius, slope)


def boxes_around(shape: np.ndarray, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom (..., 4) of objects of ``shape`` and ``radius`` (...) in ``centre`` (..., 2)."""
    reach = (REACH[shape] * radius)[..., None]
    return np.concatenate([centre - reach, centre + reach], axis=-1)


def pixel_grid(size: int) -> np.ndarray:
    """Centres of the pixels along one side, as fractions: float32 (size,)."""
    return ((np.arange(size) + 0.5) / size).astype(np.float32)


def signed_distance(shape: int, centre: np.ndarray, radius: np.ndarray, size: int) -> np.ndarray:
    """Distance to the outline, below 0 inside, in pixels: float32 (N, size, size); N rows of ``centre``, ``radius``.

    Right along the sides; beyond a corner it is the larger of the distances to the sides.
    """
    radius = radius.astype(np.float32)[:, None, None]
    horizontal = pixel_grid(size)[None, None, :] - centre[:, 0, None, None].astype(np.float32)
    vertical = pixel_grid(size)[None, :, None] - centre[:, 1, None, None].astype(np.float32)
    across, down = np.abs(horizontal), np.abs(vertical)
    if SHAPES[shape] == "circle":
        distance = np.sqrt(across**2 + down**2) - radius
    elif SHAPES[shape] == "square":
        distance = np.maximum(across, down) - np.float32(SQUARE) * radius
    elif SHAPES[shape] == "triangle":
        half = np.float32(TRIANGLE / 2) * radius
        distance = np.maximum((2 * across - (vertical + half)) / np.float32(np.sqrt(5)), vertical - half)
    else:
        short, long = np.float32(ARM / 2) * radius, np.float32(ARM * 1.5) * radius
        distance = np.minimum(np.maximum(across - long, down - short), np.maximum(across - short, down - long))
    return distance * np.float32(size)


def coverage(distance: np.ndarray) -> np.ndarray:
    """Share of a pixel that lies inside the outline, for an edge across it: float in [0, 1]."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def backgrounds(scenes: np.ndarray, layout: Layout, size: int) -> np.ndarray:
    """Shaded backgrounds: float32 (B, 3, size, size) in 0..255."""
    grid = 2 * pixel_grid(size) - 1
    slope = (SHADING / np.sqrt(2) * layout.slope).astype(np.float32)
    shade = 1 + slope[:, 0, None, None] * grid[None, None, :] + slope[:, 1, None, None] * grid[None, :, None]
    hue = np.array(list(BACKGROUNDS.values()), np.float32)[scenes[:, BACKGROUND]]
    return hue[:, :, None, None] * shade[:, None]


def render(scenes: np.ndarray, layout: Layout, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Scenes => pictures uint8 (B, 3, size, size) and semantic maps int64 (B, size, size), 0 for the background."""
    images = backgrounds(scenes, layout, size)
    semantic = np.zeros((len(scenes), size, size), np.int64)
    palette = np.array(list(COLOURS.values()), np.float32)
    for index in (0, 1):
        for shape in range(len(SHAPES)):
            rows = np.flatnonzero(scenes[:, SHAPE[index]] == shape)
            if not len(rows):
                continue
            distance = signed_distance(shape, layout.centre[rows, index], layout.radius[rows, index], size)
            inside = coverage(distance)[:, None]
            colour = palette[scenes[rows, COLOUR[index]]][:, :, None, None]
            images[rows] += inside * (colour - images[rows])
            semantic[rows] = np.where(distance < 0, shape + 1, semantic[rows])
    return np.rint(images).astype(np.uint8), semantic

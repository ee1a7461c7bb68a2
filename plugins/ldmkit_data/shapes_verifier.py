"""Reads colour, size, position and shape back out of pixels and compares them with captions. Nothing is trained.

The background's hue is the one most pixels vote for; what is far from it is foreground. Each palette colour that covers
a solid patch is an object; its pixels, unmixed from the background at the edges, are matched by overlap with the four
outlines at equal area and equal centroid. A picture is right in an aspect only if it shows exactly the stated number of
objects; ``all`` also asks for the right background and for nothing else anywhere. Arrays: B pictures, P palette,
K objects, S shapes, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ldmkit_data.shapes_render import CENTROIDS, JITTER, RADII, SHADING, STEP, coverage, pixel_grid, signed_distance
from ldmkit_data.shapes_scene import (
    ABSENT,
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

NEAR = 48.0  # a pixel this near a palette colour (Euclidean, 0..255 a channel) is of that colour
APART = 36.0  # a pixel this far from the background is foreground
SOLID = 0.005  # share of the picture that a colour's solid patch covers to count as an object
STRAY = 0.004  # share of the picture that may be foreground outside the objects
EDGE = 3.0 / 64  # furthest that an object reaches beyond its solid patch (a triangle's tip)
MARGIN = 2.0 / 64  # around an object's outline that still belongs to it, as a fraction of the side
OVERLAP = 0.8  # intersection over union with the best outline, at least
BETWEEN = (RADII[0][1] + RADII[1][0]) / 2  # radius that parts small from large
BOUNDS = (0.88 * RADII[0][0], 1.12 * RADII[1][1])  # smallest and largest radius that is a size at all
OFF_CENTRE = (STEP / 2 + JITTER) / 2 + 0.02  # furthest an object may be from the middle of its position

PALETTE = np.array(list(COLOURS.values()), np.float32)
HUES = np.array(list(BACKGROUNDS.values()), np.float32)


@dataclass(frozen=True)
class Reading:
    """What B pictures show: ``background`` (B,), ``count`` (B,) of objects, the two largest in detail, (B, 2) each.

    ``centre`` is (B, 2, 2) as (x, y); ``semantic`` (B, H, W) has at each pixel 0 for the background, 1 and up for the
    shapes, ``ABSENT`` for what is neither; ``stray`` (B,) is the share of that.
    """

    background: np.ndarray
    count: np.ndarray
    colour: np.ndarray
    shape: np.ndarray
    overlap: np.ndarray
    radius: np.ndarray
    centre: np.ndarray
    semantic: np.ndarray
    stray: np.ndarray


def read(images: np.ndarray) -> Reading:
    """Read pictures, uint8 (B, 3, H, W) with H = W."""
    batch, _, size, _ = images.shape
    pixels = images.reshape(batch, 3, size**2).transpose(0, 2, 1).astype(np.float32)  # (B, HW, 3)
    shades = _shades(pixels)
    squared = np.stack([_squared(pixels, shade) for shade in shades], axis=1)  # (B, hues, HW)
    background = np.argmax((squared < APART**2).sum(2), axis=1)
    rows = np.arange(batch)
    behind = shades[background, rows]  # (B, HW, 3)
    foreground = squared[rows, background] > APART**2

    patches = _patches(pixels, foreground, size)
    area = patches.mean((2, 3))
    count = (area >= SOLID).sum(1)
    order = np.argsort(-area, axis=1, kind="stable")[:, :2]
    colours = np.where(np.take_along_axis(area, order, 1) >= SOLID, order, ABSENT)

    reach = round(EDGE * size)
    within = _spread(patches[rows[:, None], order], reach, reach).reshape(batch, 2, size**2)
    masks = (_unmix(pixels, behind, foreground, colours) * within).reshape(batch, 2, size, size)
    details = [_match(masks[:, index]) for index in (0, 1)]
    shape, overlap, radius, centre = (np.stack(values, axis=1) for values in zip(*details, strict=True))
    explained = np.zeros((batch, size, size), bool)
    for index in (0, 1):
        outline = _outlines(shape[:, index], centre[:, index], radius[:, index], size)
        explained |= (outline < MARGIN * size) & (colours[:, index] != ABSENT)[:, None, None]
    stray = foreground.reshape(explained.shape) & ~explained
    covered = np.where(masks > 0.5, shape[..., None, None] + 1, 0).max(1)
    semantic = np.where(covered > 0, covered, np.where(stray, ABSENT, 0))
    return Reading(background, count, colours, shape, overlap, radius, centre, semantic, stray.mean((1, 2)))


def compare(seen: Reading, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """Which aspects of ``wanted`` (B, columns) hold: bool (B,) each.

    Two objects are taken in the order that makes most aspects right, and told apart by colour where that is a tie.
    """
    counted = seen.count == np.where(two_objects(wanted), 2, 1)
    straight, crossed = (_aspects(seen, wanted, order) for order in ([0, 1], [1, 0]))
    votes = [np.sum([*aspects.values(), aspects["colour"] / 2], axis=0) for aspects in (straight, crossed)]
    cross = two_objects(wanted) & (votes[1] > votes[0])
    verdict = {name: np.where(cross, crossed[name], straight[name]) & counted for name in straight}
    backed = (wanted[:, BACKGROUND] == ABSENT) | (wanted[:, BACKGROUND] == seen.background)
    verdict["all"] = np.logical_and.reduce([*verdict.values(), backed, seen.stray <= STRAY])
    return verdict


def _aspects(seen: Reading, wanted: np.ndarray, order: list[int]) -> dict[str, np.ndarray]:
    """Compare with the seen objects taken in ``order``: bool (B,) by aspect."""
    here = np.array([True, False]) | two_objects(wanted)[:, None]  # objects that are wanted (B, 2)

    def agree(stated: np.ndarray, found: np.ndarray) -> np.ndarray:
        return ((stated == ABSENT) | (stated == found) | ~here).all(1)

    radius, overlap = seen.radius[:, order], seen.overlap[:, order]
    sized = np.where((radius > BOUNDS[0]) & (radius < BOUNDS[1]), radius > BETWEEN, ABSENT - 1)
    shaped = np.where(overlap >= OVERLAP, seen.shape[:, order], ABSENT - 1)
    return {
        "colour": agree(wanted[:, list(COLOUR)], seen.colour[:, order]),
        "size": agree(wanted[:, list(SIZE)], sized),
        "position": _placed(seen.centre[:, order], wanted),
        "shape": agree(wanted[:, list(SHAPE)], shaped),
    }


def _placed(centre: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    place = wanted[:, PLACE]
    middle = 0.5 + STEP * (np.stack([place % 3, place // 3], axis=1) - 1)
    alone = (np.abs(centre[:, 0] - middle) < OFF_CENTRE).all(1)
    right, down = (centre[:, 0] - centre[:, 1]).T
    relation = place - len(POSITIONS)
    along = np.where(relation < 2, down, right) * np.where(relation % 2 == 0, -1, 1)
    pair = (along > 0.25) & (along > np.abs(np.where(relation < 2, right, down)))
    return (place == ABSENT) | np.where(relation >= 0, pair, alone)


def _squared(pixels: np.ndarray, other: np.ndarray) -> np.ndarray:
    difference = pixels - other
    return np.einsum("...c,...c->...", difference, difference)


def _shades(pixels: np.ndarray) -> np.ndarray:
    """The shade of each background hue that is nearest to each pixel: (hues, B, HW, 3)."""
    shade = pixels @ (HUES / (HUES**2).sum(1, keepdims=True)).T  # (B, HW, hues)
    return shade.clip(1 - SHADING, 1 + SHADING).transpose(2, 0, 1)[..., None] * HUES[:, None, None]


def _patches(pixels: np.ndarray, foreground: np.ndarray, size: int) -> np.ndarray:
    """Which pixels each palette colour covers solidly: bool (B, P, size, size).

    Solid is what is left after opening by a square of 3/64 of the side, so that antialiased edges, whose mixtures may
    look like a third colour, leave nothing.
    """
    squared = (pixels**2).sum(2, keepdims=True) - 2 * pixels @ PALETTE.T + (PALETTE**2).sum(1)
    nearest = squared.argmin(2)
    close = foreground & (squared.min(2) < NEAR**2)
    masks = (nearest[:, None] == np.arange(len(PALETTE))[:, None]) & close[:, None]
    masks = masks.reshape(len(pixels), len(PALETTE), size, size)
    reach = max(2, round(3 * size / 64)) - 1
    return _spread(~_spread(~masks, reach, 0), 0, reach)  # dilation of the erosion


def _spread(masks: np.ndarray, up: int, down: int) -> np.ndarray:
    """Dilate (..., H, W) by ``up`` pixels towards the lower and ``down`` towards the higher indices, on both axes."""
    for _ in range(2):
        masks = masks.swapaxes(-1, -2)
        spread = masks.copy()
        for step in range(1, up + 1):
            spread[..., :-step] |= masks[..., step:]
        for step in range(1, down + 1):
            spread[..., step:] |= masks[..., :-step]
        masks = spread
    return masks


def _unmix(pixels: np.ndarray, behind: np.ndarray, foreground: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """How much of each pixel is each object, if it mixes that with the background: (B, 2, HW).

    A pixel counts for the object whose mixture fits it better.
    """
    shares, errors = [], []
    for index in (0, 1):
        toward = PALETTE[colours[:, index]][:, None] - behind
        share = np.einsum("bnc,bnc->bn", pixels - behind, toward) / np.einsum("bnc,bnc->bn", toward, toward)
        share = share.clip(0, 1)
        error = _squared(pixels, behind + share[..., None] * toward)
        absent = colours[:, index, None] == ABSENT
        shares.append(np.where(absent, 0, share))
        errors.append(np.where(absent, np.inf, error))
    first = errors[0] <= errors[1]
    edge = np.stack([shares[0] * first, shares[1] * ~first], axis=1)
    return np.where((foreground[:, None]) | (edge > 0.25), edge, 0)


def _outlines(shape: np.ndarray, centre: np.ndarray, radius: np.ndarray, size: int) -> np.ndarray:
    """Signed distance (B, size, size) in pixels to each row's own outline."""
    distance = np.empty((len(shape), size, size), np.float32)
    for kind in range(len(SHAPES)):
        rows = np.flatnonzero(shape == kind)
        distance[rows] = signed_distance(kind, centre[rows], radius[rows], size)
    return distance


def _match(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Best outline of each mask (B, H, W): shape (B,), overlap (B,), radius (B,), centre (B, 2)."""
    batch, size, _ = mask.shape
    area = mask.sum((1, 2)) / size**2
    grid, weight = pixel_grid(size), np.maximum(area, 1e-6) * size**2
    centroid = np.stack([mask.sum(1) @ grid, mask.sum(2) @ grid], axis=1) / weight[:, None]
    radius = np.sqrt(area / np.pi)
    centres, overlaps = [], []
    for kind in range(len(SHAPES)):
        centre = centroid - np.stack([np.zeros(batch), CENTROIDS[kind] * radius], axis=1)
        template = coverage(signed_distance(kind, centre, radius, size))
        union = np.maximum(mask, template).sum((1, 2))
        overlaps.append(np.minimum(mask, template).sum((1, 2)) / np.maximum(union, 1e-6))
        centres.append(centre)
    shape = np.argmax(overlaps, axis=0)
    rows = np.arange(batch)
    return shape, np.array(overlaps)[shape, rows], radius, np.array(centres)[shape, rows]

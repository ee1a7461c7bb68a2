"""Whether pictures of ``shapes`` obey their fields: what is read out of the pixels against all that was asked for.

Arrays: B pictures, K objects (the two largest that are seen), N boxes of one picture, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ldmkit.values import Fields
from ldmkit_data.shapes_render import boxes_around
from ldmkit_data.shapes_scene import ABSENT, COLUMNS, SHAPES, parse
from ldmkit_data.shapes_verifier import OVERLAP, Reading, compare, read

ALIKE = 0.8  # mean intersection over union from which on a map counts as obeyed
BESIDE = 1 / 16  # furthest that an object may reach beyond its box, as a fraction of the side
FILLED = 0.5  # intersection over union of an object's own box with the one that was asked for, at least

Verdict = dict[str, np.ndarray]


def judge(images: Tensor, fields: Fields) -> Mapping[str, Tensor] | None:
    """Check uint8 pictures (B, 3, H, W) against those of ``fields`` that can be: (B,) by aspect.

    A caption gives bool by colour, size, position and shape, and a ``class`` its own. ``semantic_iou`` is the mean
    intersection over union of the picture's map with the given one, over the classes in either; ``boxes`` the share of
    the boxes that hold an object of their class. ``all`` is bool: every one of these. Returns None where there is no
    such field, or a caption cannot be parsed.
    """
    aspects: dict[str, Callable[[Reading], Verdict | None]] = {
        "caption": lambda seen: _captions(seen, fields["caption"]),
        "class": lambda seen: _classes(seen, np.asarray(fields["class"])),
        "semantic": lambda seen: _maps(seen, np.asarray(fields["semantic"])),
        "boxes": lambda seen: _boxes(seen, fields["boxes"]),
    }
    known = [name for name in aspects if name in fields]
    if not known:
        return None
    seen = read(images.detach().cpu().numpy())
    verdict: dict[str, np.ndarray] = {}
    everything = np.ones(len(images), bool)
    for name in known:
        found = aspects[name](seen)
        if found is None:
            return None
        everything &= found.pop("all")
        verdict |= found
    return {aspect: torch.from_numpy(right) for aspect, right in {**verdict, "all": everything}.items()}


def _captions(seen: Reading, captions: Sequence[str]) -> Verdict | None:
    parsed = [scene for scene in map(parse, captions) if scene is not None]
    return compare(seen, np.array(parsed).reshape(-1, COLUMNS)) if len(parsed) == len(captions) else None


def _classes(seen: Reading, labels: np.ndarray) -> Verdict:
    """Some object has the colour and shape, and there are no more than two."""
    right = (_labels(seen) == labels[:, None]).any(1) & (seen.count <= 2)
    return {"class": right, "all": right}


def _maps(seen: Reading, wanted: np.ndarray) -> Verdict:
    unions, ious = np.zeros(len(wanted)), np.zeros(len(wanted))
    for index in range(len(SHAPES) + 1):
        one, other = seen.semantic == index, wanted == index
        union = (one | other).sum((1, 2))
        unions += union > 0
        ious += (one & other).sum((1, 2)) / np.maximum(union, 1)
    score = ious / np.maximum(unions, 1)
    return {"semantic_iou": score, "all": score >= ALIKE}


def _boxes(seen: Reading, wanted: Sequence[Tensor]) -> Verdict:
    """Each box holds an object of its class that about fills it; for all, there is no other object."""
    labels, around = _labels(seen), boxes_around(seen.shape, seen.centre, seen.radius)
    score = np.empty(len(wanted))
    for row, boxes in enumerate(np.asarray(one, np.float64) for one in wanted):
        held = _held(boxes[:, None, :4], around[row]) & (boxes[:, None, 4] == labels[row])  # (N, K)
        score[row] = held.any(1).mean() if len(boxes) else seen.count[row] == 0
    counted = seen.count == [len(boxes) for boxes in wanted]
    return {"boxes": score, "all": (score == 1) & counted}


def _labels(seen: Reading) -> np.ndarray:
    """Index of colour and shape of each object, ``ABSENT`` where its outline is of no shape: int64 (B, K)."""
    clear = (seen.colour != ABSENT) & (seen.overlap >= OVERLAP)
    return np.where(clear, seen.colour * len(SHAPES) + seen.shape, ABSENT)


def _held(boxes: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Whether ``boxes`` hold what has the boxes ``around``, (..., 4) each, within the tolerances."""
    inside = (around[..., :2] > boxes[..., :2] - BESIDE) & (around[..., 2:] < boxes[..., 2:] + BESIDE)
    low, high = np.maximum(boxes[..., :2], around[..., :2]), np.minimum(boxes[..., 2:], around[..., 2:])
    both = (high - low).clip(0).prod(-1)
    areas = [(one[..., 2:] - one[..., :2]).prod(-1) for one in (boxes, around)]
    return inside.all(-1) & (both >= FILLED * (areas[0] + areas[1] - both))

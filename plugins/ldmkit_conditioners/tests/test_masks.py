"""Masks are drawn by their rows' streams, cover what their kind says, and come as often as they should."""

from __future__ import annotations

import math

import pytest
import torch
from ldmkit_conditioners.masks import KINDS, draw_masks
from torch import Tensor

from ldmkit.artifacts.random import RowRandom

CPU = torch.device("cpu")


def masks(count: int, size: tuple[int, int] = (64, 64), **shares: float) -> Tensor:
    random = RowRandom([("masks", row) for row in range(count)])
    return draw_masks(random, size, {**dict.fromkeys(KINDS, 0.0), **shares}, CPU)


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [("boxes", 0.25**2, 0.6**2), ("half", 0.5, 0.5), ("outpaint", 1 - 0.7**2, 1 - 0.4**2), ("strokes", 0.005, 0.9)],
)
def test_a_kind_covers_what_it_should(kind: str, least: float, most: float) -> None:
    share = masks(200, **{kind: 1.0}).float().mean((1, 2))
    edge = 2 * 2 / 64 if kind in ("boxes", "outpaint") else 0  # a side is whole pixels
    assert share.min() >= least - edge
    assert share.max() <= most + edge
    assert (share.unique().numel() == 1) == (kind == "half")


def test_boxes_are_boxes_and_outpainting_is_their_complement() -> None:
    for kind in ("boxes", "outpaint"):
        for mask in masks(50, **{kind: 1.0}):
            inside = mask if kind == "boxes" else ~mask
            box = inside.any(1)[:, None] & inside.any(0)[None]
            assert torch.equal(inside, box)


def test_halves_are_all_four_and_each_as_often() -> None:
    count = 800
    drawn = masks(count, half=1.0)
    for name, part in {"left": (..., 0, 0), "right": (..., 0, -1)}.items():
        share = drawn[part].float().mean().item()
        assert abs(share - 0.5) < 4 * math.sqrt(0.25 / count), name
    assert {(bool(m[0, 0]), bool(m[0, -1]), bool(m[-1, 0])) for m in drawn} == {
        (True, False, True), (False, True, False), (True, True, False), (False, False, True)
    }  # fmt: skip


def test_kinds_come_by_their_shares() -> None:
    count = 1000
    drawn = masks(count, boxes=1.0, half=3.0)
    halves = (drawn.float().mean((1, 2)) == 0.5).float().mean().item()
    assert abs(halves - 0.75) < 4 * math.sqrt(0.75 * 0.25 / count)


@pytest.mark.parametrize("size", [(32, 32), (16, 48)])
def test_every_mask_leaves_something_known_and_something_missing(size: tuple[int, int]) -> None:
    drawn = masks(400, size, **dict.fromkeys(KINDS, 1.0)).flatten(1)
    assert drawn.any(1).all()
    assert (~drawn).any(1).all()


def test_a_mask_is_the_same_alone_and_in_a_batch_and_at_another_resolution() -> None:
    many = masks(8, **dict.fromkeys(KINDS, 1.0))
    for row in range(8):
        alone = draw_masks(RowRandom([("masks", row)]), (64, 64), dict.fromkeys(KINDS, 1.0), CPU)
        assert torch.equal(alone[0], many[row])
    fine = masks(8, (128, 128), **dict.fromkeys(KINDS, 1.0)).float()
    assert (fine.view(8, 64, 2, 64, 2).mean((2, 4)) - many.float()).abs().mean() < 0.02

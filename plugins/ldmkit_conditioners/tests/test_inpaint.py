"""Inpainting is told what is known and nothing else, and what is known stays."""

from __future__ import annotations

import torch
from ldmkit_conditioners.inpaint import Inpaint
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.latent_space import LatentSpace
from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.specs import CondSpec, DataSpec, FieldSpec
from ldmkit.testing.fields import Averages
from ldmkit.values import to_pixels

SHIFT, SCALE = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([2.0, 3.0, 4.0, 5.0])
SPACE = LatentSpace(Averages(), LatentStatistics(SHIFT, SCALE, 1, "digest"))


def part() -> Inpaint:
    shares = Inpaint.Shares(boxes=1.0, strokes=1.0, half=1.0, outpaint=1.0)
    config = Inpaint.Config(name="inpaint", dropout=0.1, shares=shares)
    return Inpaint(config, data=DataSpec(size=32, channels=3), latents=SPACE)


def images(seed: int = 0) -> Tensor:
    return torch.randint(256, (2, 3, 32, 64), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def mask() -> Tensor:
    missing = torch.zeros(2, 32, 64, dtype=torch.bool)
    missing[:, 8:20, 24:] = True
    return missing


def test_the_map_is_the_latent_of_the_masked_picture_and_the_mask() -> None:
    conditioner = part()
    got = conditioner({"image": images(), "mask": mask()}, (4, 8)).map
    assert conditioner.spec == CondSpec(map=5)
    black = to_pixels(images()).masked_fill(mask()[:, None], -1.0)
    expected = (Averages().encode(black).mean - SHIFT.view(-1, 1, 1)) * SCALE.view(-1, 1, 1)
    torch.testing.assert_close(got[:, :4], expected)
    middles = mask()[:, ::8, ::8]
    assert torch.equal(got[:, 4], torch.where(middles, 1.0, -1.0))


def test_missing_pixels_do_not_matter() -> None:
    other = torch.where(mask()[:, None], images(seed=1), images())
    assert not torch.equal(other, images())
    one, two = (part()({"image": each, "mask": mask()}, (4, 8)).map for each in (images(), other))
    assert torch.equal(one, two)


def test_the_null_is_any_picture_of_which_everything_is_missing() -> None:
    everything = torch.ones(2, 32, 64, dtype=torch.bool)
    for seed in range(3):
        assert torch.equal(part()({"image": images(seed), "mask": everything}, (4, 8)).map, part().null(2, (4, 8)).map)


def test_known_pixels_are_put_back_and_missing_ones_are_left() -> None:
    drawn = torch.rand(2, 3, 32, 64) * 2 - 1
    pasted = part().paste(drawn, {"image": images(), "mask": mask()})
    missing = mask()[:, None].expand_as(drawn)
    assert torch.equal(pasted[missing], drawn[missing])
    assert torch.equal(pasted[~missing], to_pixels(images())[~missing])


def test_the_first_stage_is_not_among_its_weights() -> None:
    assert part().state_dict() == {}
    assert len(list(part().modules())) == 1


def test_it_observes_the_picture_itself_and_a_new_mask_for_every_stream() -> None:
    conditioner = part()
    assert conditioner.observed == {"image": FieldSpec("image", factor=1), "mask": FieldSpec("mask", factor=1)}
    first = conditioner.observe(images(), RowRandom([("step", 0, 0), ("step", 0, 1)]))
    second = conditioner.observe(images(), RowRandom([("step", 1, 0), ("step", 1, 1)]))
    assert torch.equal(first["image"], images())
    assert not torch.equal(first["mask"], second["mask"])
    assert not torch.equal(first["mask"][0], first["mask"][1])

"""Tiles against the whole: equal where the first stage states its reach, near and without seams where it does not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ldmkit
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.diffusion.tiling import Tiling, spans
from ldmkit.protocols import FirstStage
from ldmkit.specs import LatentSpec, Reach
from ldmkit.values import Posterior


def random_weights(model: nn.Module) -> None:
    """Draw all weights anew, so that features keep about their size and no zero-initialised branch hides a path."""
    noise = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=noise)
        parameter.data = drawn / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else parameter.data + 0.1 * drawn


def first_stage(*overrides: str) -> FirstStage:
    stage = ldmkit.build(ldmkit.compose(["scale=smoke", "cond=[]", *overrides])).first_stage.eval()
    random_weights(stage)
    return stage


def looking_everywhere() -> FirstStage:
    """A network with group norm and attention, with the weights it begins with."""
    changes = ["model=kl-f8", "model.norm=group", "model.middle=attention", "model.width=32", "model.patch=1"]
    config = ldmkit.compose(["scale=smoke", "cond=[]", *changes, "model.multipliers=[1,1,1,1]"])
    return ldmkit.build(config).first_stage.eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def smooth(channels: int, height: int, width: int) -> Tensor:
    """One long wave in each direction, another one in each channel: (1, channels, height, width)."""
    down, across = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    waves = [torch.sin(3 * down + index) * torch.cos(4 * across - index) for index in range(channels)]
    return torch.stack(waves)[None]


class Blur(FirstStage):
    """Each position is the mean of its pixels and, the other way, of its 3 x 3 neighbours; counts what it is given."""

    def __init__(self, reach: Reach | None = None) -> None:
        super().__init__()
        self.spec, self.reach = LatentSpec(channels=3, factor=4), reach
        self.pixels: list[int] = []

    def encode(self, images: Tensor) -> Posterior:
        self.pixels.append(images[:, 0].numel())
        mean = nn.functional.avg_pool2d(images, 4)
        return Posterior(mean, mean.abs())

    def decode(self, latents: Tensor) -> Tensor:
        self.pixels.append(latents[:, 0].numel() * 16)
        blurred = nn.functional.avg_pool2d(latents, 3, stride=1, padding=1)
        return nn.functional.interpolate(blurred, scale_factor=4.0)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("length", "tile", "shared"), [(5, 8, 2), (8, 8, 2), (9, 8, 4), (64, 8, 0), (65, 8, 3), (257, 64, 16), (40, 1, 0)]
)
def test_weights_sum_to_one_at_every_place_and_every_tile_lies_inside(
    length: int, tile: int, shared: int, exact: bool
) -> None:
    cut = spans(length, tile, shared, exact=exact, inputs=1, outputs=4)
    total = torch.zeros(length * 4, dtype=torch.float64)
    for span in cut:
        assert (span.weight > 0).all()
        total[span.target] += span.weight
        assert 0 <= span.source.start < span.source.stop <= length
        assert span.source.stop - span.source.start == min(tile, length)
        assert span.kept.start + span.source.start * 4 == span.target.start
        assert 0 <= span.kept.start < span.kept.stop <= tile * 4
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-12, rtol=0)


def test_neighbours_share_what_was_asked_for_and_keep_half_of_it_to_each_side_where_exact() -> None:
    cut = spans(100, 16, 6, exact=True, inputs=1, outputs=1)
    for before, after in pairwise(cut):
        assert before.source.stop - after.source.start >= 6
        assert before.target.stop == after.target.start
        assert before.source.stop - before.target.stop >= 3
        assert after.target.start - after.source.start >= 3


@pytest.mark.parametrize("model", ["kl-f8", "kl-f4", "identity"])
def test_tiles_give_the_whole_where_the_reach_is_known(model: str) -> None:
    stage = first_stage(f"model={model}")
    tiling = Tiling(tile=64)
    images = noise(2, 3, 216, 328).clamp(-1, 1)
    whole, tiled = stage.encode(images), tiling.encode(stage, images)
    torch.testing.assert_close(tiled.mean, whole.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tiled.std, whole.std, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tiling.decode(stage, whole.mean), stage.decode(whole.mean), atol=1e-5, rtol=1e-5)


def test_a_reach_that_is_too_short_shows() -> None:
    """The test above can fail: with half of it, tiles are no longer the whole."""
    stage = first_stage("model=kl-f8")
    assert stage.reach is not None
    latents = noise(1, 4, 30, 50)
    whole = stage.decode(latents)
    stage.reach = Reach(encode=stage.reach.encode // 2, decode=stage.reach.decode // 2)
    assert (Tiling(tile=8).decode(stage, latents) - whole).abs().max() > 1e-4


def test_what_looks_no_further_than_the_quarter_that_is_thrown_away_is_the_whole_too() -> None:
    latents = noise(1, 3, 90, 130)
    stage = Blur()
    tiled = Tiling(tile=64, overlap=0.25).decode(stage, latents)  # shares 4 positions, and 1 is thrown away
    torch.testing.assert_close(tiled, Blur().decode(latents), atol=1e-6, rtol=0)


@pytest.mark.parametrize("reach", [None, Reach(encode=0, decode=1)])
def test_the_network_is_given_no_more_than_a_tile_at_a_time(reach: Reach | None) -> None:
    stage, tiling = Blur(reach), Tiling(tile=64)
    for images in (noise(3, 3, 200, 136), noise(100, 3, 32, 16), noise(3, 3, 12, 400)):
        posterior = tiling.encode(stage, images)
        assert max(stage.pixels) <= 64 * 64
        torch.testing.assert_close(posterior.mean, Blur().encode(images).mean, atol=1e-6, rtol=0)
        tiling.decode(stage, posterior.mean)
        assert max(stage.pixels) <= 64 * 64
    assert len(stage.pixels) > 30


def test_small_images_pass_whole_and_as_many_at_a_time_as_make_up_a_tile() -> None:
    stage, tiling = Blur(), Tiling(tile=64)
    tiling.encode(stage, noise(5, 3, 64, 64))
    tiling.encode(stage, noise(5, 3, 32, 32))
    assert stage.pixels == [4096] * 5 + [4096, 1024]
    tiling.encode(stage, noise(0, 3, 640, 640))
    assert stage.pixels[-1] == 0


def test_blended_tiles_are_near_the_whole_on_a_smooth_picture() -> None:
    """Tiles of 32 positions throw away 4 at the edge, and the network looks 5 far."""
    stage = first_stage("model=kl-f8")
    stage.reach = None
    latents = smooth(4, 64, 80)
    whole = stage.decode(latents)
    apart = (Tiling(tile=256).decode(stage, latents) - whole).abs()
    assert 0 < apart.max() < 0.05 * whole.std()
    posterior = stage.encode(whole.clamp(-1, 1))
    apart = (Tiling(tile=256).encode(stage, whole.clamp(-1, 1)).mean - posterior.mean).abs()
    assert 0 < apart.max() < 0.05 * posterior.mean.std()


def test_group_norm_and_attention_over_a_tile_are_near_those_over_the_whole_where_tiles_are_alike() -> None:
    stage, latents = looking_everywhere(), noise(1, 4, 40, 64)
    assert stage.reach is None
    whole = stage.decode(latents)
    apart = (Tiling(tile=320).decode(stage, latents) - whole).abs()
    assert 0 < apart.mean() < 0.15 * whole.std()


@pytest.mark.slow
def test_a_flat_picture_shows_no_seam() -> None:
    """Neighbouring pixels differ by less than one of 255 grey levels, but where the border of the picture is felt."""
    flat = torch.full((1, 4, 64, 128), 0.5)
    for stage in (first_stage("model=kl-f8", "model.patch=1"), looking_everywhere()):
        tiled = Tiling(tile=512).decode(stage, flat)
        assert tiled[..., 128:-128].diff(dim=3).abs().max() < 2 / 255


def test_half_precision_is_blended_in_single_precision() -> None:
    stage = Blur()
    latents = noise(1, 3, 40, 40).bfloat16()
    tiled = Tiling(tile=64).decode(stage, latents)
    assert tiled.dtype == torch.float32
    torch.testing.assert_close(tiled, Blur().decode(latents.float()), atol=0.02, rtol=0)


def test_a_side_that_the_factor_does_not_divide_is_the_first_stages_to_refuse() -> None:
    with pytest.raises(ldmkit.ConfigError, match="both sides must be multiples of its factor, 8"):
        Tiling(tile=64).encode(first_stage("model=kl-f8"), noise(1, 3, 1001, 1000))


@pytest.mark.parametrize("wrong", [{"tile": 0}, {"overlap": 0.6}, {"overlap": -0.1}])
def test_a_tiling_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .* but must be"):
        Tiling(**wrong)


@pytest.fixture
def model() -> LatentDiffusion:
    model = ldmkit.build(ldmkit.compose(["scale=smoke", "cond=[]"]))
    model.first_stage = model.latents.first_stage = Blur()
    return model


def test_a_model_tiles_what_is_larger_than_a_tile_and_only_that(model: LatentDiffusion) -> None:
    pixels = model.first_stage.pixels
    model.decode(model.encode(noise(1, 3, 512, 512).clamp(-1, 1)))
    assert pixels == [512 * 512] * 2
    small = model.decode(noise(1, 3, 256, 256) / 3)
    assert len(pixels) > 6
    assert max(pixels) == 512 * 512
    whole = model.decode(noise(1, 3, 256, 256) / 3, tiling=None)
    assert pixels[-1] == 1024 * 1024
    torch.testing.assert_close(small, whole, atol=1e-5, rtol=0)


def test_pictures_are_clipped_behind_the_tiles(model: LatentDiffusion) -> None:
    assert model.decode(3 * noise(1, 3, 60, 60), tiling=Tiling(tile=64)).abs().max() == 1

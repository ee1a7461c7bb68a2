"""Super-resolution: the small picture arrives unchanged, and its noise is what it is said to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ldmkit_conditioners.low_res import LowRes, shrink
from PIL import Image
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.latent_space import LatentSpace
from ldmkit.errors import ConfigError
from ldmkit.specs import CondSpec, DataSpec, LatentSpec
from ldmkit.testing.fields import Averages
from ldmkit.values import to_pixels


def part(latent_factor: int = 4, size: int = 64, **keys: Any) -> LowRes:
    stage = Averages()
    stage.spec = LatentSpec(channels=4, factor=latent_factor)
    config = {"dropout": 0.0, "factor": 4, "noise": 0.0, "sampling_noise": 0.0, "width": 16, **keys}
    torch.manual_seed(0)
    return LowRes(
        LowRes.Config(name="low-res", field="low_res", **config),
        data=DataSpec(size=size, channels=3),
        latents=LatentSpace(stage),
    )


def images(batch: int = 2, size: int = 64) -> Tensor:
    return torch.randint(256, (batch, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def rows(count: int) -> RowRandom:
    return RowRandom([("test", row) for row in range(count)])


@pytest.mark.parametrize("factor", [2, 4])
def test_shrinking_is_pillows_bicubic_resize(factor: int) -> None:
    for image, small in zip(images(), shrink(images(), factor), strict=True):
        expected = Image.fromarray(image.movedim(0, 2).numpy()).resize((64 // factor,) * 2, Image.Resampling.BICUBIC)
        off = np.abs(small.movedim(0, 2).numpy().astype(int) - np.asarray(expected))
        assert off.max() <= 2  # Pillow rounds between its two passes
        assert off.mean() < 0.3


def test_where_sizes_agree_the_picture_is_concatenated_as_it_is() -> None:
    conditioner = part()
    low = shrink(images(), 4)
    assert conditioner.spec == CondSpec(map=3)  # with the 3 of the latent the paper's 6 input channels
    assert torch.equal(conditioner({"low_res": low}, (16, 16)).map, to_pixels(low))


def test_a_picture_larger_than_the_latent_is_folded_and_loses_no_pixel() -> None:
    conditioner = part(latent_factor=8)
    low = shrink(images(), 4)
    assert conditioner.spec == CondSpec(map=12)
    assert torch.equal(conditioner({"low_res": low}, (8, 8)).map, F.pixel_unshuffle(to_pixels(low), 2))


def test_a_picture_smaller_than_the_latent_is_enlarged_bicubically() -> None:
    low = shrink(images(), 4)
    expected = F.interpolate(to_pixels(low), size=(32, 32), mode="bicubic", antialias=True)
    torch.testing.assert_close(part(latent_factor=2)({"low_res": low}, (32, 32)).map, expected)


def test_noise_in_training_has_the_level_that_is_told() -> None:
    conditioner = part(noise=0.5).train()
    made = conditioner.observe(images(64), rows(64))
    noisy, level = made["low_res"], made["low_res noise"]
    clean = to_pixels(shrink(images(64), 4))
    kept = (1 - level.square()).sqrt().view(-1, 1, 1, 1)
    noise = (noisy - kept * clean).flatten(1)
    torch.testing.assert_close(noise.std(1), level, atol=0.05, rtol=0)  # 768 numbers each: 4 sigma are 0.05
    assert noise.mean(1).abs().max() < 0.1
    assert 0 <= level.min() < 0.1
    assert 0.4 < level.max() < 0.5
    conditioning = conditioner(made, (16, 16))
    assert torch.equal(conditioning.map, noisy)
    assert conditioning.vector.shape == (64, 16)


def test_sampling_adds_no_noise_unless_it_is_asked_to() -> None:
    conditioner = part(noise=0.5).eval()
    made = conditioner.observe(images(), rows(2))
    assert set(made) == {"low_res"}
    assert torch.equal(conditioner(made, (16, 16)).map, to_pixels(made["low_res"]))
    asked = part(noise=0.5, sampling_noise=0.3).eval()
    asked.load_state_dict(conditioner.state_dict())
    clean, noisy = (each(made, (16, 16)) for each in (conditioner, asked))
    noise = noisy.map - (1 - 0.3**2) ** 0.5 * clean.map
    assert 0.27 < noise.std() < 0.33
    assert not torch.equal(noisy.vector, clean.vector)
    alone = asked({"low_res": made["low_res"][1:]}, (16, 16))
    assert torch.equal(alone.map, noisy.map[1:])


def test_the_level_of_sampling_is_told_as_training_tells_it() -> None:
    conditioner = part(noise=0.5, sampling_noise=0.25).eval()
    low = shrink(images(1), 4)
    told = conditioner({"low_res": low}, (16, 16)).vector
    trained = conditioner({"low_res": to_pixels(low), "low_res noise": torch.tensor([0.25])}, (16, 16)).vector
    assert torch.equal(told, trained)


def test_without_noise_there_is_no_vector_and_training_sees_what_sampling_sees() -> None:
    conditioner = part().train()
    assert conditioner.spec.vector == 0
    assert list(conditioner.parameters()) == []
    made = conditioner.observe(images(), rows(2))
    assert torch.equal(made["low_res"], shrink(images(), 4))


def test_the_null_is_zeros() -> None:
    null = part(noise=0.5).null(2, (16, 16))
    assert not null.map.any()
    assert not null.vector.any()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": 66}, "66 pixels do not divide by cond.low-res.factor=4"),
        ({"factor": 3, "size": 48, "latent_factor": 8}, "factor=3 does not divide the first stage's factor 8"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        part(**keys)


def test_more_noise_than_was_trained_with_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sampling_noise is 0\.4 but must be 0 to 0.3"):
        part(noise=0.3, sampling_noise=0.4)

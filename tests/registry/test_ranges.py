"""A number out of range is refused when the config is checked, before anything is built, in one line with its key."""

from __future__ import annotations

import pytest

import ldmkit
from ldmkit.errors import ConfigError
from ldmkit.registry.composing import Composer

# Override => the key that the message names and what must hold. Several overrides have a space in between.
WRONG = {
    "train.denoiser.steps=-5": "train.denoiser.steps is -5 but must be 1 or more",
    "train.first_stage.steps=0": "train.first_stage.steps is 0 but must be 1 or more",
    "train.denoiser.batch_size=0": "train.denoiser.batch_size is 0 but must be 1 or more",
    "train.denoiser.lr=-1e-3": "train.denoiser.lr is -0.001 but must be 0 or more",
    "train.denoiser.lr=inf": "train.denoiser.lr is inf but must be 0 or more",
    "train.first_stage.muon_lr=-1": "train.first_stage.muon_lr is -1.0 but must be 0 or more",
    "train.denoiser.betas=[0.9,1.0]": "train.denoiser.betas.1 is 1.0 but must be at least 0 and below 1",
    "train.denoiser.betas=[-0.1,0.9]": "train.denoiser.betas.0 is -0.1 but must be at least 0 and below 1",
    "train.denoiser.weight_decay=-0.1": "train.denoiser.weight_decay is -0.1 but must be 0 or more",
    "train.denoiser.warmup=-1": "train.denoiser.warmup is -1 but must be 0 or more",
    "train.denoiser.clip=-1": "train.denoiser.clip is -1.0 but must be 0 or more",
    "train.denoiser.ema_decay=1": "train.denoiser.ema_decay is 1.0 but must be at least 0 and below 1",
    "train.denoiser.checkpoint_every=0": "train.denoiser.checkpoint_every is 0 but must be 1 or more",
    "train.denoiser.log_every=0": "train.denoiser.log_every is 0 but must be 1 or more",
    "samples.count=0": "samples.count is 0 but must be 1 or more",
    "samples.batch_size=0": "samples.batch_size is 0 but must be 1 or more",
    "samples.grid=0": "samples.grid is 0 but must be 1 or more",
    "samples.previews=[3,0]": "samples.previews.1 is 0 but must be 1 or more",
    "threads=-1": "threads is -1 but must be 0 or more",
    "cond.text.width=0": "cond.text.width is 0 but must be 1 or more",
    "cond.text.depth=0": "cond.text.depth is 0 but must be 1 or more",
    "cond.text.heads=0": "cond.text.heads is 0 but must be 1 or more",
    "cond.text.head_channels=-64": "cond.text.head_channels is -64 but must be 1 or more",
    "cond.text.length=0": "cond.text.length is 0 but must be 1 or more",
    "cond.text.vocabulary=7": "cond.text.vocabulary is 7 but must be 8 or more",
    "cond.text.dropout=1.5": "cond.text.dropout is 1.5 but must be 0 to 1",
    "cond=[class] cond.class.width=0": "cond.class.width is 0 but must be 1 or more",
    "cond=[semantic] cond.semantic.channels=0": "cond.semantic.channels is 0 but must be 1 or more",
    "cond=[semantic] cond.semantic.dropout=-1": "cond.semantic.dropout is -1.0 but must be 0 to 1",
    "denoiser.channels=0": "denoiser.channels is 0 but must be 1 or more",
    "denoiser.multipliers=[1,0]": "denoiser.multipliers.1 is 0 but must be 1 or more",
    "denoiser.multipliers=[]": "denoiser.multipliers is [] but must have one number for each level",
    "denoiser.res_blocks=0": "denoiser.res_blocks is 0 but must be 1 or more",
    "denoiser.head_channels=0": "denoiser.head_channels is 0 but must be 1 or more",
    "denoiser.transformer_depth=0": "denoiser.transformer_depth is 0 but must be 1 or more",
    "denoiser.feed_forward_multiple=0": "denoiser.feed_forward_multiple is 0 but must be 1 or more",
    "denoiser.dropout=1": "denoiser.dropout is 1.0 but must be at least 0 and below 1",
    "denoiser=dit denoiser.heads=3": "denoiser.width is 128 but must be a multiple of 4 and of heads=3",
    "denoiser=dit denoiser.tokens=crossed": "denoiser.tokens",
    "denoiser=uvit denoiser.depth=4": "denoiser.depth is 4 but must be odd",
    "model.z_channels=0": "model.z_channels is 0 but must be 1 or more",
    "model.width=-16": "model.width is -16 but must be 1 or more",
    "loss.kl_weight=-1": "loss.kl_weight is -1.0 but must be 0 or more",
    "objective.schedule.steps=0": "objective.schedule.steps is 0 but must be 2 or more",
    "objective.times.std=0": "objective.times.std is 0.0 but must be more than 0",
    "objective.schedule.shift=0": "objective.schedule.shift is 0.0 but must be more than 0",
    "objective.min_snr_gamma=0": "objective.min_snr_gamma is 0.0 but must be more than 0",
    "objective.offset_noise=-1": "objective.offset_noise is -1.0 but must be 0 or more",
    "objective=edm objective.sigma_data=0": "objective.sigma_data is 0.0 but must be more than 0",
    "objective=eps objective.schedule.kind=flow": "objective.schedule.kind is flow, so it ends without signal",
    "sampler.steps=0": "sampler.steps is 0 but must be 1 or more",
    "sampler.eta=1.5": "sampler.eta is 1.5 but must be 0 to 1",
    "sampler=dpmpp-2m sampler.steps=-1": "sampler.steps is -1 but must be 1 or more",
    "guidance.scale=inf": "guidance.scale is inf but must be finite",
    # What does not add up is told by the part itself.
    "denoiser.channels=96": "denoiser 'unet' got a level of 96 channels but expected a multiple of head_channels=64",
    "denoiser.norm=group denoiser.channels=48 denoiser.head_channels=16": "a level of 48 channels but norm=group",
    "model.factor=6": "model 'kl': factor is 6 but must be a power of two",
}


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer()


@pytest.mark.parametrize(("overrides", "expected"), WRONG.items(), ids=WRONG)
def test_a_number_out_of_range_is_refused_with_its_key(overrides: str, expected: str, composer: Composer) -> None:
    with pytest.raises(ConfigError) as error:
        ldmkit.check(composer.compose(overrides.split()))
    message = str(error.value)
    assert "\n" not in message
    assert expected in message


@pytest.mark.parametrize("scale", ["base", "demo", "paper", "smoke"])
def test_every_scale_is_in_range(scale: str, composer: Composer) -> None:
    assert ldmkit.check(composer.compose([f"scale={scale}"])).train.denoiser.steps >= 1

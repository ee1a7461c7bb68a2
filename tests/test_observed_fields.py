"""Fields that conditioners observe in pictures: made while training, exactly; given or held out when sampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ldmkit
from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import Interrupted
from ldmkit.models import build_data
from ldmkit.run import job
from ldmkit.stages.denoiser import DenoiserTrainee
from ldmkit.values import to_uint8

SHORT = [
    "scale=smoke",
    "logger=[]",
    "precision=fp32",
    "data.train=32",
    "train.first_stage.steps=1",
    "train.denoiser.steps=6",
    "train.denoiser.batch_size=4",
    "train.denoiser.checkpoint_every=2",
    "samples.previews=[]",
    "samples.count=3",
    "sampler.steps=2",
]


def run_job(place: Path, *overrides: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return job(ldmkit.compose([*SHORT, *overrides]), [*SHORT, *overrides]).absolute()


def metrics(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return found


ALL = "cond=[low-res,inpaint,image]"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("observed")


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    return run_job(place, ALL)


def test_a_run_that_was_stopped_goes_on_to_the_very_same_weights(whole: Path, tmp_path: Path) -> None:
    losses = DenoiserTrainee.losses

    def until_the_fifth(self: DenoiserTrainee, batch: Any, random: RowRandom, step: int) -> Any:
        if step == 4:
            raise Interrupted("enough")
        return losses(self, batch, random, step)

    with mock.patch.object(DenoiserTrainee, "losses", until_the_fifth), pytest.raises(Interrupted):
        run_job(tmp_path, ALL)
    (stopped,) = tmp_path.glob("outputs/runs/*")
    assert list(stopped.glob("checkpoints/denoiser/step-*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        job(ldmkit.compose([f"resume={stopped.name}"]), [f"resume={stopped.name}"])
    for name in ("conditioners", "denoiser"):
        one, two = (load_file(run / "model" / f"{name}.safetensors") for run in (whole, stopped))
        assert all(torch.equal(value, two[key]) for key, value in one.items()), name


def test_a_loaded_model_observes_and_draws_as_the_run_did(whole: Path) -> None:
    model = ldmkit.load(whole)
    images = build_data(ldmkit.compose(SHORT)).read("validation", range(3)).images
    fields = model.observe(images, seed=0)
    assert set(fields) == {"low_res", "image", "mask"}
    assert torch.equal(fields["image"], images)
    drawn = model.sample(fields, seed=0)

    for index in range(3):
        shown = np.array(Image.open(whole / "samples" / f"{index:05d}.png")).astype(int)
        assert np.abs(shown.transpose(2, 0, 1) - to_uint8(drawn)[index].numpy()).max() <= 1


def test_another_noise_of_sampling_trains_nothing_again_and_draws_something_else(whole: Path, place: Path) -> None:
    noisy = run_job(place, ALL, "cond.low-res.sampling_noise=0.3")
    assert set(metrics(noisy)["reused"]) == {"conditioners", "first-stage", "latents", "denoiser"}
    assert metrics(whole)["reused"] == []
    one, two = (np.array(Image.open(run / "samples" / "00000.png")) for run in (whole, noisy))
    assert (one != two).any()
    low = torch.full((1, 3, 8, 8), 128, dtype=torch.uint8)
    picture = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    told = {"low_res": low, "image": picture, "mask": torch.ones(1, 32, 32, dtype=torch.bool)}
    typed = ldmkit.load(whole, settings={"cond.low-res.sampling_noise": 0.3})
    assert torch.equal(typed.sample(told), ldmkit.load(noisy).sample(told))


def test_what_is_observed_is_a_function_of_the_step_and_the_row() -> None:
    model = ldmkit.build(ldmkit.compose(["scale=smoke", "cond=[inpaint]"]))
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    one, again, later = (
        model.conditioners.observe(images, RowRandom.of(0, "denoiser", step, [3, 4]))["mask"] for step in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, later)


@pytest.mark.parametrize(("cond", "decoded"), [("[]", 0), ("[text]", 0), ("[image]", 1)])
def test_pictures_are_decoded_only_where_something_is_observed(cond: str, decoded: int) -> None:
    config = ldmkit.compose(["scale=smoke", f"cond={cond}"])
    data = build_data(config)
    model, latents = ldmkit.build(config), mock.Mock(**{"__len__": 32})
    latents.__len__ = lambda self: 32
    trainee = DenoiserTrainee(model, latents, data, torch.device("cpu"))
    with mock.patch.object(data, "read", wraps=data.read) as read:
        example = trainee.read([0, 1])
    assert read.call_count == decoded
    assert (example.images is not None) == bool(decoded)


def test_super_resolution_is_measured_beside_bicubic_enlargement(place: Path) -> None:
    run = run_job(place, "+experiment=super-resolution")
    found = metrics(run)["super_resolution"]
    assert found.keys() >= {"psnr", "bicubic_psnr", "lpips_random", "bicubic_lpips_random"}
    assert found["psnr_count"] == found["bicubic_psnr_count"] == 3
    assert found["bicubic_psnr"] > 20
    assert (run / "samples" / "beside.png").is_file()


def test_inpainting_is_measured_on_known_pixels_as_drawn_and_by_the_caption_as_completed(place: Path) -> None:
    run = run_job(place, "+experiment=inpainting")
    found = metrics(run)
    assert found["inpainting"]["known_error"] > 1  # nothing is trained
    assert 0 < found["inpainting"]["known_share"] < 1
    assert found["prompt"]["count"] == 3
    assert found["protocol"]["known-pixels"]["on"] == "drawn"


def test_dropout_makes_rows_null_and_leaves_what_is_observed() -> None:
    model = ldmkit.build(ldmkit.compose(["scale=smoke", "cond=[inpaint]", "cond.inpaint.dropout=1.0"]))
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    random = RowRandom([("row", 0), ("row", 1)])
    fields = model.conditioners.observe(images, random)
    dropped = model.conditioners.with_dropout(fields, (4, 4), random)
    assert torch.equal(dropped.map, model.conditioners.null(2, (4, 4)).map)

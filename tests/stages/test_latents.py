"""Cached posteriors: found again by index, drawn from as if encoded anew, announced before they are made."""

from __future__ import annotations

import json
import math
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ldmkit
from ldmkit.artifacts.checkpoint import read_tensors, write_json
from ldmkit.artifacts.random import RowRandom
from ldmkit.artifacts.rows import TensorRows
from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.errors import ConfigError
from ldmkit.models import STATISTICS, load
from ldmkit.run import job
from ldmkit.stages import latents
from ldmkit.values import Posterior, to_pixels

CPU = torch.device("cpu")
FEW_STEPS = [
    "scale=smoke",
    "cond=[]",
    "logger=jsonl",
    "metric=[]",
    "train.first_stage.steps=2",
    "train.denoiser.steps=1",
    "samples.count=1",
    "samples.previews=[]",
    "sampler.steps=1",
]


def cached(posteriors: list[Posterior], directory: Path, dtype: torch.dtype = torch.float32) -> latents.Latents:
    shape = tuple(posteriors[0].mean.shape[1:])
    footprint = latents.Footprint(sum(len(p.mean) for p in posteriors), shape, True, dtype)
    statistics = LatentStatistics.measure(latents._write(posteriors, directory, footprint), "digest")
    write_json(directory / STATISTICS, statistics.as_json())
    return latents.Latents(directory)


@pytest.fixture(autouse=True)
def small_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight images of 3 x 2 x 2 to a file, mean and std in fp32."""
    if "place" not in request.fixturenames:
        monkeypatch.setattr(latents, "SHARD_BYTES", 8 * 3 * 2 * 2 * 4 * 2)


def random_posteriors(*sizes: int) -> list[Posterior]:
    noise = torch.Generator().manual_seed(0)
    return [
        Posterior(torch.randn(size, 3, 2, 2, generator=noise), torch.rand(size, 3, 2, 2, generator=noise))
        for size in sizes
    ]


def test_posteriors_are_found_by_index_over_all_files(tmp_path: Path) -> None:
    made = random_posteriors(4, 4, 4, 4, 3)
    found = cached(made, tmp_path)
    assert len(list(tmp_path.glob("posteriors-*"))) == 3
    assert len(found) == 19
    assert found.statistics.count == 19
    indices = [18, 0, 7, 8, 0]
    posterior = found.posterior(indices, CPU)
    assert torch.equal(posterior.mean, torch.cat([p.mean for p in made])[indices])
    assert torch.equal(posterior.std, torch.cat([p.std for p in made])[indices])


def test_an_image_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    found = cached(random_posteriors(4, 4, 3), tmp_path)
    for index in (-1, 11):
        with pytest.raises(IndexError):
            found.posterior([0, index], CPU)


def test_a_spread_of_zero_takes_no_room(tmp_path: Path) -> None:
    made = [Posterior(p.mean, torch.zeros_like(p.mean)) for p in random_posteriors(4, 4, 4)]
    found = cached(made, tmp_path)
    assert all(set(read_tensors(path)) == {"mean"} for path in tmp_path.glob("posteriors-*"))
    assert torch.equal(found.posterior([9], CPU).mean, made[2].mean[1:2])
    assert not found.posterior([9, 0], CPU).std.any()


def test_half_precision_takes_half_the_room_and_comes_back_in_fp32_to_three_digits(tmp_path: Path) -> None:
    made = random_posteriors(8)
    for name, dtype in (("single", torch.float32), ("half", torch.float16)):
        (tmp_path / name).mkdir()
        posterior = cached(made, tmp_path / name, dtype).posterior(range(8), CPU)
        assert posterior.mean.dtype == posterior.std.dtype == torch.float32
        torch.testing.assert_close(posterior.mean, made[0].mean, atol=1e-4, rtol=2**-11)
    single, half = (
        sum(tensor.nbytes for path in (tmp_path / name).glob("post*") for tensor in read_tensors(path).values())
        for name in ("single", "half")
    )
    assert single == 2 * half == 8 * 12 * 2 * 4


def test_a_latent_that_half_precision_cannot_hold_is_an_error_and_not_infinite(tmp_path: Path) -> None:
    large = [Posterior(torch.full((4, 3, 2, 2), 7e4), torch.ones(4, 3, 2, 2))]
    with pytest.raises(ConfigError, match=r"float16 cannot hold a latent of 7e\+04, .*; type latents.dtype=float32"):
        cached(large, tmp_path, torch.float16)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("latents")


def run_job(directory: Path, *overrides: str) -> Path:
    before = set(directory.glob("outputs/runs/*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        job(ldmkit.compose([*FEW_STEPS, *overrides]), [*FEW_STEPS, *overrides])
    (made,) = set(directory.glob("outputs/runs/*")) - before
    return made


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    return run_job(place, "precision=fp32")


def caches(place: Path) -> list[dict[str, Any]]:
    """What each cache of the store was made from."""
    return [json.loads(path.read_text()) for path in sorted(place.glob("outputs/store/latents/*/inputs.json"))]


def cache_of(run: Path) -> Path:
    """The directory in the store that ``run`` has its latent statistics from."""
    stores = run.parents[1].glob(f"store/latents/*/{STATISTICS}")
    (found,) = (path.parent for path in stores if path.samefile(run / "model" / STATISTICS))
    return found


def test_draws_from_the_cache_are_distributed_as_draws_of_the_encoder(run: Path) -> None:
    """Each draw is mean + std * noise on both ways: moments agree within five standard errors of N draws."""
    from_cache, model = latents.Latents(cache_of(run)), load(run)
    data = ldmkit.models.build_data(json.loads((run / "config.json").read_text()))
    indices, count = [3, 200, 17], 4000
    encoded = model.first_stage.encode(to_pixels(data.read("train", indices).images))
    drawn: list[Tensor] = []
    for source, stage in ((from_cache.posterior(indices, CPU), "one"), (encoded, "other")):
        draws = [source.sample(RowRandom.of(0, stage, step, indices)) for step in range(count)]
        drawn.append(torch.stack(draws))
    cached_draws, fresh_draws = drawn
    assert not torch.equal(cached_draws[0], cached_draws[1])  # drawn anew at every use
    std = encoded.std
    error = 5 * std * math.sqrt(2 / count)
    assert ((cached_draws.mean(0) - fresh_draws.mean(0)).abs() <= error + 1e-6).all()
    assert ((cached_draws.std(0) - fresh_draws.std(0)).abs() <= error / math.sqrt(2) + 1e-6).all()
    assert ((cached_draws.mean(0) - encoded.mean).abs() <= error / math.sqrt(2) + 1e-6).all()
    assert ((cached_draws.std(0) - std).abs() <= error / 2 + 1e-6).all()


def test_what_is_cached_and_how_large_it_gets_is_said_before_it_is_made(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    events = [(line["event"], line.get("section") or line.get("stage")) for line in lines]
    assert events.index(("metrics", "latents")) == events.index(("stage", "latents")) + 1
    said = lines[events.index(("metrics", "latents"))]["metrics"]
    stored = [TensorRows(path) for path in cache_of(run).glob("posteriors-*")]
    assert said["images"] == sum(map(len, stored))
    assert (said["channels"], said["height"], said["width"]) == stored[0].shapes["mean"]
    assert said["tensors"] == len(stored[0].shapes) == 2
    assert said["GiB"] * 2**30 == said["images"] * math.prod(stored[0].shapes["mean"]) * 4 * 2


def test_a_cache_is_for_one_first_stage_data_set_precision_and_kind_of_statistics(run: Path, place: Path) -> None:
    assert json.loads((cache_of(run) / "inputs.json").read_text()).keys() == {
        "first_stage",
        "data",
        "statistics",
        "dtype",
        "bf16",
    }
    before = len(caches(place))
    run_job(place, "precision=fp32", "latents.tile=128", "guidance=none")  # images of 32 pixels are in no tile
    assert len(caches(place)) == before
    run_job(place, "precision=fp32", "latents.dtype=float16")
    run_job(place, "precision=fp32", "latents.statistics=scalar")
    run_job(place, "precision=fp32", "latents.scale=0.18215")
    run_job(place, "precision=fp32", "latents.tile=16")
    run_job(place, "precision=fp32", "train.first_stage.lr=0.1")
    run_job(place, "precision=fp32", "data.train=100")
    made = caches(place)
    assert len(made) == before + 6
    assert [inputs["tile"] for inputs in made if "tile" in inputs] == [16]


def test_a_scalar_is_one_scale_without_a_shift(place: Path) -> None:
    made = run_job(place, "precision=fp32", "latents.statistics=scalar")
    statistics = json.loads((made / "model" / STATISTICS).read_text())
    assert set(statistics["shift"]) == {0.0}
    assert len(set(statistics["scale"])) == 1
    assert len(statistics["scale"]) == 4


def test_a_given_scale_stands_in_place_of_the_measured_one(place: Path) -> None:
    made = run_job(place, "precision=fp32", "latents.scale=0.18215")
    statistics = json.loads((made / "model" / STATISTICS).read_text())
    assert set(statistics["shift"]) == {0.0}
    assert statistics["scale"] == pytest.approx([0.18215] * 4)
    assert [inputs["scale"] for inputs in caches(place) if "scale" in inputs] == [0.18215]


Usage = namedtuple("Usage", ["total", "used", "free"])


def test_without_room_on_the_disk_nothing_is_trained_and_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**30, 2**30 - 1000, 1000))
    message = (
        r"the latents of \d+ images \(mean and std, 4 x 4 x 4, float32\) take 0\.\d\d GiB but '.*store' has 0\.00 GiB "
        r"free; make room, or latents\.dtype=float16 takes half of it, or name a directory .* outputs=DIRECTORY"
    )
    with pytest.raises(ConfigError, match=message) as raised:
        run_job(tmp_path)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("outputs/store/first-stage/*"))


def test_a_cache_that_is_there_needs_no_room(run: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**30, 2**30 - 1000, 1000))
    run_job(place, "precision=fp32", "guidance=none")
    with pytest.raises(ConfigError, match="make room"):
        run_job(place, "precision=fp32", "train.first_stage.lr=0.2")


def test_a_first_stage_without_spread_stores_means_only(place: Path) -> None:
    made = run_job(place, "model=identity", "precision=fp32")
    lines = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    (said,) = [line["metrics"] for line in lines if line.get("section") == "latents"]
    assert said["tensors"] == 1
    assert (said["channels"], said["height"], said["width"]) == (3, 32, 32)

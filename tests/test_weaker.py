"""A run that is guided by the model of another run."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch

import ldmkit
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.models import build_part
from ldmkit.run import job

FEW_STEPS = [
    "scale=smoke",
    "logger=[]",
    "train.first_stage.steps=2",
    "train.denoiser.steps=3",
    "samples.count=1",
    "samples.previews=[]",
    "sampler.steps=2",
    "precision=fp32",
]
ASKED = {"caption": ["a small red circle", "a blue square"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weaker")


def run(place: Path, *overrides: str) -> Path:
    changed = {override.partition("=")[0] for override in overrides}
    words = [*(step for step in FEW_STEPS if step.partition("=")[0] not in changed), *overrides]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return job(ldmkit.compose(words), words).absolute()


@pytest.fixture(scope="module")
def weak(place: Path) -> Path:
    """A run with fewer steps, which has conditioners of its own."""
    return run(place, "train.denoiser.steps=1", "train.denoiser.lr=0.1", "cond.text.width=16")


@pytest.fixture(scope="module")
def strong(place: Path, weak: Path) -> Path:
    return run(place, "guidance=autoguidance", f"guidance.run={weak}", "guidance.scale=3")


def drawn(model: LatentDiffusion, *overrides: str) -> torch.Tensor:
    """Pictures by ``model`` with the guidance that ``overrides`` name."""
    guidance = build_part("guidance", ldmkit.compose(["scale=smoke", *overrides])["guidance"])
    with mock.patch.object(model, "guidance", guidance):
        return model.sample(ASKED, steps=2)


def test_it_goes_away_from_what_the_weaker_model_would_draw(weak: Path, strong: Path) -> None:
    model, other = ldmkit.load(strong), ldmkit.load(weak)
    alone, by_weaker = (drawn(each, "guidance=none") for each in (model, other))
    named = ["guidance=autoguidance", f"guidance.run={weak}"]
    torch.testing.assert_close(drawn(model, *named, "guidance.scale=1"), alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(drawn(model, *named, "guidance.scale=0"), by_weaker, rtol=0, atol=1e-5)
    assert (model.sample(ASKED, steps=2) - alone).abs().max() > 1e-3


def test_it_is_looked_up_where_the_runs_of_this_one_lie(place: Path) -> None:
    elsewhere = ["outputs=elsewhere", "train.denoiser.steps=1"]
    weak = run(place, *elsewhere)
    strong = run(place, *elsewhere, "guidance=autoguidance", f"guidance.run={weak.name}")
    assert weak.parent == strong.parent == place / "elsewhere" / "runs"
    with pytest.raises(CheckpointError, match=f"There is no run in {Path('nowhere/runs')}"):
        run(place, "outputs=nowhere", "guidance=autoguidance", f"guidance.run={weak.name}")
    assert not (place / "nowhere").exists()


def test_a_run_that_is_not_there_is_told_before_anything_is_built() -> None:
    with pytest.raises(CheckpointError, match="there is no run 'nowhere'"):
        ldmkit.build(ldmkit.compose(["scale=smoke", "guidance=autoguidance", "guidance.run=nowhere"]))


def test_a_weaker_model_of_other_latents_is_refused(weak: Path, place: Path) -> None:
    guided = ["guidance=autoguidance", f"guidance.run={weak}"]
    with pytest.raises(ConfigError, match=r"has latents of LatentSpec\(channels=4.*but this run of LatentSpec"):
        ldmkit.build(ldmkit.compose([*FEW_STEPS, "model=kl-f4", *guided]))
    with pytest.raises(ConfigError, match="was trained on other latents; name a run that has the first stage"):
        run(place, *guided, "train.first_stage.steps=1")


def test_a_weaker_model_that_must_be_told_more_is_refused(weak: Path) -> None:
    config = ldmkit.compose([*FEW_STEPS, "cond=class", "guidance=autoguidance", f"guidance.run={weak}"])
    with pytest.raises(ConfigError, match=r"is conditioned on caption \(text\), which this run's cond does not read"):
        ldmkit.build(config)

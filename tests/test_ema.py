"""`ldmkit ema`: a checkpoint with other averages of a run's weights, to sample from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ldmkit
from ldmkit.artifacts.checkpoint import read_json
from ldmkit.ema import main
from ldmkit.errors import ConfigError
from ldmkit.run import job
from ldmkit.sample import main as sample

FEW_STEPS = [
    "scale=smoke",
    "logger=[]",
    "train.first_stage.steps=1",
    "train.denoiser.steps=8",
    "samples.count=1",
    "samples.previews=[]",
    "sampler.steps=2",
]
TRAINED = ("denoiser", "conditioners", "objective")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with averages after steps 3, 6 and 8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("ema"))
        words = [*FEW_STEPS, "train.denoiser.snapshot_every=3"]
        return job(ldmkit.compose(words), words).absolute()


@pytest.mark.parametrize(("width", "step"), [("0.05", 8), ("0.1", 8), ("0.1", 6)])
def test_a_stored_average_comes_back_as_it_was_stored(width: str, step: int, run: Path, tmp_path: Path) -> None:
    main([str(run), "--width", width, "--step", str(step), "--out", str(tmp_path / "made")])
    stored = load_file(run / "snapshots" / f"step-{step:08d}" / f"ema-{float(width):.3f}.safetensors")
    made = {
        f"{n}.{key}": value
        for n in TRAINED
        for key, value in ldmkit.load(tmp_path / "made").get_submodule(n).named_parameters()
        for n in [n]
    }
    assert made.keys() == stored.keys()
    for name, value in stored.items():
        torch.testing.assert_close(made[name].detach(), value, atol=1e-5, rtol=1e-5)
    assert read_json(tmp_path / "made" / "ema.json").keys() == {"width", "step", "off", "snapshots"}


def test_the_new_checkpoint_is_sampled_from_and_the_old_one_is_as_it_was(run: Path, tmp_path: Path) -> None:
    before = ldmkit.load(run).state_dict()
    main([str(run), "--width", "0.2"])
    assert all(torch.equal(value, before[name]) for name, value in ldmkit.load(run).state_dict().items())
    other = ldmkit.load(run / "ema-0.2").state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in other.items() if name.startswith("denoiser"))
    assert all(torch.equal(value, before[name]) for name, value in other.items() if name.startswith("first_stage"))
    sample([str(run / "ema-0.2"), "a red circle", "--out", str(tmp_path)])
    assert (tmp_path / "00000.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--width", "0.3"], "--width takes a number above 0 and below 0.2887, got '0.3'"),
        (["--width", "wide"], "--width takes a number above 0"),
        (["--width", "0.1", "--step", "9"], "--step 9: the run has snapshots of steps 3 to 8"),
        (["--width", "0.1", "--step", "2"], "--step 2: the run has snapshots of steps 3 to 8"),
        (["--width", "0.1", "--out", "{run}/samples"], "samples is there already, and is no checkpoint"),
        ([], "--width"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], message: str, run: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        main([str(run), *(argument.format(run=run) for argument in arguments)])


def test_a_run_without_snapshots_says_how_to_have_them(run: Path, tmp_path: Path) -> None:
    (run / "model").rename(tmp_path / "model")
    try:
        with pytest.raises(ConfigError, match=r"has stored no averages; train with train.denoiser.snapshot_every=N"):
            main([str(tmp_path / "model"), "--width", "0.1"])
    finally:
        (tmp_path / "model").rename(run / "model")

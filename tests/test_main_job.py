"""The main job at scale=smoke, from overrides to pictures: what is made, what is reused, how it stops and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ldmkit
from ldmkit.errors import CheckpointError, ConfigError, DataError, LdmkitError
from ldmkit.pictures import read_metadata
from ldmkit.records import read_run
from ldmkit.run import job
from ldmkit.values import to_uint8

SMOKE = ["scale=smoke", "logger=jsonl"]


def run_job(directory: Path, *overrides: str) -> Path:
    """Run in this process with ``directory`` as working directory, and return the run's directory."""
    before = set(directory.glob("outputs/runs/*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        arguments = [*SMOKE, *overrides]
        job(ldmkit.compose(arguments), arguments)
    (made,) = set(directory.glob("outputs/runs/*")) - before
    return made


def records(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("main-job")


@pytest.fixture(scope="module")
def first(place: Path) -> Path:
    return run_job(place)


def test_a_run_leaves_a_checkpoint_pictures_metrics_and_a_report(first: Path) -> None:
    metrics = json.loads((first / "metrics.json").read_text())
    assert metrics["first_stage"].keys() >= {"psnr", "ssim", "verified"}
    assert metrics["prompt"].keys() >= {"colour", "size", "position", "shape", "all", "count"}
    assert metrics["prompt"]["count"] == 8
    assert metrics["samples"]["evaluations"] == 40  # 20 steps, conditional and null
    assert metrics["seconds"].keys() >= {"conditioners", "first-stage", "latents", "denoiser", "samples", "total"}
    assert metrics["reused"] == []
    assert len(list((first / "samples").glob("0*.png"))) == 8
    ended = read_run(first)
    assert ended.state == "finished"
    stored = {stage["name"] for stage in ended.stages if stage["digest"]}
    assert stored == {"conditioners", "first-stage", "latents", "denoiser"}
    assert (first / "samples" / "grid.png").is_file()
    assert (first / "samples" / "preview-00000010.png").is_file()
    assert (first / "report.html").is_file()
    assert not list((first / "checkpoints").glob("*/*"))


def test_a_picture_says_how_it_was_made_and_is_made_again_from_that(first: Path) -> None:
    record = read_metadata(first / "samples" / "00005.png")
    assert record.keys() >= {"prompt", "seed", "sampler", "steps", "guidance", "checkpoint", "command"}
    assert record["seed"] == 5
    model = ldmkit.load(first)
    again = model.sample({"caption": [record["prompt"]]}, seed=record["seed"], steps=record["steps"])
    assert again.shape == (1, 3, 32, 32)
    shown = torch.from_numpy(np.array(Image.open(first / "samples" / "00005.png"))).permute(2, 0, 1)
    assert (to_uint8(again)[0].int() - shown.int()).abs().float().mean() < 4  # bf16 in a batch there, fp32 alone here


def test_another_sampler_reuses_every_trained_stage(first: Path, place: Path) -> None:
    second = run_job(place, "sampler=dpmpp-2m", "sampler.steps=7", "guidance=none")
    metrics = json.loads((second / "metrics.json").read_text())
    assert metrics["reused"] == ["conditioners", "first-stage", "latents", "denoiser"]
    assert metrics["samples"]["evaluations"] == 7
    weights = [load_file(run / "model" / "denoiser.safetensors") for run in (first, second)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert (first / "model" / "denoiser.safetensors").samefile(second / "model" / "denoiser.safetensors")


def test_another_denoiser_keeps_the_first_stage(first: Path, place: Path) -> None:
    other = run_job(place, "train.denoiser.steps=2", "samples.previews=[]")
    assert json.loads((other / "metrics.json").read_text())["reused"] == ["conditioners", "first-stage", "latents"]


def test_the_same_seed_gives_the_same_weights_elsewhere(first: Path, tmp_path: Path) -> None:
    again = run_job(tmp_path)
    for name in ("first_stage", "conditioners", "denoiser"):
        one, two = (load_file(run / "model" / f"{name}.safetensors") for run in (first, again))
        assert all(torch.equal(value, two[key]) for key, value in one.items()), name


@pytest.mark.parametrize("overrides", [["model=identity"], ["cond=[]"], ["cond=class"], ["cond=[text,semantic]"]])
def test_other_parts_go_together_without_an_edit(place: Path, first: Path, overrides: list[str]) -> None:
    run = run_job(place, *overrides, "train.denoiser.steps=2", "samples.previews=[1]")
    assert (run / "report.html").is_file()
    assert len(list((run / "samples").glob("0*.png"))) == 8


def ldmkit_process(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ldmkit", *arguments],
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_one_signal_stops_after_the_step_saves_and_says_how_to_go_on(
    tmp_path: Path, first: Path, number: int, code: int
) -> None:
    process = ldmkit_process(tmp_path, "run", *SMOKE)
    while process.poll() is None:
        logs = list(tmp_path.glob("outputs/runs/*/metrics.jsonl"))
        if logs and '"denoiser"' in logs[0].read_text() and '"step"' in logs[0].read_text().splitlines()[-1]:
            process.send_signal(number)
            break
        time.sleep(0.02)
    error = process.communicate(timeout=60)[1]
    (run,) = tmp_path.glob("outputs/runs/*")
    assert process.returncode == code, error
    assert f"ldmkit run resume={run.name}" in error
    assert read_run(run).state == "interrupted"
    assert "stopped in stage denoiser" in read_run(run).error
    assert "Traceback" not in error
    assert list((run / "checkpoints" / "denoiser").glob("step-*"))
    resumed = ldmkit_process(tmp_path, "run", f"resume={run.name}")
    error = resumed.communicate(timeout=120)[1]
    assert resumed.returncode == 0, error
    for name in ("first_stage", "conditioners", "denoiser"):
        one, two = (load_file(r / "model" / f"{name}.safetensors") for r in (first, run))
        assert all(torch.equal(value, two[key]) for key, value in one.items()), name


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the job's process by /proc")
def test_a_job_that_its_scheduler_preempts_saves_and_goes_on_in_the_same_run(tmp_path: Path, first: Path) -> None:
    process = ldmkit_process(tmp_path, "run", "-m", "hydra/launcher=submitit_local", *SMOKE)
    while process.poll() is None:
        logs = list(tmp_path.glob("outputs/runs/*/metrics.jsonl"))
        if logs and '"denoiser"' in logs[0].read_text() and '"step"' in logs[0].read_text().splitlines()[-1]:
            (folder,) = tmp_path.glob(
                "outputs/sweeps/*/.submitit/[0-9]*"
            )  # named for the process that starts the job's
            started = Path(f"/proc/{folder.name}/task/{folder.name}/children").read_text().split()
            os.kill(int(started[0]), signal.SIGUSR2)
            break
        time.sleep(0.02)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 0, error
    assert "this job is preempted" in (folder / f"{folder.name}_0_log.err").read_text()
    (run,) = tmp_path.glob("outputs/runs/*")
    for name in ("first_stage", "conditioners", "denoiser"):
        one, two = (load_file(r / "model" / f"{name}.safetensors") for r in (first, run))
        assert all(torch.equal(value, two[key]) for key, value in one.items()), name


def test_resuming_what_is_not_there_creates_nothing_and_names_the_runs(first: Path, place: Path) -> None:
    before = set(place.glob("outputs/runs/*"))
    there = r"there is no run 'nowhere'\. The(?:re is:| last ones are) (\d{8}-\d{6}-[0-9a-f]{4}(, )?)+$"
    with pytest.raises(CheckpointError, match=there):
        run_job(place, "resume=nowhere")
    assert set(place.glob("outputs/runs/*")) == before


def test_a_resumed_run_keeps_the_command_that_started_it(first: Path, place: Path) -> None:
    run = run_job(place, "cond=class", "train.denoiser.steps=2", "samples.previews=[]")
    before = json.loads((run / "run.json").read_text())["command"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        job(ldmkit.compose([f"resume={run.name}"]), [f"resume={run.name}"])
    assert json.loads((run / "run.json").read_text())["command"] == before
    assert "cond=class" in before


def test_pictures_say_what_the_model_was_told_and_are_held_against_nothing_else(first: Path, place: Path) -> None:
    run = run_job(place, "cond=class", "train.denoiser.steps=2", "samples.previews=[]")
    prompt = read_metadata(run / "samples" / "00000.png")["prompt"]
    assert prompt.split()[-1] in {"circle", "square", "triangle", "cross"}
    assert len(prompt.split()) == 2  # a colour and a shape, not the caption
    assert set(json.loads((run / "metrics.json").read_text())["prompt"]) == {"class", "all", "count"}


def test_how_often_is_logged_does_not_train_again(first: Path, place: Path) -> None:
    again = run_job(place, "train.denoiser.log_every=3", "train.first_stage.checkpoint_every=7")
    assert json.loads((again / "metrics.json").read_text())["reused"] == [
        "conditioners",
        "first-stage",
        "latents",
        "denoiser",
    ]


def test_resuming_with_another_config_is_refused_and_names_the_keys(first: Path, place: Path) -> None:
    with pytest.raises(ConfigError, match=r"denoiser differ from what the run was started with"):
        run_job(place, f"resume={first.name}", "denoiser.dropout=0.5")


def test_a_run_directory_in_use_is_refused(first: Path, place: Path) -> None:
    from filelock import FileLock

    with FileLock(first / ".lock"), pytest.raises(ConfigError, match="in use by another process"):
        run_job(place, f"resume={first.name}")


def test_an_outputs_directory_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write to .*; name a directory that can be written"):
        run_job(tmp_path, "outputs=file")


def pictures(directory: Path, count: int = 40, captions: bool = True) -> Path:
    """A folder of ``count`` flat pictures, with captions beside them."""
    directory.mkdir()
    for index in range(count):
        colour = (index * 6, 255 - index * 6, index * 37 % 256)
        Image.new("RGB", (40, 32), colour).save(directory / f"{index:03d}.png")
        if captions:
            (directory / f"{index:03d}.txt").write_text(f"a flat picture of colour number {index}")
    return directory


def test_own_images_train_and_a_corrupt_one_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pictures(tmp_path / "photos", 120)
    (folder / "broken.png").write_bytes((folder / "000.png").read_bytes()[:60])
    (folder / "broken.txt").write_text("a broken picture")
    run = run_job(tmp_path, "data=folder", f"data.path={folder}", "train.denoiser.steps=2", "samples.previews=[]")
    kept = json.loads((run / "data-notices.json").read_text())
    assert [entry["what"] for entry in kept["skipped"]] == ["broken.png"]
    assert len(list((run / "samples").glob("0*.png"))) == 8
    assert "prompt" not in json.loads((run / "metrics.json").read_text())  # nothing can verify photographs
    for name, what in (("verified", "reconstructed"), ("prompt", "sampled")):
        assert f"metric {name}: nothing to measure in what this run has {what}" in caplog.text


@pytest.mark.parametrize(
    ("prepare", "overrides", "kind", "message"),
    [
        (Path.mkdir, [], DataError, "no image"),
        (
            lambda folder: pictures(folder, captions=False),
            [],
            ConfigError,
            r"needs the field 'caption'.*crop_left \(scalar\)",
        ),
        (pictures, ["cond=class"], ConfigError, r"needs the field 'class'.*caption \(text\)"),
        (
            lambda folder: (pictures(folder) / "000.png").write_bytes(b"no picture"),
            [],
            DataError,
            r"000\.png.*|data\.max_bad",
        ),
    ],
)
def test_a_folder_that_cannot_be_trained_on_says_what_it_lacks(
    tmp_path: Path, prepare: Callable[[Path], object], overrides: list[str], kind: type[LdmkitError], message: str
) -> None:
    prepare(tmp_path / "photos")
    with pytest.raises(kind, match=message) as raised:
        run_job(tmp_path, "data=folder", f"data.path={tmp_path / 'photos'}", *overrides)
    assert "\n" not in str(raised.value)


def test_twenty_runs_in_one_second_have_twenty_directories(tmp_path: Path) -> None:
    from ldmkit.run import _create

    assert len({_create(tmp_path / "runs", {}) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        (["data.size=36"], ConfigError, r"36 pixels do not divide by the factor 8 .*data\.size=32 or data\.size=40"),
        (
            ["denoiser=dit", "denoiser.patch_size=3"],
            ConfigError,
            r"latents of 4x4, .* of images of 32 pixels, do not divide by the 3 of denoiser 'dit'.* data\.size=24",
        ),
        (["model=kl-f32"], ConfigError, r"latents of 1x1, .* the 2 of denoiser 'unet'; nearest that do: data\.size=64"),
        (["data=folder"], ConfigError, r"data\.path"),
        (["data=folder", "data.path=nowhere"], DataError, "nowhere"),
        (["cond.text.field=title"], ConfigError, r"needs the field 'title'.*caption"),
        (["device=cuda:7"], ConfigError, r"cuda:7 is not here\. There is: auto, cpu.*"),
    ],
)
def test_a_run_that_cannot_work_says_so_in_one_line_before_it_trains(
    tmp_path: Path, overrides: list[str], kind: type[LdmkitError], message: str
) -> None:
    with pytest.raises(kind, match=message) as raised:
        run_job(tmp_path, *overrides)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("outputs/store/*"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampler.steps=300", "sampler.spacing=compvis"], "compvis cannot make 300 steps"),
        (["guidance.scale={text: 4, semantic: 2}"], r"scales for text, semantic, but .* cond is \[text\]"),
    ],
)
def test_a_mistake_that_no_data_are_needed_to_find_leaves_nothing_behind(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_job(tmp_path, *overrides)
    assert not list(tmp_path.iterdir())

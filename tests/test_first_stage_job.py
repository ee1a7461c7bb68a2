"""The tasks of first stages at scale=smoke: what they make, what they share with the main job, what they refuse."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ldmkit
from ldmkit.cli import main
from ldmkit.errors import CheckpointError, ConfigError, DataError, LdmkitError
from ldmkit.models import build_data, load_first_stage
from ldmkit.run import job
from ldmkit.values import to_pixels

SMOKE = ["scale=smoke", "logger=jsonl", "precision=fp32", "train.first_stage.steps=3"]


def run_job(directory: Path, *overrides: str) -> Path:
    """Run in this process with ``directory`` as working directory, and return the run's directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        arguments = [*SMOKE, *overrides]
        return directory / job(ldmkit.compose(arguments), arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first-stage")


@pytest.fixture(scope="module")
def first(place: Path) -> Path:
    return run_job(place, "task=first-stage", "metric=[psnr,ssim,verified,prompt,rfid,lpips,fid]")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of five pictures, two of which differ in their endings only."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for index, name in enumerate(["a.png", "a.bmp", "b.png", "more/c.png", "more/d.png"]):
        Image.new("RGB", (40, 32), (index * 50, 100, 255 - index * 50)).save(folder / name)
    return folder


def test_a_first_stage_is_trained_measured_and_reported_alone(first: Path) -> None:
    metrics = json.loads((first / "metrics.json").read_text())
    names = {"psnr", "ssim", "verified", "rfid_random", "lpips_random"}
    assert {name for name in metrics["first_stage"] if not name.endswith("count")} == names
    assert metrics["model"].keys() == {"factor", "latent_channels", "parameters"}
    assert metrics["seconds"].keys() == {"first-stage", "reconstructions", "total"}
    assert {path.name for path in (first / "model").iterdir()} == {
        "config.json",
        "data.json",
        "first_stage.safetensors",
        "manifest.json",
        "parts.json",
    }
    report = (first / "report.html").read_text()
    assert "A first stage of shapes" in report
    assert "denoiser" not in report.partition("<details>")[0]


def test_of_held_out_images_it_is_told_how_many_codes_they_use(place: Path) -> None:
    run = run_job(place, "task=first-stage", "model=vq-f8", "metric=[psnr]")
    metrics = json.loads((run / "metrics.json").read_text())["first_stage"]
    first_stage, _, _ = load_first_stage(run, torch.device("cpu"))
    config = json.loads((run / "config.json").read_text())
    count = min(config["samples"]["count"], config["data"]["validation"])
    images = to_pixels(build_data(config).read("validation", range(count)).images)
    codes = first_stage.quantize.codes(first_stage.encode(images).mean).flatten()
    shares = torch.bincount(codes) / len(codes)
    shares = shares[shares > 0]
    assert metrics["codebook_usage"] == pytest.approx(len(shares) / first_stage.quantize.size)
    assert metrics["codebook_perplexity"] == pytest.approx(math.exp(-(shares * shares.log()).sum()), rel=1e-5)


def test_beside_each_number_stands_how_it_was_measured(first: Path) -> None:
    protocol = json.loads((first / "metrics.json").read_text())["protocol"]
    assert set(protocol) == {"psnr", "ssim", "verified", "rfid", "lpips"}
    data = ldmkit.models.build_data(json.loads((first / "config.json").read_text()))
    for each in protocol.values():
        expected = {"on": "reconstructions", "split": "validation", "data": data.digest(), "size": 32, "seed": 0}
        assert expected.items() <= each.items()
        assert each["count"] == 8
    assert protocol["rfid"].items() >= {"extractor": "random", "resize": "none", "reference": "originals"}.items()


def test_originals_stand_above_their_reconstructions(first: Path) -> None:
    sheet = np.array(Image.open(first / "reconstructions.png"))
    assert sheet.shape == (2 * 32 + 2, 8 * 32 + 7 * 2, 3)
    for index in range(8):
        column = sheet[:, 34 * index : 34 * index + 32]
        for rows, name in ((column[:32], "original"), (column[34:], "reconstruction")):
            file = first / "reconstructions" / f"{index:05d}-{name}.png"
            np.testing.assert_array_equal(rows, np.array(Image.open(file)))


def test_the_main_job_takes_the_first_stage_that_is_there(first: Path, place: Path) -> None:
    run = run_job(place, "task=train", "train.denoiser.steps=1", "samples.previews=[]", "metric=[psnr,kid]")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["reused"] == ["first-stage"]
    assert metrics["samples"].keys() == {"evaluations", "kid_random", "kid_random_count"}
    assert metrics["protocol"]["kid"].items() >= {"sampler": "ddim", "count": 8}.items()
    before = json.loads((first / "metrics.json").read_text())
    assert metrics["first_stage"]["psnr"] == before["first_stage"]["psnr"]


def test_a_first_stage_alone_does_not_load_as_a_model_and_says_what_it_is_for(first: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds a first stage alone; type .* task=reconstruct task\.run="):
        ldmkit.load(first)


def test_a_folder_becomes_a_folder_of_reconstructions_and_a_table(first: Path, place: Path, photos: Path) -> None:
    run = run_job(place, "task=reconstruct", f"task.run={first.name}", "data=folder", f"data.path={photos}")
    made = {path.relative_to(run / "reconstructions").as_posix() for path in (run / "reconstructions").rglob("*.png")}
    assert made == {"a.png.png", "a.bmp.png", "b.png", "more/c.png", "more/d.png"}
    table = json.loads((run / "table.json").read_text())
    assert {row["image"]: row["reconstruction"] for row in table} == {
        "a.png": "a.png.png",
        "a.bmp": "a.bmp.png",
        "b.png": "b.png",
        "more/c.png": "more/c.png",
        "more/d.png": "more/d.png",
    }
    with (run / "table.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [{**row, "psnr": float(row["psnr"]), "ssim": float(row["ssim"])} for row in read] == table
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["first_stage"]["psnr"] == pytest.approx(np.mean([row["psnr"] for row in table]))
    assert metrics["protocol"]["psnr"].items() >= {"run": first.name, "split": "all", "count": 5}.items()


def test_the_id_of_a_run_is_looked_up_where_this_run_writes_its_own(
    first: Path, place: Path, photos: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(first, elsewhere / "runs" / "copied")
    asked = ["task=reconstruct", "data=folder", f"data.path={photos}", "metric=[psnr]", f"outputs={elsewhere}"]
    run = run_job(place, *asked, "task.run=copied")
    assert run.parent == elsewhere / "runs"
    assert len(json.loads((run / "table.json").read_text())) == 5
    with pytest.raises(CheckpointError, match=r"there is no run 'nosuch'\. There is: .*copied"):
        run_job(place, *asked, "task.run=nosuch")


def test_the_identity_gives_back_what_it_was_given(place: Path, photos: Path) -> None:
    trained = run_job(place, "task=first-stage", "model=identity")
    run = run_job(
        place, "task=reconstruct", f"task.run={trained}", "data=folder", f"data.path={photos}", "data.size=20"
    )
    assert [row["psnr"] for row in json.loads((run / "table.json").read_text())] == [100.0] * 5
    resized = Image.open(photos / "b.png").crop((4, 0, 36, 32)).resize((20, 20), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(np.array(Image.open(run / "reconstructions" / "b.png")), np.array(resized))


def test_a_part_of_the_images_is_taken_from_the_beginning(first: Path, place: Path) -> None:
    overrides = ["task=reconstruct", f"task.run={first.name}", "task.split=validation", "task.count=3"]
    run = run_job(place, *overrides)
    table = json.loads((run / "table.json").read_text())
    assert [row["image"] for row in table] == ["validation-00000", "validation-00001", "validation-00002"]
    for index in range(3):
        ours = run / "reconstructions" / f"validation-{index:05d}.png"
        before = first / "reconstructions" / f"{index:05d}-reconstruction.png"
        off = np.array(Image.open(ours)).astype(int) - np.array(Image.open(before))
        assert np.abs(off).max() <= 1  # batches of other sizes round otherwise


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        (["task.run=null"], ConfigError, "task=reconstruct needs task.run=RUN"),
        (
            ["task.run=nowhere"],
            CheckpointError,
            r"there is no run 'nowhere'\. The(re is:| last ones are)",
        ),
        (["task.count=0"], ConfigError, "task.count is 0 but must be 1 or more"),
        (["data=folder", "data.path=nowhere"], DataError, "nowhere"),
        (["data=folder", "data.path=empty"], DataError, "empty.* has no images"),
        (["data.size=36"], ConfigError, "36 pixels do not divide by the factor 8 .*data.size=32 or data.size=40"),
        (
            ["data=folder", "data.path={photos}", "data.channels=1"],
            ConfigError,
            "trained on images of 3 channels, and the data's have 1; type data.channels=3",
        ),
    ],
)
def test_what_cannot_be_reconstructed_is_told_in_one_line(  # noqa: PLR0917
    first: Path, place: Path, photos: Path, overrides: list[str], kind: type[LdmkitError], message: str
) -> None:
    (place / "empty").mkdir(exist_ok=True)
    filled = [override.format(photos=photos) for override in overrides]
    if not filled[0].startswith("task.run="):
        filled.append(f"task.run={first.name}")
    with pytest.raises(kind, match=message) as raised:
        run_job(place, "task=reconstruct", *filled)
    assert "\n" not in str(raised.value)


def test_a_metric_that_lacks_its_weights_is_told_before_anything_is_trained(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"metric\.rfid\.features\.weights=no\.pth"):
        run_job(
            place,
            "task=first-stage",
            "metric=[rfid]",
            "seed=77",
            "metric.rfid.features.extractor=inception",
            "metric.rfid.features.weights=no.pth",
        )
    assert not list((place / "outputs").glob("runs/*/checkpoints/*"))


def test_a_sweep_ends_with_one_table_and_one_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "-m", "model=identity,kl-f4,kl-f8", "task=first-stage", *SMOKE]) == 0
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    made = {"report.html", "sheet.png", "table.csv", "table.json"}
    assert made <= {path.name for path in sweep.iterdir()}
    table = json.loads((sweep / "table.json").read_text())
    assert [(row["model"], row["factor"]) for row in table] == [("identity", 1), ("kl-f4", 4), ("kl-f8", 8)]
    assert table[0]["psnr"] == 100
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[:4]] == ["model", "identity", "kl-f4", "kl-f8"]
    assert said[-1] == str(Path("outputs", "sweeps", sweep.name, "report.html"))
    assert len(json.loads((sweep / "sweep.json").read_text())["jobs"]) == 3
    page = (sweep / "report.html").read_bytes()
    (sweep / "report.html").unlink()
    assert main(["report", sweep.name]) == 0
    assert (sweep / "report.html").read_bytes() == page
    run = sorted((tmp_path / "outputs" / "runs").iterdir())[1]
    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert main(["report", run.name]) == 0
    assert (run / "report.html").read_bytes() == page

"""`ldmkit sample`: fields by their kind, files that say how they were made, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldmkit
from ldmkit.errors import CheckpointError, ConfigError, DataError
from ldmkit.pictures import read_metadata
from ldmkit.run import job
from ldmkit.sample import main

FEW_STEPS = [
    "scale=smoke",
    "logger=[]",
    "train.first_stage.steps=1",
    "train.denoiser.steps=1",
    "samples.count=1",
    "samples.previews=[]",
    "sampler.steps=2",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two finished runs in one directory: of text, and of a class and a map."""
    directory = tmp_path_factory.mktemp("sample")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return {
            name: job(ldmkit.compose([*FEW_STEPS, cond]), [*FEW_STEPS, cond]).absolute()
            for name, cond in (("text", "cond=text"), ("both", "cond=[class,semantic]"))
        }


@pytest.fixture
def text(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(runs["text"].parents[2])
    return runs["text"].name


@pytest.fixture
def both(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(runs["both"].parents[2])
    return runs["both"].name


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_prompts_become_pictures_that_say_how_they_were_made(text: str, tmp_path: Path) -> None:
    main([text, "a small red circle", "a large blue square", "-n", "2", "--seed", "5", "--out", str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"0000{i}.png" for i in range(4)), "grid.png"]
    records = [read_metadata(tmp_path / f"0000{i}.png") for i in range(4)]
    assert [record["prompt"] for record in records] == ["a small red circle"] * 2 + ["a large blue square"] * 2
    assert [record["seed"] for record in records] == [5, 6, 7, 8]
    assert {record["steps"] for record in records} == {2}
    assert records[0]["command"].startswith(f"ldmkit sample {text} 'a small red circle'")


def test_a_picture_can_be_drawn_again_from_its_record(text: str, tmp_path: Path) -> None:
    main([text, "a red circle", "a blue square", "--precision", "fp32", "--out", str(tmp_path / "many")])
    record = read_metadata(tmp_path / "many" / "00001.png")
    main([text, record["prompt"], "--seed", str(record["seed"]), "--precision", "fp32", "--out", str(tmp_path / "one")])
    one, again = pixels(tmp_path / "many" / "00001.png"), pixels(tmp_path / "one" / "00000.png")
    assert np.abs(one.astype(int) - again.astype(int)).max() <= 1


@pytest.mark.parametrize(("size", "shape"), [("64", (64, 64, 3)), ("48x80", (48, 80, 3))])
def test_a_size_is_a_side_or_height_by_width(size: str, shape: tuple[int, ...], text: str, tmp_path: Path) -> None:
    main([text, "a red circle", "--size", size, "--tile", "32", "--out", str(tmp_path)])
    assert pixels(tmp_path / "00000.png").shape == shape


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("33", "33x33 does not divide by the first stage's factor 8"),
        ("0", "--size takes pixels, as 512 or 512x768"),
        ("64x", "--size takes pixels"),
        ("1x2x3", "--size takes pixels"),
        ("²", "--size takes pixels"),
    ],
)
def test_a_size_that_cannot_be_drawn_is_refused(size: str, message: str, text: str) -> None:
    with pytest.raises(ConfigError, match=message):
        main([text, "a red circle", "--size", size])


def test_a_run_is_meant_by_its_id_its_directory_or_its_checkpoint(text: str, tmp_path: Path) -> None:
    for number, run in enumerate((text, f"outputs/runs/{text}", f"outputs/runs/{text}/model")):
        main([run, "a red circle", "--out", str(tmp_path / str(number))])
    drawn = [pixels(tmp_path / str(number) / "00000.png") for number in range(3)]
    assert all((drawn[0] == other).all() for other in drawn)


def test_a_label_by_name_and_a_map_by_file(both: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 2, np.uint8)).save(tmp_path / "map.png")
    fields = ["--field", "class=red circle", "--field", f"semantic={tmp_path / 'map.png'}"]
    main([both, *fields, "--out", str(tmp_path / "out")])
    assert pixels(tmp_path / "out" / "00000.png").shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"conditioned on class, semantic; class, semantic is missing\. Give --field class=VALUE"),
        (["a prompt"], "takes no single prompt: it is conditioned on class, semantic"),
        (["--field", "clas=red circle"], "no field 'clas'; did you mean 'class'"),
        (["--field", "class=red circel"], "no such class; did you mean 'red circle'"),
        (["--field", "class"], "--field class has no value; write --field class=VALUE"),
        (["--field", "class=²"], "--field class=²: no such class"),
        (["--field", "class=0", "--field", "class=1"], "class=1: 'class' is given twice, the first time by another"),
    ],
)
def test_a_field_that_is_unknown_or_missing_is_named(both: str, arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        main([both, *arguments])


def test_a_prompt_and_its_field_are_the_same_thing_given_twice(text: str) -> None:
    with pytest.raises(ConfigError, match="'caption' is given twice, the first time as a prompt"):
        main([text, "a red circle", "--field", "caption=a blue square"])


def test_options_may_stand_before_the_prompt(text: str, tmp_path: Path) -> None:
    main([text, "-n", "2", "a red circle", "--out", str(tmp_path)])
    assert [read_metadata(tmp_path / f"0000{i}.png")["prompt"] for i in range(2)] == ["a red circle"] * 2


def test_a_place_that_takes_no_pictures_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/below"):
        with pytest.raises(ConfigError, match=f"--out .*{place} cannot be made a directory: "):
            main([text, "a red circle", "--out", str(tmp_path / place)])
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)  # root may write everywhere
    with pytest.raises(ConfigError, match=r"--out .* cannot be written to"):
        main([text, "a red circle", "--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_map_that_is_no_map_is_refused(both: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "map.png")
    for file, message in (("map.png", "class indices 0 to"), ("nowhere.png", "cannot read the map")):
        with pytest.raises(DataError, match=message):
            main([both, "--field", "class=red circle", "--field", f"semantic={tmp_path / file}"])


def test_what_is_no_run_is_said_with_the_runs_there_are(text: str) -> None:
    with pytest.raises(CheckpointError, match=rf"'nowhere' is neither .* Finished runs here: {text}"):
        main(["nowhere", "a red circle"])


def test_a_damaged_checkpoint_is_refused_and_named(text: str, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(f"outputs/runs/{text}/model", tmp_path / "model")
    file = tmp_path / "model" / "denoiser.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"denoiser\.safetensors' is damaged"):
        main([str(tmp_path / "model"), "a red circle"])


def test_a_copied_checkpoint_needs_nothing_from_the_store(text: str, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(f"outputs/runs/{text}/model", tmp_path / "elsewhere")
    main([str(tmp_path / "elsewhere"), "a red circle", "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "00000.png").is_file()


def test_a_config_inside_a_checkpoint_cannot_name_a_callable(text: str, tmp_path: Path) -> None:
    import json
    import shutil

    from ldmkit.artifacts.checkpoint import commit

    for change, message in (
        ({"_target_": "os.system"}, "has no key '_target_'"),
        ({"name": "os:system"}, "no plugin provides denoiser 'os:system'"),
        ({"norm": "${oc.env:HOME}"}, r"\$\{"),
    ):

        def write(directory: Path, change: dict[str, str] = change) -> None:
            for file in Path(f"outputs/runs/{text}/model").glob("*.*"):
                if file.name != "manifest.json":
                    shutil.copyfile(file, directory / file.name)
            shutil.copytree(f"outputs/runs/{text}/model/conditioners", directory / "conditioners")
            config = json.loads((directory / "config.json").read_text())
            config["denoiser"] |= change
            (directory / "config.json").write_text(json.dumps(config))

        commit(tmp_path / "model", write)
        with pytest.raises(ConfigError, match=message) as raised:
            main([str(tmp_path / "model"), "a red circle"])
        assert str(Path.home()) not in str(raised.value)

"""`ldmkit sample`: fields by their kind, files that say how they were made, mistakes in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import ldmkit
from ldmkit.diffusion.model import LatentDiffusion
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


def test_a_negative_prompt_reaches_the_model_for_each_picture_and_stands_in_its_record(
    text: str, tmp_path: Path
) -> None:
    with mock.patch.object(LatentDiffusion, "sample", autospec=True, side_effect=LatentDiffusion.sample) as sample:
        main([text, "a red circle", "-n", "2", "--negative", "a blue square", "--out", str(tmp_path)])
    assert sample.call_args.kwargs["negative"] == {"caption": ["a blue square"] * 2}
    assert read_metadata(tmp_path / "00001.png")["negative_prompt"] == "a blue square"


def test_a_key_that_only_sampling_reads_can_have_another_value(text: str, tmp_path: Path) -> None:
    drawn = {}
    for name, words in {
        "run": [],
        "other": ["--set", "guidance.threshold=0.5", "--set", "guidance.threshold_floor=0.1"],
        "same": ["--set", "guidance.scale=2", "--set", "guidance.interval=[0, 1e9]"],
    }.items():
        main([text, "a red circle", *words, "--out", str(tmp_path / name)])
        drawn[name] = pixels(tmp_path / name / "00000.png")
    assert (drawn["run"] != drawn["other"]).any()
    assert (drawn["run"] == drawn["same"]).all()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("denoiser.dropout=0.5", "denoiser.dropout is no key of this run that sampling reads.*There is: guidance"),
        ("guidance.scale", "--set guidance.scale has no value; write --set guidance.scale=VALUE"),
        ("guidance.scale=[1", r"--set guidance.scale=\[1: '\[1' is no YAML"),
        ("guidance.scale=large", "guidance.scale"),
    ],
)
def test_a_setting_that_is_none_is_one_line(text: str, tmp_path: Path, word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        main([text, "a red circle", "--set", word, "--out", str(tmp_path)])
    assert "\n" not in str(raised.value)


def test_a_negative_prompt_needs_a_text_field(both: str, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "map.png")
    with pytest.raises(ConfigError, match="--negative: this model takes no single prompt"):
        main([both, "--field", "class=0", "--field", f"semantic={tmp_path / 'map.png'}", "--negative", "dark"])


def test_a_picture_to_begin_with_and_a_mask_of_what_is_drawn_anew(text: str, tmp_path: Path) -> None:
    picture, mask = np.full((32, 32, 3), 200, np.uint8), np.zeros((32, 32), np.uint8)
    mask[:, :16] = 255
    for name, array in (("picture", picture), ("mask", mask)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    begin = ["--from", str(tmp_path / "picture.png")]
    main([text, "a red circle", *begin, "--redraw", str(tmp_path / "mask.png"), "--out", str(tmp_path / "masked")])
    drawn = pixels(tmp_path / "masked" / "00000.png")
    assert (drawn[:, 16:] == 200).all()
    assert (drawn[:, :16] != 200).any()
    with pytest.raises(ConfigError, match="the picture to begin with is 32x32, not 64x64"):
        main([text, "a red circle", *begin, "--size", "64"])
    with pytest.raises(ConfigError, match=r"strength must be above 0 and at most 1, got 2.0"):
        main([text, "a red circle", *begin, "--strength", "2"])


def test_a_picture_is_inverted_and_pictures_between_two_are_drawn(text: str, tmp_path: Path) -> None:
    for name, level in (("one", 40), ("two", 200)):
        Image.new("RGB", (32, 32), (level, 90, 20)).save(tmp_path / f"{name}.png")
    begin = ["a red circle", "--from", str(tmp_path / "one.png")]
    main([text, *begin, "--invert", "-n", "2", "--out", str(tmp_path / "inverted")])
    main([text, *begin, "--to", str(tmp_path / "two.png"), "-n", "3", "--out", str(tmp_path / "between")])
    inverted = [pixels(tmp_path / "inverted" / f"0000{index}.png") for index in range(2)]
    first, middle, last = (pixels(tmp_path / "between" / f"0000{index}.png") for index in range(3))
    assert np.array_equal(inverted[0], inverted[1])  # the same noise, whatever the seed
    assert abs(inverted[0].astype(int) - first).max() <= 3  # bf16, in other batches
    assert not np.array_equal(first, middle)
    assert not np.array_equal(middle, last)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--invert"], "--invert and --to need a picture to begin with: --from FILE"),
        (["--from", "32.png", "--invert", "--strength", "1"], "leave --strength and --redraw out"),
        (["--from", "32.png", "--to", "64.png"], "--to 64.png is 64x64, but --from 32.png is 32x32"),
        (["--from", "32.png", "--invert", "--size", "64"], "--from 32.png is 32x32, not 64x64"),
    ],
)
def test_what_cannot_be_inverted_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    run = str(Path("outputs/runs", text).absolute())
    monkeypatch.chdir(tmp_path)
    for size in (32, 64):
        Image.new("RGB", (size, size)).save(f"{size}.png")
    with pytest.raises(ConfigError, match=said):
        main([run, "a red circle", *options])


def test_a_strength_without_a_picture_to_begin_with_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--strength and --redraw need a picture to begin with: --from FILE"):
        main([text, "a red circle", "--strength", "0.5"])


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
        ("33", r"33x33 pixels cannot be: .* of 16 \(factor 8 of the first stage, times 2 of .* that can is 32x32"),
        ("40x64", "the nearest that can is 32x64"),
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
        ([], r"conditioned on class, semantic; class, semantic is missing\. Give --label NAME --map FILE"),
        (["a prompt"], r"takes no single prompt: it is conditioned on class \(label\), semantic \(map\)"),
        (["--field", "clas=red circle"], "no field 'clas'; did you mean 'class'"),
        (["--field", "class=red circel"], "no such class; did you mean 'red circle'"),
        (["--field", "class"], "--field class has no value; write --field class=VALUE"),
        (["--field", "class=²"], "--field class=²: no such class"),
        (
            ["--field", "class=0", "--field", "class=1"],
            "class=1: 'class' is given twice, the first time by --field class=0",
        ),
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
    with pytest.raises(CheckpointError, match=rf"there is no run 'nowhere'\. There is: .*{text}"):
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


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints of models that were told pictures, and one that was told boxes and a number; nothing is trained."""
    from ldmkit.artifacts.checkpoint import commit, write_json, write_tensors
    from ldmkit.models import SPEC, WEIGHTS, build_data, spec_as_json

    found = {}
    for name, cond in {
        "low": ["low-res"],
        "fill": ["inpaint"],
        "two": ["inpaint", "image"],
        "twice": ["low-res", "image"],
        "boxes": ["layout", "scalar"],
    }.items():
        more = ["cond.scalar.field=radius"] if "scalar" in cond else []
        config = ldmkit.compose(["scale=smoke", f"cond=[{','.join(cond)}]", "model=kl-f4", "sampler.steps=2", *more])
        model = ldmkit.build(config)

        def write(directory: Path, config: Any = config, model: Any = model) -> None:
            write_json(directory / "config.json", config)
            write_json(directory / SPEC, spec_as_json(model.data))
            for part in WEIGHTS:
                write_tensors(directory / f"{part}.safetensors", getattr(model, part).state_dict())
            for condition, conditioner in model.conditioners.items():
                (directory / "conditioners" / condition).mkdir(parents=True)
                conditioner.fit(build_data(config).fields("train", range(8)), directory / "conditioners" / condition)

        place = tmp_path_factory.mktemp("pictured") / name
        commit(place, write)
        found[name] = str(place)
    return found


def picture(path: Path, height: int, width: int, mode: str = "RGB", seed: int = 0) -> str:
    colours = {"RGB": 3, "RGBA": 4, "L": 0}[mode]
    shape = (height, width, colours) if colours else (height, width)
    Image.fromarray(np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8), mode=None).save(path)
    return str(path)


def half_white(path: Path, height: int, width: int) -> str:
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    Image.fromarray(mask).save(path)
    return str(path)


def test_a_small_picture_says_how_large_the_enlarged_one_is(pictured: dict[str, str], tmp_path: Path) -> None:
    main([pictured["low"], "--image", picture(tmp_path / "low.png", 6, 10), "--out", str(tmp_path / "out")])
    assert pixels(tmp_path / "out" / "00000.png").shape == (24, 40, 3)


def test_known_pixels_are_those_of_the_picture_and_missing_ones_are_drawn(
    pictured: dict[str, str], tmp_path: Path
) -> None:
    image, mask = picture(tmp_path / "image.png", 40, 24), half_white(tmp_path / "mask.png", 40, 24)
    main([pictured["fill"], "--image", image, "--mask", mask, "-n", "2", "--out", str(tmp_path / "out")])
    given = pixels(Path(image))
    for number in range(2):
        drawn = pixels(tmp_path / "out" / f"0000{number}.png")
        assert (drawn[:, 12:] == given[:, 12:]).all()
        assert (drawn[:, :12] != given[:, :12]).any()
    record = read_metadata(tmp_path / "out" / "00000.png")
    assert record["prompt"] == f"image={image}, mask={mask}"


def test_grey_and_palette_pictures_are_pictures_too(pictured: dict[str, str], tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 7, np.uint8)).convert("P").save(tmp_path / "palette.png")
    for file in (picture(tmp_path / "grey.png", 8, 8, "L"), str(tmp_path / "palette.png")):
        main([pictured["low"], "--image", file, "--out", str(tmp_path / "out")])


def test_pictures_of_wrong_mode_size_or_none_at_all_are_refused_in_one_line(
    pictured: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.zeros((40, 24), np.uint8)).save(tmp_path / "black.png")
    clear = picture(tmp_path / "clear.png", 8, 8, "RGBA")
    image, mask = picture(tmp_path / "image.png", 40, 24), half_white(tmp_path / "mask.png", 40, 24)
    odd = picture(tmp_path / "odd.png", 7, 7)
    cases: list[tuple[str, list[str], str]] = [
        ("low", ["--image", str(tmp_path / "nowhere.png")], "cannot read the image .*nowhere.png"),
        ("low", ["--image", str(tmp_path / "text.png")], "cannot read the image .*text.png"),
        ("low", ["--image", clear], "has transparency; save it without"),
        ("low", ["--image", str(tmp_path / "deep.png")], "is of mode I;16; save it as RGB or grey"),
        ("low", ["--image", image, "--size", "64"], "64x64 by the size asked for, 160x96 by 'low_res' of 40x24"),
        ("low", [], "low_res is missing. Give --image FILE"),
        ("low", ["--mask", mask], r"--mask .*: this model takes no mask: it is conditioned on low_res \(image\)"),
        ("low", ["a prompt"], r"this model takes no single prompt: it is conditioned on low_res \(image\)"),
        ("fill", ["--image", image], "mask is missing. Give --mask FILE"),
        ("fill", ["--image", image, "--mask", str(tmp_path / "black.png")], "has no white pixel: nothing is missing"),
        ("fill", ["--image", image, "--mask", clear], "the mask .* is of mode RGBA; save it as grey"),
        ("fill", ["--image", image, "--mask", image + "x"], "cannot read the mask"),
        ("fill", ["--image", odd, "--mask", half_white(tmp_path / "m.png", 7, 7)], "7x7 pixels cannot be: .* is 8x8"),
        ("fill", ["--image", odd, "--mask", mask], "several sizes: 7x7 by 'image', 40x24 by 'mask'"),
        ("twice", ["--image", image], "several fields of kind image: image, low_res; say which: --field "),
        ("fill", ["--image", image, "--field", f"image={image}"], "'image' is given twice, the first time by --image"),
    ]  # fmt: skip
    for name, arguments, message in cases:
        with pytest.raises(ldmkit.LdmkitError, match=message) as raised:
            main([pictured[name], *arguments, "--out", str(tmp_path / "out")])
        assert "\n" not in str(raised.value)


def test_two_conditioners_may_read_the_same_picture(pictured: dict[str, str], tmp_path: Path) -> None:
    image, mask = picture(tmp_path / "image.png", 32, 32), half_white(tmp_path / "mask.png", 32, 32)
    main([pictured["two"], "--image", image, "--mask", mask, "--out", str(tmp_path / "out")])


def test_a_label_and_a_map_have_options_of_their_own(both: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 2, np.uint8)).save(tmp_path / "map.png")
    main([both, "--label", "red circle", "--map", str(tmp_path / "map.png"), "--out", str(tmp_path / "a")])
    fields = ["--field", "class=red circle", "--field", f"semantic={tmp_path / 'map.png'}"]
    main([both, *fields, "--out", str(tmp_path / "b")])
    assert (pixels(tmp_path / "a" / "00000.png") == pixels(tmp_path / "b" / "00000.png")).all()
    with pytest.raises(ConfigError, match="--label red circel: no such class; did you mean 'red circle'"):
        main([both, "--label", "red circel", "--map", str(tmp_path / "map.png")])


def test_a_caption_is_a_prompt(text: str, tmp_path: Path) -> None:
    main([text, "--caption", "a red circle", "--out", str(tmp_path / "a")])
    main([text, "a red circle", "--out", str(tmp_path / "b")])
    assert (pixels(tmp_path / "a" / "00000.png") == pixels(tmp_path / "b" / "00000.png")).all()


def test_boxes_by_file_and_a_number_by_name(pictured: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text('[{"box": [0.1, 0.1, 0.5, 0.5], "label": "red circle"}]')
    drawn = []
    for radius in ("0.1", "0.3"):
        given = ["--boxes", str(tmp_path / "boxes.json"), "--field", f"radius={radius}"]
        main([pictured["boxes"], *given, "-n", "2", "--out", str(tmp_path / radius)])
        drawn.append(pixels(tmp_path / radius / "grid.png"))
    assert drawn[0].shape == drawn[1].shape
    for none in ("large", "nan", "inf", "1e300"):
        with pytest.raises(ConfigError, match=f"--field radius={none}: 'radius' takes a number"):
            main([pictured["boxes"], "--boxes", str(tmp_path / "boxes.json"), "--field", f"radius={none}"])
    with pytest.raises(ConfigError, match=r"boxes, radius is missing\. Give --boxes FILE --field radius=VALUE"):
        main([pictured["boxes"]])


def test_boxes_are_fractions_and_names_of_classes(tmp_path: Path) -> None:
    from ldmkit.sample_fields import read_boxes

    file = tmp_path / "boxes.json"
    file.write_text('[{"box": [0, 0.25, 0.5, 1], "label": "dog"}, {"box": [0.5, 0.5, 0.75, 0.75], "label": 0}]')
    expected = [[0.0, 0.25, 0.5, 1.0, 1.0], [0.5, 0.5, 0.75, 0.75, 0.0]]
    assert read_boxes(file, ("cat", "dog")).tolist() == expected
    file.write_text("[]")
    assert read_boxes(file, ("cat", "dog")).shape == (0, 5)
    for content, message in {
        "[": "cannot read the boxes",
        "{}": "must be a JSON list, got dict",
        '[{"box": [0, 0, 1, 1]}]': r"box 0 of .* must be \{\"box\": \[left, top, right, bottom\], \"label\": NAME\}",
        '[{"box": [0, 0, 64, 64], "label": "dog"}]': r"left < right and top < bottom as fractions 0 to 1, got",
        '[{"box": [0.5, 0, 0.5, 1], "label": "dog"}]': "left < right",
        '[{"box": [0, 0, 1, 1], "label": "dgo"}]': "no such label; did you mean 'dog'",
        "[" * 100_000: "cannot read the boxes",
    }.items():
        file.write_text(content)
        with pytest.raises(ldmkit.LdmkitError, match=message):
            read_boxes(file, ("cat", "dog"))

"""Each recipe on images of one's own: a folder with captions, classes, maps and boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldmkit
from ldmkit.errors import ConfigError
from ldmkit.registry.discovery import kernel_conf
from ldmkit.run import job

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[1] / "docs" / "data.md"
RECIPES = {path.stem for path in (kernel_conf() / "experiment").glob("*.yaml")} - {"compression-sweep"}
"""One for each task; the sweep is about first stages."""
NEEDED = {
    "unconditional": "",
    "class": "class",
    "text": "caption",
    "semantic": "semantic",
    "text-semantic": "caption",
    "layout": "boxes",
    "super-resolution": "",
    "inpainting": "caption",
}
"""A field without which a recipe cannot run."""
FEW_STEPS = [
    "scale=smoke",
    "logger=[]",
    "data=folder",
    "train.first_stage.steps=1",
    "train.denoiser.steps=1",
    "train.denoiser.batch_size=4",
    "samples.count=2",
    "samples.previews=[]",
    "sampler.steps=1",
]


def pictures(folder: Path, *, told: bool) -> Path:
    """24 pictures of 40 x 32 pixels in ``folder``; where ``told``, with all that can be said about them."""
    lines = []
    for index in range(24):
        name = f"{'ant' if index % 2 else 'bee'}/{index}" if told else str(index)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shade = np.full((32, 40, 3), 10 * index, np.uint8)
        shade[8:24, 4 + index % 9 : 20] = 255 - 10 * index
        Image.fromarray(shade).save(folder / f"{name}.png")
        if told:
            (folder / f"{name}.txt").write_text(f"a picture of shade {index}")
            Image.fromarray((shade[..., 0] > 127).astype(np.uint8)).save(folder / f"{name}_map.png")
            lines.append(json.dumps({"file_name": f"{name}.png", "boxes": [[4 + index % 9, 8, 20, 24, "bar"]]}))
    if told:
        (folder / "metadata.jsonl").write_text("\n".join(lines))
        (folder / "map_names.txt").write_text("ground\nbar\n")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own-images")


@pytest.fixture(scope="module")
def told(place: Path) -> Path:
    return pictures(place / "told", told=True)


def run(place: Path, folder: Path, recipe: str) -> Path:
    words = [f"+experiment={recipe}", *FEW_STEPS, f"data.path={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return job(ldmkit.compose(words), words).absolute()


def test_every_recipe_has_its_line_for_own_images() -> None:
    assert set(NEEDED) == RECIPES
    text = DOCUMENT.read_text()
    for recipe in RECIPES:
        assert f"ldmkit run +experiment={recipe} data=folder data.path=" in text


@pytest.mark.parametrize("recipe", NEEDED)
def test_a_recipe_trains_and_samples_on_a_folder_that_has_what_it_needs(recipe: str, place: Path, told: Path) -> None:
    directory = run(place, told, recipe)
    assert len(list((directory / "samples").glob("0*.png"))) == 2
    assert (directory / "report.html").is_file()


def test_a_recipe_says_what_a_folder_lacks_before_it_trains(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "bare", told=False)
    for recipe in ("class", "semantic", "layout"):
        message = rf"needs the field '{NEEDED[recipe]}' \(\w+\), but the data offers: "
        with pytest.raises(ConfigError, match=message):
            run(tmp_path, folder, recipe)
    assert not (tmp_path / "outputs" / "store").exists()

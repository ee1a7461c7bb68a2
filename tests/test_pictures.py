"""PNG files keep their pixels and say how they were made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ldmkit.errors import DataError
from ldmkit.pictures import LONGEST_TEXT, grid, png_bytes, read_metadata, save_grid, save_png

RECORD = {
    "prompt": "a red circle",
    "seed": 7,
    "sampler": "ddim",
    "guidance": 2.5,
    "steps": 20,
    "checkpoint": "0123456789abcdef",
    "command": "ldmkit run cond=[text]",
    "version": "0.1.0",
}


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def pixels(path: Path) -> torch.Tensor:
    with Image.open(path) as picture:
        flat = torch.tensor(list(picture.tobytes()), dtype=torch.uint8)
        return flat.view(picture.height, picture.width, -1).permute(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_survive_a_round_trip(tmp_path: Path, channels: int) -> None:
    image = noise(channels, 5, 7)
    assert torch.equal(pixels(save_png(image, tmp_path / "new" / "a.png")), image)


def test_a_picture_gives_its_record_back(tmp_path: Path) -> None:
    assert read_metadata(save_png(noise(3, 8, 8), tmp_path / "a.png", RECORD)) == RECORD


def test_viewers_find_the_prompt_and_the_settings_in_the_chunk_they_read(tmp_path: Path) -> None:
    with Image.open(save_png(noise(3, 8, 9), tmp_path / "a.png", RECORD)) as picture:
        assert picture.info["parameters"] == (
            "a red circle\n"
            "Steps: 20, Sampler: ddim, CFG scale: 2.5, Seed: 7, Size: 9x8, Model hash: 0123456789, "
            "Version: ldmkit 0.1.0"
        )


def test_a_guidance_without_scale_is_named_and_text_with_commas_is_quoted(tmp_path: Path) -> None:
    record = {"prompt": "x", "guidance": "none", "sampler": "a, b"}
    with Image.open(save_png(noise(3, 4, 4), tmp_path / "a.png", record)) as picture:
        assert picture.info["parameters"] == 'x\nSampler: "a, b", Guidance: none, Size: 4x4'


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "näive 狐 👩‍👩‍👧",
        "two\nlines",
        "<script>alert(1)</script>",
        "\x1b[31mred\0nul",
        "\u202eright to left",
        "\ud800",
    ],
)
def test_any_prompt_survives_a_round_trip(tmp_path: Path, prompt: str) -> None:
    assert read_metadata(save_png(noise(3, 4, 4), tmp_path / "a.png", {"prompt": prompt})) == {"prompt": prompt}


def test_a_prompt_of_a_megabyte_is_cut_with_a_mark(tmp_path: Path) -> None:
    path = save_png(noise(3, 4, 4), tmp_path / "a.png", {"prompt": "a" * 1_000_000})
    assert read_metadata(path)["prompt"] == "a" * LONGEST_TEXT + "... (1000000 characters)"
    assert path.stat().st_size < 4 * LONGEST_TEXT


def test_equal_pictures_with_equal_records_are_equal_files() -> None:
    assert png_bytes(noise(3, 8, 8), RECORD) == png_bytes(noise(3, 8, 8), RECORD)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = save_png(noise(3, 4, 4), tmp_path / "a.png", RECORD)
    with pytest.raises(ValueError, match="Out of range float"):
        save_png(noise(3, 4, 4), path, {"seed": float("nan")})
    assert read_metadata(path) == RECORD
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("image", [noise(2, 4, 4), noise(1, 3, 4, 4), noise(3, 4, 4).float()])
def test_what_is_no_picture_is_refused_with_its_shape(image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="a picture is uint8"):
        png_bytes(image)


def test_a_png_of_somebody_else_has_no_record(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    assert read_metadata(tmp_path / "a.png") == {}


def test_what_cannot_be_read_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    cut = tmp_path / "cut.png"
    cut.write_bytes(png_bytes(noise(3, 4, 4), RECORD)[:60])
    chunks = PngInfo()
    chunks.add_text("ldmkit", "[1]")
    Image.new("RGB", (2, 2)).save(tmp_path / "list.png", pnginfo=chunks)
    for name in ("text.png", "cut.png", "list.png", "missing.png"):
        with pytest.raises(DataError, match=name) as caught:
            read_metadata(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_grid_puts_each_picture_into_its_place_with_gaps_between() -> None:
    images = noise(5, 3, 4, 6)
    sheet = grid(images, columns=3, gap=2, background=9)
    assert sheet.shape == (3, 2 * 6 - 2, 3 * 8 - 2)
    for index, image in enumerate(images):
        top, left = index // 3 * 6, index % 3 * 8
        assert torch.equal(sheet[:, top : top + 4, left : left + 6], image)
    assert bool((sheet[:, 4:6] == 9).all())
    assert bool((sheet[:, 6:, 16:] == 9).all())


@pytest.mark.parametrize(("count", "shape"), [(1, (4, 4)), (2, (4, 10)), (4, (10, 10)), (5, (10, 16))])
def test_a_grid_is_as_square_as_it_can_be(count: int, shape: tuple[int, int]) -> None:
    assert grid(noise(count, 1, 4, 4)).shape[1:] == shape


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="0 pictures"):
        grid(noise(0, 3, 4, 4))


def test_a_grid_is_saved_with_its_record(tmp_path: Path) -> None:
    images = noise(2, 3, 4, 4)
    path = save_grid(images, tmp_path / "grid.png", columns=2, metadata={"seed": 3})
    assert read_metadata(path) == {"seed": 3}
    assert torch.equal(pixels(path), grid(images, 2))

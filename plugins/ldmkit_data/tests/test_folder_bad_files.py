"""Damaged, hostile and odd files: listed with a reason, left out by every run alike, and never in the way."""

import errno
import os
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from ldmkit_data.folder_scan import scan
from PIL import Image

from ldmkit.errors import DataError

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX file names and links")


def save(path, seed=0, size=(32, 32), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path, **options)


def bomb():
    """A PNG whose header announces 400 million pixels."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    parts = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        parts += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + parts


def plant(root):
    """Write one file of each kind of damage; return the reason that each must be listed with."""
    save(root / "whole.png", 100)
    save(root / "whole.jpg", 100)
    png, jpeg = (root / "whole.png").read_bytes(), (root / "whole.jpg").read_bytes()
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    planted = {
        "empty.png": (b"", "empty file"),
        "half.png": (png[: len(png) // 2], "damaged"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "damaged"),
        "tenth.jpg": (jpeg[: len(jpeg) // 10], ""),
        "flipped.png": (bytes(flipped), "damaged"),
        "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        "text.jpg": (b"not found", "not an image"),
        "bomb.png": (bomb(), "more pixels than data.max_pixels"),
        "drawing.svg": (b"<svg/>", ".svg is not read; convert it"),
        "photo.HEIC": (b"\0\0\0\x18ftypheic", ".heic is not read; convert it"),
        "layers.psd": (b"8BPS", ".psd is not read"),
        "sky.fits": (b"SIMPLE  =", ".fits is not read"),
        "deep/nul.webp": (bytes(100), "not an image"),
    }
    for name, (data, _) in planted.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    return {name: reason for name, (_, reason) in planted.items()}


def test_every_planted_file_is_listed_with_its_reason(folder, tmp_path):
    expected = plant(tmp_path)
    source = folder()
    assert {path for path, _ in source.skipped} == set(expected)
    for path, reason in source.skipped:
        assert expected[path] in reason
        assert "\n" not in reason
        assert str(tmp_path) not in reason
    assert source.length("train") + source.length("validation") == 2  # whole.png and whole.jpg
    assert source.skipped == folder().skipped


def test_a_run_stops_above_the_share_that_may_be_bad(folder, tmp_path):
    for seed in range(99):
        save(tmp_path / f"{seed}.png", seed, (8, 8))
    (tmp_path / "bad.png").write_bytes(b"")
    source = folder(max_bad=0.01)
    assert source.skipped == (("bad.png", "empty file"),)
    assert source.notices == ["1 of 100 files is left out as bad: 'bad.png': empty file"]
    (tmp_path / "worse.png").write_bytes(b"text")
    with pytest.raises(DataError) as raised:
        folder(max_bad=0.01)
    assert raised.value.exit_code == 3
    assert "2 of 101 files are bad, more than data.max_bad=0.01 allows: 'bad.png': empty file" in str(raised.value)
    assert "'worse.png': not an image" in str(raised.value)


def test_one_corrupt_image_among_few_stops_the_run_by_default(folder, tmp_path):
    for seed in range(9):
        save(tmp_path / f"{seed}.png", seed, (8, 8))
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"'bad\.png': empty file"):
        folder(max_bad=0.01)


def test_a_jpeg_called_png_is_read(folder, tmp_path):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", seed, format="JPEG")
    assert folder(max_bad=0.0).skipped == ()


def test_a_file_that_changes_later_is_named(folder, tmp_path):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed)
    source = folder(cache_mb=0)
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed + 10)
    with pytest.raises(DataError, match=r"'\d.png' has changed since the start"):
        source.read("train", [0])
    for seed in range(3):
        (tmp_path / f"{seed}.png").unlink()
    with pytest.raises(DataError, match=r"'\d.png' could be read at the start and now: cannot be read: No such file"):
        source.read("train", [0])


# Directories


def test_a_directory_that_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"data.path='.*nowhere' cannot be read: No such file"):
        folder(path=str(tmp_path / "nowhere"))


def test_a_file_in_place_of_the_directory_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file; expected a directory of images"):
        folder(path=str(tmp_path / "file"))


def test_an_empty_directory_says_what_there_is(folder, tmp_path):
    with pytest.raises(DataError, match="has no images; there are 0 other files"):
        folder()
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(DataError, match="has no images; there are 1 other files"):
        folder()


def test_a_directory_of_bad_files_alone_is_an_error_even_where_all_may_be_bad(folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"0 different images to use; .*'bad\.png': empty file"):
        folder(max_bad=1.0)


# File systems


def test_hidden_files_and_archives_leftovers_are_no_images(folder, tmp_path):
    for seed, name in enumerate(["a.png", "b.png", ".hidden.png", "._a.png", ".git/c.png", "__MACOSX/d.png"]):
        save(tmp_path / name, seed)
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    assert scan(tmp_path, follow_links=False).files == ["a.png", "b.png"]


@needs_posix
def test_odd_names_are_read(folder, tmp_path):
    names = [
        "new\nline.png",
        "x" * 251 + ".png",
        " .png",
        "\u202egnp.png",
        "a.b.c.png",
        "%s{0}.png",
        "\U0001f600.png",
        "-.PNG",
    ]
    for seed, name in enumerate(names):
        save(tmp_path / name, seed)
        (tmp_path / name).with_suffix(".txt").write_text(str(seed))
    source = folder(max_bad=0.0)
    captions = []
    for split in ("train", "validation"):
        captions += source.fields(split, range(source.length(split)))["caption"]
    assert sorted(captions) == [str(seed) for seed in range(len(names))]


@needs_posix
def test_a_name_that_is_not_utf8_is_read_and_shown_printably(folder, tmp_path):
    try:
        save(tmp_path / os.fsdecode(b"caf\xe9.png"), 0)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    save(tmp_path / "b.png", 1)
    (tmp_path / os.fsdecode(b"bad\xff\x1b[31m.png")).write_bytes(b"")
    source = folder()
    assert source.length("train") + source.length("validation") == 2
    assert source.skipped == (("bad\ufffd\x1b[31m.png", "empty file"),)
    assert "\x1b" not in source.notices[0]
    assert len(source.digest()) == 64


@needs_posix
def test_a_fifo_is_not_waited_for(folder, tmp_path):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", seed)
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "0.txt")
    found = []
    thread = threading.Thread(target=lambda: found.append(folder(max_bad=0.0)), daemon=True)
    thread.start()
    thread.join(30)
    assert len(found) == 1
    assert found[0].length("train") == 1


@needs_posix
def test_links_inside_are_followed_and_loops_are_not(folder, tmp_path):
    save(tmp_path / "a" / "1.png", 1)
    save(tmp_path / "b" / "2.png", 2)
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "a" / "3.png").symlink_to("../b/2.png")
    listing = scan(tmp_path, follow_links=False)
    assert listing.files == ["a/1.png", "a/3.png", "b/2.png"]
    assert listing.refused == []


@needs_posix
def test_links_that_lead_out_are_listed_unless_they_are_wanted(folder, tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    save(inside / "1.png", 1)
    save(inside / "2.png", 2)
    save(outside / "3.png", 3)
    (outside / "secret").write_text("secret")
    (inside / "3.png").symlink_to(outside / "3.png")
    (inside / "more").symlink_to(outside, target_is_directory=True)
    (inside / "1.txt").symlink_to(outside / "secret")
    (inside / "lost.png").symlink_to(inside / "nowhere.png")
    source = folder(path=str(inside))
    reasons = dict(source.skipped)
    assert set(reasons) == {"1.txt", "3.png", "lost.png", "more"}
    assert all("data.follow_links=true" in reasons[name] for name in ("1.txt", "3.png", "more"))
    assert reasons["lost.png"] == "a link that leads nowhere"
    assert "caption" not in source.spec.fields
    source = folder(path=str(inside), follow_links=True, class_folders=False)
    assert source.length("train") + source.length("validation") == 4
    assert dict(source.skipped) == {"lost.png": "a link that leads nowhere"}


def test_a_file_that_may_not_be_read_is_listed(folder, tmp_path, monkeypatch):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed)
    real = Path.open

    def locked(path, *args, **keys):
        if path.name == "0.png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *args, **keys)

    monkeypatch.setattr(Path, "open", locked)
    assert folder().skipped == (("0.png", "cannot be read: Permission denied"),)

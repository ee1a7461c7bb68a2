"""What people write about their pictures, and how they write it."""

import json

import pytest
import torch
from ldmkit_data.folder_captions import CaptionError, clean, read_caption
from PIL import Image

from ldmkit.errors import DataError


@pytest.fixture
def images(tmp_path):
    """Four pictures, ``0.png`` to ``3.png``, each of its own colour."""
    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def by_number(source, name="caption"):
    """Values of a field by the number of the picture, which its red tells."""
    found = {}
    for split in ("train", "validation"):
        batch = source.read(split, range(source.length(split)))
        values = batch.fields[name]
        values = values.tolist() if isinstance(values, torch.Tensor) else values
        found |= dict(zip((batch.images[:, 0, 0, 0] // 60).tolist(), values, strict=True))
    return [found[number] for number in sorted(found)]


# Beside the image


def test_captions_are_found_in_text_caption_and_json_files_in_this_order(images, folder):
    (images / "0.txt").write_text("from txt")
    (images / "0.caption").write_text("not this")
    (images / "0.json").write_text('{"caption": "nor this"}')
    (images / "1.caption").write_text("from caption")
    (images / "1.json").write_text('{"caption": "not this"}')
    (images / "2.json").write_text('{"tags": ["not this"], "text": "from json"}')
    (images / "3.JSON").write_text('{"tags": ["a", "b c"]}')
    source = folder()
    assert by_number(source) == ["from txt", "from caption", "from json", "a, b c"]
    assert source.spec.fields["caption"].kind == "text"
    assert source.notices == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a red cat", "a red cat"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("sixteen bits é".encode("utf-16"), "sixteen bits é"),
        (b"two\r\nlines\r\n", "two lines"),
        (b"  tabs\tand   spaces  ", "tabs and spaces"),
        (b"nul\x00here\x1b[31m", "nul here [31m"),
        (b"", ""),
        (b" \n\t ", ""),
        ("👩‍👩‍👧 שלום e\u0301".encode(), "👩‍👩‍👧 שלום e\u0301"),
        (b"!?...", "!?..."),
        (b"x" * 10_000, "x" * 10_000),
    ],
)
def test_a_caption_is_one_clean_line(tmp_path, data, text):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    caption = read_caption(path)
    assert (caption.text, caption.latin1) == (text, False)


def test_what_is_not_utf8_is_read_as_latin_1_with_a_notice(images, folder):
    for number in range(4):
        (images / f"{number}.txt").write_bytes("café".encode("utf-8" if number else "latin-1"))
    source = folder()
    assert by_number(source) == ["café"] * 4
    assert source.notices == ["1 captions not in UTF-8 are read as Latin-1, first '0.txt'"]


def test_half_a_surrogate_pair_cannot_reach_a_file():
    assert clean(json.loads(r'"a \ud83d\ude00 b \ud800 c"')) == "a 😀 b \ufffd c"


def test_missing_captions_are_empty_and_counted(images, folder):
    (images / "1.txt").write_text("the only one")
    source = folder()
    assert by_number(source) == ["", "the only one", "", ""]
    assert source.notices == ["3 of 4 images, first '0.png', have no 'caption', which is empty there"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "nested too deeply|is not JSON"),
        ('{"caption": 3}', "has a int at 'caption'"),
        ('{"tags": [1]}', "has a list at 'tags'"),
        ('"' + "x" * (1 << 20) + '"', "over 1 MiB"),
    ],
)
def test_a_caption_that_cannot_be_read_costs_its_image(images, folder, text, reason):
    (images / "0.txt").write_text("fine")
    (images / "2.json").write_text(text)
    with pytest.raises(CaptionError, match=reason):
        read_caption(images / "2.json")
    ((path, found),) = folder().skipped
    assert path == "2.png"
    assert found.startswith("its caption '2.json' ")


def test_json_of_something_else_is_no_caption(images, folder):
    for number, text in enumerate(['{"width": 3}', "[]", "", "3"]):
        (images / f"{number}.json").write_text(text)
    assert "caption" not in folder().spec.fields


def test_files_of_one_stem_share_their_caption(images, folder):
    Image.new("RGB", (8, 8), (240, 0, 0)).save(images / "0.bmp")
    for number in range(4):
        (images / f"{number}.txt").write_text(f"picture {number}")
    assert by_number(folder()) == ["picture 0", "picture 1", "picture 2", "picture 3", "picture 0"]


# Metadata


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


FRAMING = {"original_height", "original_width", "crop_top", "crop_left"}


def test_columns_of_jsonl_are_fields_of_their_kinds(images, folder):
    jsonl(
        images / "metadata.jsonl",
        [
            {"file_name": f"{n}.png", "text": f"picture {n}", "score": n / 2, "camera": f"camera {n}", "flag": n == 1}
            for n in range(4)
        ],
    )
    source = folder()
    assert by_number(source) == [f"picture {n}" for n in range(4)]
    assert by_number(source, "score") == [0.0, 0.5, 1.0, 1.5]
    assert by_number(source, "camera") == [f"camera {n}" for n in range(4)]
    assert by_number(source, "flag") == [0.0, 1.0, 0.0, 0.0]
    kinds = {name: field.kind for name, field in source.spec.fields.items() if name not in FRAMING}
    assert kinds == {"caption": "text", "score": "scalar", "camera": "text", "flag": "scalar"}


def test_columns_of_csv_are_fields_of_their_kinds(images, folder):
    rows = [f'{n}.png,"{n}, ""a"" and\r\nb",{n}e-1,{"x" if n else 7}' for n in range(4)]
    (images / "metadata.csv").write_bytes(("\ufefffile_name,text,score,mixed\r\n" + "\r\n".join(rows)).encode())
    source = folder()
    assert by_number(source) == [f'{n}, "a" and b' for n in range(4)]
    assert by_number(source, "score") == pytest.approx([0, 0.1, 0.2, 0.3])
    assert by_number(source, "mixed") == ["7", "x", "x", "x"]


def test_a_numeric_caption_is_still_a_caption(images, folder):
    (images / "metadata.csv").write_text("file_name,text\n" + "".join(f"{n}.png,{n}\n" for n in range(4)))
    assert by_number(folder()) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("column", ["class", "label"])
def test_a_class_column_is_the_label(images, folder, column):
    (images / "metadata.csv").write_text(
        f"file_name,{column}\n" + "".join(f"{n}.png,{10 - n // 2}\n" for n in range(4))
    )
    source = folder()
    assert source.spec.fields["class"].names == ("9", "10")
    assert by_number(source, "class") == [1, 1, 0, 0]


def test_a_column_names_the_maps(images, folder):
    (images / "maps").mkdir()
    for n in range(4):
        Image.new("L", (8, 8), n).save(images / "maps" / f"of{n}.png")
    jsonl(images / "metadata.jsonl", [{"file_name": f"{n}.png", "map_file_name": f"maps/of{n}.png"} for n in range(4)])
    source = folder()
    assert source.length("train") + source.length("validation") == 4  # maps are no pictures
    assert [m[0][0] for m in by_number(source, "semantic")] == [0, 1, 2, 3]
    assert "map_file_name" not in source.spec.fields


def test_metadata_in_a_folder_below_speaks_of_that_folder(images, folder):
    below = images / "below"
    below.mkdir()
    for n in range(4):
        (images / f"{n}.png").rename(below / f"{n}.png")
    jsonl(below / "metadata.jsonl", [{"file_name": f"./{n}.png", "text": str(n)} for n in range(4)])
    assert by_number(folder()) == ["0", "1", "2", "3"]


def test_windows_separators_are_understood(images, folder):
    (images / "below").mkdir()
    for n in range(4):
        (images / f"{n}.png").rename(images / "below" / f"{n}.png")
    jsonl(images / "metadata.jsonl", [{"file_name": f"below\\{n}.png", "text": str(n)} for n in range(4)])
    assert by_number(folder()) == ["0", "1", "2", "3"]


def test_the_metadatas_captions_win_over_those_beside_the_images(images, folder):
    jsonl(images / "metadata.jsonl", [{"file_name": f"{n}.png", "text": "metadata"} for n in range(4)])
    (images / "0.txt").write_text("beside")
    source = folder()
    assert by_number(source) == ["metadata"] * 4
    assert source.notices == ["captions come from the metadata; 1 caption files beside images are not used"]


def test_a_column_that_some_lack_is_empty_text_or_no_field(images, folder):
    rows = [
        {"file_name": f"{n}.png", "text": "t", "words": "w", "number": n, "pairs": [[0, 0, 1, 1]]} for n in range(4)
    ]
    rows[2] |= {"words": None, "number": None}
    jsonl(images / "metadata.jsonl", rows)
    source = folder()
    assert by_number(source, "words") == ["w", "w", "", "w"]
    assert set(source.spec.fields) - FRAMING == {"caption", "words"}
    assert len(source.notices) == 3
    for name in ("words", "number", "pairs"):
        assert sum(f"'{name}'" in notice for notice in source.notices) == 1


GOOD = '{"file_name": "0.png", "text": "a"}\n'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (GOOD + "{", "line 2: not JSON"),
        (GOOD + "\n\n[1]\n", "line 4: list; expected an object"),
        (GOOD + "[" * 100_000, "line 2: not JSON"),
        (GOOD + '{"file_name": "1.png", "score": NaN}', "line 2: 'score' is nan; expected a finite number"),
        (GOOD + '{"file_name": "1.png", "score": 1e39}', "line 2: a number is above 3.4e[+]38"),
        (GOOD + '{"file_name": "1.png", "score": 1' + "0" * 400 + "}", "line 2: a number is above 3.4e[+]38"),
        (GOOD + '{"filename": "1.png"}', "line 2: there is no file_name; did you mean to call 'filename' so"),
        (GOOD + '{"file_name": 7}', "line 2: file_name is 7; expected the relative path"),
        (GOOD + '{"file_name": ""}', "line 2: file_name is ''; expected the relative path"),
        (GOOD + '{"file_name": "a\\u0000.png"}', "line 2: file_name is .* expected the relative path"),
        (GOOD + '{"file_name": "l.png"}', "line 2: there is no image 'l.png'; did you mean '.*png'"),
        (GOOD + GOOD, "line 2: '0.png' is named again, after metadata.jsonl line 1"),
        (GOOD, "names 1 of 4 images; not '1.png', '2.png', '3.png'; add their lines or move them out"),
        (GOOD + '{"file_name": "1.png", "map": "x.png"}', "line 2: there is no image 'x.png'"),
        ('{"file_name": "0.png", "text": "a", "caption": "b"}', "'text' and 'caption', and both are the caption"),
        (GOOD + "x" * (1 << 21), "line 2: the line is over 1 MiB"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(images, folder, lines, message):
    (images / "metadata.jsonl").write_text(lines)
    with pytest.raises(DataError, match=message):
        folder()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,text\n0.png,a\n1.png,b,c\n", "metadata.csv line 3: not as many columns"),
        ("file_name,text\n0.png,a\n1.png\n", "metadata.csv line 3: not as many columns"),
        ('file_name,text\n0.png,"a\n', "metadata.csv line 2: unexpected end of data"),
        ("file;text\n0.png;a\n", "metadata.csv line 2: there is no file_name"),
    ],
)
def test_a_wrong_line_of_csv_is_named_by_its_number(images, folder, text, message):
    (images / "metadata.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        folder()


@pytest.mark.parametrize(
    "name",
    [
        "../outside.png",
        "a/../../outside.png",
        "/etc/passwd",
        "..\\outside.png",
        "C:\\x.png",
        "C:x.png",
        "\\\\host\\x.png",
    ],
)
@pytest.mark.parametrize("column", ["file_name", "map"])
def test_metadata_cannot_lead_out_of_the_directory(images, folder, name, column):
    jsonl(images / "metadata.jsonl", [{"file_name": "0.png", "map": "1.png"} | {column: name}])
    with pytest.raises(DataError, match=f"line 1: {column} .* leads out of the directory"):
        folder()


def test_metadata_of_other_formats_or_twice_is_refused(images, folder):
    (images / "metadata.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"'metadata.parquet' is not read; save it as metadata.jsonl or metadata.csv"):
        folder()
    (images / "metadata.parquet").unlink()
    jsonl(images / "metadata.jsonl", [])
    (images / "metadata.csv").write_text("file_name\n")
    with pytest.raises(DataError, match="keep one"):
        folder()


def test_metadata_that_is_not_utf8_is_refused(images, folder):
    (images / "metadata.csv").write_bytes("file_name,text\n0.png,café\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"metadata.csv is not UTF-8"):
        folder()

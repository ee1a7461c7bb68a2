"""The decode table: expected pixels come from the formulas of the formats, not from Pillow's conversions."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from ldmkit_data.decode import UndecodableError, decode, decode_map, decoding
from PIL import Image

BACKGROUND = (10, 200, 90)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def pixels(file, channels=3, background=BACKGROUND, max_pixels=10**6):
    with decoding(max_pixels):
        return np.asarray(decode(file, channels=channels, background=background)).astype(int)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, *, extra=b""):
    """A PNG by hand (PNG 1.2, section 11), for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + parts)


def tiff(bits, photometric, data, width):
    """A one-row little-endian grey TIFF by hand (TIFF 6.0, section 4), for what Pillow does not write."""
    tags = [(256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 200), (277, 1), (278, 1)]
    tags.append((279, len(data)))
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return io.BytesIO((b"II*\0" + struct.pack("<I", 8) + directory).ljust(200, b"\0") + data)


def random_rgb(height=5, width=7):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_rgb_without_loss_is_itself(kind):
    values = random_rgb()
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(pixels(encoded(Image.fromarray(values), kind, **options)), values)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF"])
def test_rgb_with_loss_is_near(kind):
    values = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    assert np.abs(pixels(encoded(Image.fromarray(values), kind, quality=95)) - values).max() <= 3


def test_grey_becomes_three_equal_channels_or_one():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(pixels(encoded(Image.fromarray(values))), np.stack([values] * 3, -1))
    assert np.array_equal(pixels(encoded(Image.fromarray(values)), channels=1), values)


def test_colour_becomes_grey_by_601_luma():
    values = random_rgb()
    luma = values @ np.array([0.299, 0.587, 0.114])
    assert np.abs(pixels(encoded(Image.fromarray(values)), channels=1) - luma).max() <= 1


def test_one_bit_is_black_and_white():
    file = encoded(Image.fromarray(np.array([[True, False]])))
    assert pixels(file).tolist() == [[[255] * 3, [0] * 3]]


def palette_image():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").copy()
    image.putpalette([250, 0, 0, 0, 240, 0, 0, 0, 230])
    return image


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_palette_becomes_its_colours(kind):
    assert pixels(encoded(palette_image(), kind)).tolist() == [[[250, 0, 0], [0, 240, 0], [0, 0, 230]]]


def test_palette_with_one_transparent_index_shows_the_background():
    for kind in ("PNG", "GIF"):
        file = encoded(palette_image(), kind, transparency=1)
        assert pixels(file).tolist() == [[[250, 0, 0], list(BACKGROUND), [0, 0, 230]]]


def test_palette_with_alphas_is_blended():
    file = encoded(palette_image(), transparency=bytes([255, 0, 51]))  # 51 / 255 = 1/5
    blend = [round(0.2 * c + 0.8 * b) for c, b in zip((0, 0, 230), BACKGROUND, strict=True)]
    assert pixels(file).tolist() == [[[250, 0, 0], list(BACKGROUND), blend]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_blended_over_the_background(kind):
    rng = np.random.default_rng(1)
    rgba = rng.integers(0, 256, (16, 16, 4), dtype=np.uint8)
    rgba[..., 3] = np.arange(256).reshape(16, 16)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    alpha = rgba[..., 3:] / 255
    expected = alpha * rgba[..., :3] + (1 - alpha) * np.array(BACKGROUND)
    assert np.abs(pixels(encoded(Image.fromarray(rgba), kind, **options)) - expected).max() <= 0.51


def test_a_colour_under_alpha_zero_leaves_no_trace():
    rgba = np.concatenate([random_rgb(), np.zeros((5, 7, 1), np.uint8)], -1)
    assert np.array_equal(pixels(encoded(Image.fromarray(rgba))), np.broadcast_to(BACKGROUND, (5, 7, 3)))


def test_grey_with_alpha_is_blended():
    la = np.array([[[100, 255], [100, 0], [100, 51]]], np.uint8)
    blend = [round(0.2 * 100 + 0.8 * b) for b in BACKGROUND]
    assert pixels(encoded(Image.fromarray(la))).tolist() == [[[100] * 3, list(BACKGROUND), blend]]


def test_a_colour_key_shows_the_background():
    values = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    assert pixels(encoded(Image.fromarray(values), transparency=(1, 2, 3))).tolist() == [[list(BACKGROUND), [4, 5, 6]]]
    grey = png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 257 * 7, 300), extra=chunk(b"tRNS", struct.pack(">H", 300)))
    assert pixels(grey).tolist() == [[[7] * 3, list(BACKGROUND)]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = pixels(encoded(Image.fromarray(values), kind), channels=1)
    assert np.abs(found - values / 65535 * 255).max() <= 0.501


def test_16_bit_colour_is_within_one_level():
    values = np.random.default_rng(2).integers(0, 65536, (4, 6, 3))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    assert np.abs(pixels(png(6, 4, 16, 2, rows)) - values / 65535 * 255).max() <= 1


def test_12_bit_grey_is_scaled_by_its_own_maximum():
    # Two pixels in three bytes, the first in the high bits.
    file = tiff(12, 1, bytes([0xFF, 0xF8, 0x00]), 2)
    assert pixels(file, channels=1).tolist() == [[255, round(0x800 / 4095 * 255)]]


def test_16_bit_grey_whose_white_is_zero_is_turned():
    file = tiff(16, 0, struct.pack("<HH", 0, 65535), 2)
    assert pixels(file, channels=1).tolist() == [[255, 0]]


def test_cmyk_is_multiplied_out():
    cmyk = np.random.default_rng(3).integers(0, 256, (6, 6, 4), dtype=np.uint8)
    c, k = cmyk[..., :3] / 255, cmyk[..., 3:] / 255
    found = pixels(encoded(Image.fromarray(cmyk, "CMYK"), "TIFF"))
    assert np.abs(found - 255 * (1 - c) * (1 - k)).max() <= 1


def test_cmyk_in_jpeg_is_read_with_adobes_inverted_polarity():
    file = encoded(Image.new("CMYK", (16, 16), (10, 60, 110, 40)), "JPEG", quality=100)
    assert b"Adobe" in file.getvalue()
    expected = [255 * (1 - ink / 255) * (1 - 40 / 255) for ink in (10, 60, 110)]
    assert np.abs(pixels(file) - expected).max() <= 3


def test_ycbcr_follows_jpegs_matrix():
    file = encoded(Image.new("YCbCr", (2, 2), (120, 100, 160)), "TIFF")
    red, blue = 120 + 1.402 * (160 - 128), 120 + 1.772 * (100 - 128)
    green = 120 - 0.344136 * (100 - 128) - 0.714136 * (160 - 128)
    assert np.abs(pixels(file) - [red, green, blue]).max() <= 1


SIDES = {  # EXIF 2.32, tag 0x0112: where the 0th row and the 0th column of what is stored belong
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def stored_as(upright, orientation):
    row_side, column_side = SIDES[orientation]
    values = upright if row_side in ("top", "bottom") else upright.swapaxes(0, 1)
    if row_side in ("bottom", "right"):
        values = values[::-1]
    return np.ascontiguousarray(values[:, ::-1] if column_side in ("bottom", "right") else values)


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_every_orientation_comes_out_upright(kind, orientation):
    upright = random_rgb()
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    file = encoded(Image.fromarray(stored_as(upright, orientation)), kind, exif=exif, **options)
    assert np.array_equal(pixels(file), upright)


@pytest.mark.parametrize("orientation", SIDES)
def test_every_orientation_of_a_jpeg_comes_out_upright(orientation):
    upright = np.kron(np.array([[0, 80, 160], [240, 40, 120]], np.uint8), np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[274] = orientation
    file = encoded(Image.fromarray(stored_as(upright, orientation)), "JPEG", quality=100, exif=exif)
    assert np.abs(pixels(file, channels=1) - upright).max() <= 2


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12"]
)
def test_damaged_exif_costs_the_orientation_alone(exif):
    values = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    assert np.abs(pixels(encoded(Image.fromarray(values), "JPEG", exif=exif)) - values).max() <= 6


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_counts(kind):
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    file = encoded(first, kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(file) as image:
        assert image.n_frames == 2
    assert np.array_equal(pixels(file), np.broadcast_to((255, 0, 0), (4, 4, 3)))


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_without_a_stated_range_are_refused(mode):
    with pytest.raises(UndecodableError, match=f"mode {mode} have no stated range"):
        pixels(encoded(Image.new(mode, (4, 4)), "TIFF"))


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "JPEG2000", "SGI"])
def test_other_formats_stay_shut_whatever_the_file_is_called(kind):
    with pytest.raises(UndecodableError, match="not an image of a format that is read"):
        pixels(encoded(Image.new("RGB", (16, 16)), kind))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"  \n", "empty file"),
        (b"<!DOCTYPE html><html>404</html>", "HTML, SVG or XML"),
        (b"\xef\xbb\xbf<svg xmlns='http://www.w3.org/2000/svg'/>", "HTML, SVG or XML"),
        (b"404: not found", "not an image"),
    ],
)
def test_what_is_no_image_is_named_for_what_it_is(data, reason):
    with pytest.raises(UndecodableError, match=reason):
        pixels(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_half_a_file_is_damaged(kind, share):
    data = encoded(Image.fromarray(random_rgb(64, 64)), kind).getvalue()
    with pytest.raises(UndecodableError):
        pixels(io.BytesIO(data[: int(len(data) * share)]))


def test_the_limit_of_pixels_is_exact_and_pillows_own_does_not_count():
    file = encoded(Image.new("L", (100, 100)))
    assert pixels(file, max_pixels=10_000).shape == (100, 100, 3)
    with pytest.raises(UndecodableError, match=r"more pixels than data\.max_pixels"):
        pixels(file, max_pixels=9_999)
    with pytest.raises(UndecodableError, match="damaged"):  # 144 million pixels are announced, and none is there
        pixels(png(12_000, 12_000, 1, 0, b""), max_pixels=144_000_000)


def test_a_header_of_400_million_pixels_is_refused():
    with pytest.raises(UndecodableError, match=r"more pixels than data\.max_pixels"):
        pixels(png(20_000, 20_000, 8, 2, b""), max_pixels=100_000_000)


def test_a_text_chunk_that_inflates_to_70_million_bytes_is_refused():
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(70_000_000), 9))
    with pytest.raises(UndecodableError, match="damaged"):
        pixels(png(1, 1, 8, 0, b"\0\0", extra=bomb))


def test_pillows_limit_and_pythons_filters_are_put_back():
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with pytest.raises(UndecodableError):
        pixels(io.BytesIO(b""), max_pixels=before[0] + 1)
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def indices(file):
    with decoding(10**6):
        return np.asarray(decode_map(file))


def test_a_map_is_its_palette_indices_not_its_colours():
    assert indices(encoded(palette_image())).tolist() == [[0, 1, 2]]


def test_a_map_is_its_grey_values():
    assert indices(encoded(Image.fromarray(np.array([[3, 255]], np.uint8)))).tolist() == [[3, 255]]
    assert indices(encoded(Image.fromarray(np.array([[3, 40_000]], np.uint16)))).tolist() == [[3, 40_000]]
    assert indices(encoded(Image.fromarray(np.array([[True, False]])))).tolist() == [[1, 0]]


def test_a_map_in_colour_is_refused():
    with pytest.raises(UndecodableError, match="mode RGB; its class indices must be"):
        indices(encoded(Image.new("RGB", (2, 2))))

"""Image files => upright 8-bit RGB or grey, by one table of modes; what the table lacks is refused, never guessed.

| file holds                         | becomes                                                                     |
|------------------------------------|-----------------------------------------------------------------------------|
| 1, L, RGB, YCbCr                   | itself, as 8-bit                                                            |
| P (palette)                        | its colours                                                                 |
| CMYK                               | (1 - C)(1 - K), and so on; CMYK in JPEG has Adobe's inverted polarity       |
| LA, RGBA, premultiplied, colour key| over the background: a c + (1 - a) b                                        |
| 16-bit and 12-bit grey             | scaled, v / 65535 or v / 4095                                               |
| 16-bit RGB, LA, RGBA               | the high byte of each channel                                               |
| several frames or pages            | the first                                                                   |
| float, 32-bit integer, LAB, HSV    | refused: the range is not in the file                                       |

EXIF orientation 1 to 8 is applied; an orientation that cannot be read counts as 1. Colour profiles are not applied.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import AvifImagePlugin, Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

FORMATS = (
    "JPEG",
    "PNG",
    "GIF",
    "BMP",
    "PPM",
    TiffImagePlugin.TiffImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    AvifImagePlugin.AvifImageFile.format,
)
"""What Pillow may open a file as, whatever the file is called. Formats with a history of holes stay shut."""

EXIF_ORIENTATION = 274
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation => what makes the image upright (EXIF 2.32, tag 0x0112)."""

PLAIN = {"1", "L", "RGB", "RGBX", "YCbCr", "CMYK", "P"}
ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
GREY16 = {"I;16", "I;16B", "I;16L", "I;16N"}

_LOCK = threading.RLock()


class UndecodableError(Exception):
    """A file that the table refuses or that is damaged; the message is the reason, in one line."""


@contextmanager
def decoding(max_pixels: int) -> Iterator[None]:
    """Within it, also in threads started there, Pillow refuses more than ``max_pixels`` and is silent otherwise.

    Pillow's limit and Python's warning filters are global: both are put back at the end, and one thread at a time may
    be in.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def decode(file: BinaryIO, *, channels: int, background: tuple[int, int, int]) -> Image.Image:
    """Decode an open ``file`` to an upright image of mode RGB (``channels`` 3) or L (1), within :func:`decoding`.

    Raises :class:`UndecodableError` for everything that is not an image of the table.
    """
    image, orientation = _load(file)
    if image.mode in GREY16 or (image.mode == "I" and image.format == "PPM"):
        image = _scaled_grey(image, background)
    elif image.mode in ALPHA or image.has_transparency_data:
        image = _over(image.convert("RGBA"), background)
    elif image.mode not in PLAIN:
        raise UndecodableError(f"pixels of mode {image.mode} have no stated range; save it as 8-bit or 16-bit")
    if image.mode != (mode := "RGB" if channels == 3 else "L"):
        # CMYK has no direct way to L.
        image = image.convert("RGB").convert(mode) if image.mode == "CMYK" else image.convert(mode)
    return _upright(image, orientation)


def decode_map(file: BinaryIO) -> Image.Image:
    """Decode an open ``file`` to an upright image of mode I of class indices, which are palette indices or grey values.

    Raises :class:`UndecodableError` for colour images, whose classes cannot be known, and for damaged files.
    """
    image, orientation = _load(file)
    if image.mode not in {"1", "L", "P"} | GREY16:
        raise UndecodableError(f"a map of mode {image.mode}; its class indices must be palette indices or grey values")
    indices = np.asarray(image).astype(np.int32)
    return _upright(Image.fromarray(indices), orientation)


def _load(file: BinaryIO) -> tuple[Image.Image, int]:
    """Open and decode the first frame; return it with its EXIF orientation."""
    try:
        image = Image.open(file, formats=FORMATS)
        image.load()
        return image, _orientation(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UndecodableError("more pixels than data.max_pixels") from None
    except UnidentifiedImageError:
        raise UndecodableError(_what_it_is(file)) from None
    except MemoryError:
        raise
    # Decoders of damaged bytes raise OSError, SyntaxError, ValueError, struct.error, IndexError, zlib.error and more.
    except Exception as error:
        reason = " ".join(str(error).encode("ascii", "backslashreplace").decode().split()) or type(error).__name__
        raise UndecodableError(f"damaged: {reason[:200]}") from None


def _what_it_is(file: BinaryIO) -> str:
    file.seek(0)
    start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        return "empty file"
    if start.startswith(b"<"):
        return "HTML, SVG or XML text, not a pixel image"
    return f"not an image of a format that is read ({', '.join(str(name) for name in FORMATS)})"


def _orientation(image: Image.Image) -> int:
    """Read after loading, as PNG keeps it behind the pixels and TIFF is turned (and says so) while loading."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # Damaged EXIF does not damage the pixels; its parser raises as widely as the decoders do.
        return 1
    return value if value in TRANSPOSE else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TRANSPOSE[orientation]) if orientation in TRANSPOSE else image


def _over(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """RGBA => RGB, a c + (1 - a) b rounded to nearest; a colour hidden under alpha 0 leaves no trace."""
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return canvas


def _scaled_grey(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Grey of more than 8 bits => L, or RGB where a colour key lets the background through."""
    values = np.asarray(image).astype(np.float32)
    tags = getattr(image, "tag_v2", {})
    maximum = 4095.0 if tags.get(TIFF_BITS) == (12,) else 65535.0
    if tags.get(TIFF_PHOTOMETRIC) == 0:  # white is zero
        values = maximum - values
    grey = Image.fromarray(np.round(values * (255.0 / maximum)).astype(np.uint8))
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return grey
    alpha = Image.fromarray(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8))
    return _over(Image.merge("LA", (grey, alpha)).convert("RGBA"), background)

"""Pictures on disk: PNG files that say how they were made, and grids of pictures.

A PNG of ours has two text chunks: ``ldmkit``, the whole record as JSON, which :func:`read_metadata` gives back, and
``parameters``, the prompt and settings as the field's picture viewers show them. Legend of shapes: ``ldmkit.values``.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from ldmkit.artifacts.whole import write_whole
from ldmkit.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

RECORD_KEY = "ldmkit"
VIEWER_KEY = "parameters"
LONGEST_TEXT = 10_000
"""Characters of one text (a prompt, a command) that a picture carries; what is longer is cut, with a mark."""


def png_bytes(image: Tensor, metadata: Mapping[str, Any] | None = None) -> bytes:
    """Encode one picture, uint8 (C, H, W) with C 1 (gray) or 3 (RGB), as PNG; the same input gives the same bytes.

    ``metadata`` is the picture's record, whose values are what JSON has: text, numbers, booleans, None. The keys
    ``prompt``, ``negative_prompt``, ``steps``, ``sampler``, ``guidance``, ``seed``, ``checkpoint`` and ``version``
    also appear in the line for viewers. Raises ValueError for another shape or dtype.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3) or str(image.dtype) != "torch.uint8":
        raise ValueError(f"a picture is uint8 (1 or 3, H, W), got {image.dtype} {tuple(image.shape)}")
    array = image.detach().permute(1, 2, 0).contiguous().cpu().numpy()
    picture = Image.fromarray(array[:, :, 0] if image.shape[0] == 1 else array)
    chunks = PngInfo()
    if metadata is not None:
        record = {key: _shortened(value) for key, value in metadata.items()}
        chunks.add_text(RECORD_KEY, json.dumps(record, allow_nan=False))
        chunks.add_text(VIEWER_KEY, _viewer_line(record, picture.size))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()


def save_png(image: Tensor, path: Path, metadata: Mapping[str, Any] | None = None) -> Path:
    """Write :func:`png_bytes` to ``path``, which then is the old file or the whole new one, never a part; return it."""
    return write_whole(path, png_bytes(image, metadata))


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the record that :func:`save_png` put into a PNG; empty where it has none.

    Raises DataError when ``path`` is missing, is no PNG, or its record is damaged.
    """
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            text = dict(picture.info).get(RECORD_KEY)
    except FileNotFoundError:
        raise DataError(f"there is no picture '{path}'") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"'{path}' is not a PNG that can be read: {error}") from None
    if text is None:
        return {}
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise DataError(f"'{path}' has a text chunk '{RECORD_KEY}' that is no record of ours")
    return record


def grid(images: Tensor, columns: int | None = None, *, gap: int = 2, background: int = 255) -> Tensor:
    """Lay B pictures, uint8 (B, C, H, W), out in rows: uint8 (C, rows * (H + gap) - gap, columns * (W + gap) - gap).

    ``columns`` is by default the smallest number that makes at most as many rows. Free places have the ``background``.
    Raises ValueError without pictures or columns.
    """
    count, channels, height, width = images.shape
    if count == 0 or (columns is not None and columns < 1):
        raise ValueError(f"a grid needs a picture and a column, got {count} pictures and columns={columns}")
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    sheet = images.new_full((channels, rows * (height + gap) - gap, columns * (width + gap) - gap), background)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def save_grid(
    images: Tensor, path: Path, columns: int | None = None, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write the :func:`grid` of ``images``, uint8 (B, C, H, W), as one PNG; return ``path``."""
    return save_png(grid(images, columns), path, metadata)


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"{value[:LONGEST_TEXT]}... ({len(value)} characters)"
    return value


def _viewer_line(record: Mapping[str, Any], size: tuple[int, int]) -> str:
    """Write the prompt, then ``Steps: 20, Sampler: ddim, CFG scale: 3.0, Seed: 1, Size: 64x64, ...``."""
    guidance = record.get("guidance")
    is_scale = isinstance(guidance, (int, float))
    settings = {
        "Steps": record.get("steps"),
        "Sampler": record.get("sampler"),
        "CFG scale": guidance if is_scale else None,
        "Guidance": None if is_scale else guidance,
        "Seed": record.get("seed"),
        "Size": f"{size[0]}x{size[1]}",
        "Model hash": str(record["checkpoint"])[:10] if record.get("checkpoint") else None,
        "Version": f"ldmkit {record['version']}" if record.get("version") else None,
    }
    lines = [str(record.get("prompt") or "")]
    if record.get("negative_prompt"):
        lines.append(f"Negative prompt: {record['negative_prompt']}")
    lines.append(", ".join(f"{name}: {_setting(value)}" for name, value in settings.items() if value is not None))
    return "\n".join(lines).replace("\0", "").encode("utf-8", "replace").decode()


def _setting(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:\n"') else text

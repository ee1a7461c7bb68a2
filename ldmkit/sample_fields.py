"""The fields of pictures to come, out of what was typed: each by its kind, files checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldmkit.diffusion.editing import Original, between
from ldmkit.diffusion.given import picture_size, specs_of
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.errors import ConfigError, DataError, did_you_mean
from ldmkit.specs import FieldSpec
from ldmkit.values import Fields, to_pixels

OPTIONS = {
    "label": ("--label", "NAME", "a class by its name or number"),
    "map": ("--map", "FILE", "a PNG whose pixels are numbers of classes"),
    "boxes": ("--boxes", "FILE", 'JSON: [{"box": [left, top, right, bottom] as fractions, "label": NAME}, ...]'),
    "image": ("--image", "FILE", "a picture: the one to be completed, the small one to be enlarged, or a reference"),
    "mask": ("--mask", "FILE", "a picture that is white where pixels are missing"),
}
"""The option for the one field of a kind, what it takes, and what that is."""
FORMATS = ("PNG", "JPEG", "WEBP")


@dataclass(frozen=True)
class Typed:
    """A field's ``value`` as it was typed, and ``said``, the words that it was typed in."""

    value: str
    said: str


@dataclass(frozen=True)
class Rows:
    """Fields of ``rows`` pictures, and the ``size`` (H, W) that they or the user ask for, None for the trained one."""

    fields: dict[str, Any]
    rows: int
    size: tuple[int, int] | None


def fields_for(
    model: LatentDiffusion,
    prompts: Sequence[str],
    by_kind: Mapping[str, str],
    assignments: Sequence[str],
    size: tuple[int, int] | None = None,
) -> Rows:
    """Make the fields that ``model`` needs out of prompts, values by the kind of their field, and ``NAME=VALUE`` words.

    Prompts go to the one text field that the model reads, a value by kind to the one field of its kind. Images and
    masks say what size the picture has, a map is brought to it. Raises ConfigError that names a field which the model
    does not know, lacks or is given twice; DataError for a file that cannot be read or does not hold what it should.
    """
    specs = specs_of(model.conditioners, model.data)
    fields: dict[str, Any] = {}
    if prompts:
        fields[_only("text", specs, "a prompt")] = list(prompts)
    typed = _by_name(specs, by_kind, assignments, given_as_prompt=set(fields))
    rows = len(prompts) or 1
    for name in sorted(typed, key=lambda name: specs[name].kind == "map"):  # maps last: they are brought to the size
        known = picture_size(fields, specs, size) or (model.data.size, model.data.size)
        fields[name] = repeat(_value(name, typed[name], specs[name], model.data.channels, known), rows)
    if missing := sorted(set(specs) - set(fields)):
        raise ConfigError(
            f"this model is conditioned on {', '.join(sorted(specs))}; {', '.join(missing)} is missing. "
            f"Give {' '.join(_hint(name, specs) for name in missing)}"
        )
    return Rows(fields, rows, picture_size(fields, specs, size))


def original_for(
    model: LatentDiffusion, image: Path | None, strength: float | None, redraw: Path | None, rows: int
) -> Original | None:
    """``rows`` times the picture to begin with; ``strength`` is 0.6, or 1 where a mask says what is drawn anew."""
    if image is None:
        if strength is not None or redraw is not None:
            raise ConfigError("--strength and --redraw need a picture to begin with: --from FILE")
        return None
    pixels = to_pixels(read_image(image, model.data.channels)).expand(rows, -1, -1, -1)
    mask = None if redraw is None else read_mask(redraw).expand(rows, -1, -1)
    return Original(pixels, (0.6 if mask is None else 1.0) if strength is None else strength, mask)


def noise_for(
    model: LatentDiffusion, image: Path | None, other: Path | None, fields: Fields, rows: int
) -> tuple[Tensor, tuple[int, int]]:
    """The noise (B, c, h, w) to which ``image`` inverts, for each of ``rows``, and its size (H, W) in pixels.

    With an ``other`` picture, the noises on the arc from one to the other, each inverted with the fields of its end.
    """
    if image is None:
        raise ConfigError("--invert and --to need a picture to begin with: --from FILE")
    ends = [to_pixels(read_image(path, model.data.channels)) for path in (image, other) if path is not None]
    sizes = [(end.shape[-2], end.shape[-1]) for end in ends]
    if sizes[0] != sizes[-1]:
        (height, width), (other_height, other_width) = sizes
        raise ConfigError(f"--to {other} is {other_height}x{other_width}, but --from {image} is {height}x{width}")
    model.latent_size(sizes[0])
    if other is None:
        return model.invert(ends[0].expand(rows, -1, -1, -1), fields), sizes[0]
    told = [{name: value[row : row + 1] for name, value in fields.items()} for row in (0, rows - 1)]
    one, two = (model.invert(end, each)[0] for end, each in zip(ends, told, strict=True))
    return between(one, two, [row / max(rows - 1, 1) for row in range(rows)]), sizes[0]


def negative_for(model: LatentDiffusion, text: str, rows: int) -> dict[str, Any]:
    """``text`` as what is not wanted in ``rows`` pictures, for the one text field that ``model`` reads."""
    specs = specs_of(model.conditioners, model.data)
    return {_only("text", specs, "--negative"): [text] * rows} if text else {}


def _by_name(
    specs: Mapping[str, FieldSpec], by_kind: Mapping[str, str], assignments: Sequence[str], given_as_prompt: set[str]
) -> dict[str, Typed]:
    typed: dict[str, Typed] = {}

    def put(name: str, value: str, said: str) -> None:
        if name in typed or name in given_as_prompt:
            before = f"by {typed[name].said}" if name in typed else "as a prompt"
            raise ConfigError(f"{said}: '{name}' is given twice, the first time {before}")
        typed[name] = Typed(value, said)

    for kind, value in by_kind.items():
        said = f"{OPTIONS[kind][0]} {value}"
        put(_only(kind, specs, said), value, said)
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        said = f"--field {assignment}"
        if not equals:
            raise ConfigError(f"{said} has no value; write --field {name}=VALUE")
        if name not in specs:
            raise ConfigError(f"{said}: this model has no field '{name}'{did_you_mean(name, specs)}")
        put(name, value, said)
    return typed


def _only(kind: str, specs: Mapping[str, FieldSpec], said: str) -> str:
    """The one field of ``kind``; ConfigError where there is none, or more than one."""
    fitting = [name for name, spec in specs.items() if spec.kind == kind]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigError(f"{said}: this model reads several fields of kind {kind}: {', '.join(sorted(fitting))}; "
                          f"say which: --field {fitting[0]}=VALUE")  # fmt: skip
    reads = ", ".join(f"{name} ({spec.kind})" for name, spec in sorted(specs.items())) or "nothing"
    what = "no single prompt" if kind == "text" else f"no {kind}"
    raise ConfigError(f"{said}: this model takes {what}: it is conditioned on {reads}")


def _hint(name: str, specs: Mapping[str, FieldSpec]) -> str:
    kind = specs[name].kind
    if kind not in {*OPTIONS, "text"} or [spec.kind for spec in specs.values()].count(kind) > 1:
        return f"--field {name}=VALUE"
    return "a prompt" if kind == "text" else " ".join(OPTIONS[kind][:2])


def _value(name: str, typed: Typed, spec: FieldSpec, channels: int, size: tuple[int, int]) -> Any:
    """One row of a field from what was typed."""
    if spec.kind == "text":
        return [typed.value]
    if spec.kind == "label":
        return torch.tensor([_class_index(typed.said, name, typed.value, spec.names)])
    if spec.kind == "scalar":
        return torch.tensor([_number(typed.said, name, typed.value)])
    path = Path(typed.value)
    read: dict[str, Callable[[], Any]] = {
        "map": lambda: read_map(path, size, len(spec.names)),
        "image": lambda: read_image(path, channels),
        "mask": lambda: read_mask(path),
        "boxes": lambda: [read_boxes(path, spec.names)],
    }
    return read[spec.kind]()


def _number(said: str, name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) <= torch.finfo(torch.float32).max:
        raise ConfigError(f"{said}: '{name}' takes a number")
    return number


def _class_index(said: str, name: str, text: str, names: Sequence[str]) -> int:
    indices = [str(index) for index in range(len(names))]
    if text not in names and text not in indices:
        raise ConfigError(f"{said}: no such {name}{did_you_mean(text, names)}")
    return (list(names) if text in names else indices).index(text)


@contextmanager
def _opened(path: Path, what: str, formats: tuple[str, ...] = FORMATS) -> Iterator[Any]:
    """The picture in ``path``, upright; DataError where it cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=formats) as picture:
            yield ImageOps.exif_transpose(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the {what} '{path}': {getattr(error, 'strerror', None) or error}") from None


def read_image(path: Path, channels: int) -> Tensor:
    """uint8 (1, C, H, W)."""
    import numpy as np

    with _opened(path, "image") as picture:
        if picture.has_transparency_data:
            raise DataError(f"the image '{path}' has transparency; save it without")
        if picture.mode not in {"1", "L", "P", "RGB"}:
            raise DataError(f"the image '{path}' is of mode {picture.mode}; save it as RGB or grey, 8 bits a channel")
        pixels = np.array(picture.convert("RGB" if channels == 3 else "L"))
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).movedim(2, 0)[None].contiguous()


def read_mask(path: Path) -> Tensor:
    """bool (1, H, W), True where the picture is white."""
    import numpy as np

    with _opened(path, "mask") as picture:
        if picture.mode not in {"1", "L", "P", "RGB"} or picture.has_transparency_data:
            raise DataError(
                f"the mask '{path}' is of mode {picture.mode}; save it as grey: white where pixels are missing"
            )
        missing = np.array(picture.convert("L")) >= 128
    if not missing.any():
        raise DataError(f"the mask '{path}' has no white pixel: nothing is missing")
    return torch.from_numpy(missing)[None]


def read_map(path: Path, size: tuple[int, int], classes: int) -> Tensor:
    """int64 (1, H, W), brought to ``size``."""
    import numpy as np
    from PIL import Image

    with _opened(path, "map", ("PNG",)) as picture:
        indices = np.asarray(picture.resize(size[::-1], Image.Resampling.NEAREST))
    if indices.ndim != 2 or indices.max() >= classes:
        raise DataError(f"the map '{path}' must be gray or palette with class indices 0 to {classes - 1}")
    return torch.from_numpy(indices.astype("int64"))[None]


def read_boxes(path: Path, names: Sequence[str]) -> Tensor:
    """float32 (N, 5): left, top, right, bottom as fractions, and the index of the class."""
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read the boxes '{path}': {error}") from None
    if not isinstance(listed, list):
        raise DataError(f"the boxes '{path}' must be a JSON list, got {type(listed).__name__}")
    rows = []
    for number, entry in enumerate(listed):
        where = f"box {number} of '{path}'"
        if not isinstance(entry, dict) or set(entry) != {"box", "label"}:
            raise DataError(f'{where} must be {{"box": [left, top, right, bottom], "label": NAME}}, got {entry}')
        box = entry["box"]
        if not _is_box(box):
            raise DataError(f"{where} must be left < right and top < bottom as fractions 0 to 1, got {box}")
        rows.append([*map(float, box), float(_class_index(where, "label", str(entry["label"]), names))])
    return torch.tensor(rows).reshape(-1, 5)


def _is_box(box: Any) -> bool:
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        return False
    left, top, right, bottom = box
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def repeat(values: Any, times: int) -> Any:
    """Each row of ``values`` ``times`` times."""
    if isinstance(values, Tensor):
        return values.repeat_interleave(times, dim=0)
    return [value for value in values for _ in range(times)]

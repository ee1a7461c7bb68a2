"""`ldmkit sample RUN "a prompt" ...`: pictures from a finished run."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ldmkit.training.device as devices
from ldmkit.artifacts.checkpoint import verify
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.diffusion.tiling import DEFAULT_TILING, Tiling
from ldmkit.errors import ConfigError, DataError, did_you_mean
from ldmkit.exits import Arguments
from ldmkit.models import find_checkpoint, load
from ldmkit.pictures import save_grid, save_png
from ldmkit.specs import FieldSpec
from ldmkit.values import to_uint8


def main(argv: Sequence[str]) -> None:
    """Carry out `ldmkit sample` with the arguments behind the verb."""
    asked = _parser().parse_intermixed_args(argv)
    compute = devices.choose(asked.device, asked.precision, asked.threads)
    checkpoint = find_checkpoint(asked.run)
    model = load(checkpoint, compute.device)
    model.latent_size(asked.size)  # refuses a size that does not fit
    fields, rows = fields_for(model, asked.prompts, asked.field, asked.size)
    fields = {name: _repeat(value, asked.n) for name, value in fields.items()}
    total = rows * asked.n
    _make_writable(asked.out)
    with compute.autocast():
        images = to_uint8(
            model.sample(
                fields,
                count=total,
                steps=asked.steps,
                seed=asked.seed,
                size=asked.size,
                batch_size=asked.batch_size,
                tiling=Tiling(tile=asked.tile),
            ).cpu()
        )
    digest, steps = verify(checkpoint), asked.steps or model.sampler.steps
    words = [prompt for prompt in asked.prompts or [", ".join(asked.field)] for _ in range(asked.n)]
    for index, image in enumerate(images):
        record = {
            "prompt": words[index] if words else "",
            "seed": asked.seed + index,
            "steps": steps,
            "sampler": type(model.sampler).__name__,
            "checkpoint": digest,
            "command": shlex.join(["ldmkit", "sample", *argv]),
        }
        print(save_png(image, asked.out / f"{index:05d}.png", record))
    if total > 1:
        print(save_grid(images, asked.out / "grid.png", columns=asked.n if rows > 1 and asked.n > 1 else None))


def fields_for(
    model: LatentDiffusion,
    prompts: Sequence[str],
    assignments: Sequence[str],
    size: tuple[int, int] | None = None,
) -> tuple[dict[str, Any], int]:
    """Make the fields that ``model`` needs out of prompts and ``NAME=VALUE`` words, with the number of rows.

    Prompts go to the one text field that the model reads; a map is brought to ``size`` (H, W), by default the trained
    one. Raises ConfigError that names a field the model does not know, lacks or is given twice, and what a label's
    values are.
    """
    needs, spec = model.conditioners.needs, model.data
    texts = [name for name, kind in needs.items() if kind == "text"]
    fields: dict[str, Any] = {}
    if prompts and len(texts) != 1:
        reads = ", ".join(sorted(needs)) or "nothing"
        raise ConfigError(f"this model takes no single prompt: it is conditioned on {reads}; use --field NAME=VALUE")
    rows = len(prompts) or 1
    if prompts:
        fields[texts[0]] = list(prompts)
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--field {assignment} has no value; write --field {name}=VALUE")
        if name not in needs:
            raise ConfigError(f"--field {assignment}: this model has no field '{name}'{did_you_mean(name, needs)}")
        if name in fields:
            first = "as a prompt" if prompts and name == texts[0] else "by another --field"
            raise ConfigError(f"--field {assignment}: '{name}' is given twice, the first time {first}")
        fields[name] = _repeat(_value(name, value, spec.fields[name], size or (spec.size, spec.size)), rows)
    if missing := sorted(set(needs) - set(fields)):
        raise ConfigError(
            f"this model is conditioned on {', '.join(sorted(needs))}; {', '.join(missing)} is missing. "
            f"Give {' '.join('a prompt' if name in texts else f'--field {name}=VALUE' for name in missing)}"
        )
    return fields, rows


def _value(name: str, text: str, field: FieldSpec, size: tuple[int, int]) -> Any:
    """One row of a field from what was typed."""
    if field.kind == "text":
        return [text]
    if field.kind == "label":
        indices = [str(index) for index in range(len(field.names))]
        if text not in field.names and text not in indices:
            raise ConfigError(f"--field {name}={text}: no such {name}{did_you_mean(text, field.names)}")
        return torch.tensor([(field.names if text in field.names else indices).index(text)])
    if field.kind == "map":
        return _read_map(Path(text), size, len(field.names))
    raise ConfigError(f"--field {name}: fields of kind {field.kind} cannot be given on the command line yet")


def _read_map(path: Path, size: tuple[int, int], classes: int) -> Tensor:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            indices = np.asarray(picture.resize(size[::-1], Image.Resampling.NEAREST))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise DataError(f"cannot read the map '{path}': {error}") from None
    if indices.ndim != 2 or indices.max() >= classes:
        raise DataError(f"the map '{path}' must be gray or palette with class indices 0 to {classes - 1}")
    return torch.from_numpy(indices.astype("int64"))[None]


def _make_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {directory} cannot be made a directory: {error.strerror}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {directory} cannot be written to")


def _repeat(values: Any, times: int) -> Any:
    if isinstance(values, Tensor):
        return values.repeat_interleave(times, dim=0)
    return [value for value in values for _ in range(times)]


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(prog="ldmkit sample", description="Draw pictures with the model of a finished run.")
    parser.add_argument("run", metavar="RUN", help="id under outputs/runs, run directory or checkpoint directory")
    parser.add_argument(
        "prompts", metavar="PROMPT", nargs="*", default=[], help="what to draw, for a model with a text field"
    )
    parser.add_argument(
        "--field",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="any other field: a label by name, a map by file",
    )
    parser.add_argument("-n", metavar="N", type=_whole(1), default=1, help="pictures for each prompt (1)")
    parser.add_argument("--steps", metavar="N", type=_whole(1), help="sampler steps (the run's own)")
    parser.add_argument(
        "--seed", metavar="N", type=_whole(), default=0, help="seed of picture 0; picture i has seed + i (0)"
    )
    parser.add_argument("--size", metavar="SIZE", type=_size, help="pixels: 512, or HEIGHTxWIDTH (as trained)")
    parser.add_argument(
        "--tile",
        metavar="N",
        type=_whole(1),
        default=DEFAULT_TILING.tile,
        help=f"decode pictures larger than N pixels in tiles of that side ({DEFAULT_TILING.tile})",
    )
    parser.add_argument("--out", type=Path, default=Path("samples"), help="directory for the PNG files (samples)")
    parser.add_argument("--batch-size", metavar="N", type=_whole(1), default=64, help="pictures drawn at once (64)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--threads", metavar="N", type=_whole(0), default=0, help="of the CPU; 0 is torch's own (0)")
    return parser


def _size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.split("x") if side.isascii() and side.isdigit()]
    if len(sides) != text.count("x") + 1 or len(sides) > 2 or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"takes pixels, as 512 or 512x768 (height x width), got '{text}'")
    return sides[0], sides[-1]


def _whole(least: int | None = None) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or (least is not None and value < least):
            of = "" if least is None else f" of {least} or more"
            raise argparse.ArgumentTypeError(f"takes a whole number{of}, got '{text}'")
        return value

    return read

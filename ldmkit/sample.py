"""`ldmkit sample RUN "a prompt" ...`: pictures from a finished run."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import ldmkit.training.device as devices
from ldmkit.artifacts.checkpoint import verify
from ldmkit.diffusion.tiling import DEFAULT_TILING, Tiling
from ldmkit.errors import ConfigError
from ldmkit.exits import Arguments
from ldmkit.models import find_checkpoint, load
from ldmkit.pictures import save_grid, save_png
from ldmkit.sample_fields import OPTIONS, fields_for, negative_for, noise_for, original_for, repeat
from ldmkit.values import to_uint8


def main(argv: Sequence[str]) -> None:
    """Carry out `ldmkit sample` with the arguments behind the verb."""
    asked = _parser().parse_intermixed_args(argv)
    compute = devices.choose(asked.device, asked.precision, asked.threads)
    checkpoint = find_checkpoint(asked.run)
    model = load(checkpoint, compute.device, settings_of(asked.settings))
    prompts = [*asked.prompts, *asked.caption]
    by_kind = {kind: value for kind in OPTIONS if (value := getattr(asked, kind)) is not None}
    given = fields_for(model, prompts, by_kind, asked.field, asked.size)
    model.latent_size(given.size)  # refuses a size that does not fit
    fields = {name: repeat(value, asked.n) for name, value in given.fields.items()}
    rows, total = given.rows, given.rows * asked.n
    negative = negative_for(model, asked.negative, total)
    noise, original, size = None, None, given.size
    if asked.invert or asked.to:
        if asked.strength is not None or asked.redraw is not None:
            raise ConfigError("--invert and --to begin with noise: leave --strength and --redraw out")
        noise, size = noise_for(model, asked.original, asked.to, fields, total)
        if given.size not in (None, size):
            raise ConfigError(f"--from {asked.original} is {size[0]}x{size[1]}, not {given.size[0]}x{given.size[1]}")
    else:
        original = original_for(model, asked.original, asked.strength, asked.redraw, total)
    model.latent_size(original.size if original else size)
    _make_writable(asked.out)
    with compute.autocast():
        images = to_uint8(
            model.sample(
                fields,
                negative=negative,
                count=total,
                steps=asked.steps,
                seed=asked.seed,
                size=size,
                batch_size=asked.batch_size,
                tiling=Tiling(tile=asked.tile),
                window=asked.window,
                original=original,
                noise=noise,
            ).cpu()
        )
    digest, steps = verify(checkpoint), asked.steps or model.sampler.steps
    typed = [*(f"{kind}={value}" for kind, value in by_kind.items()), *asked.field]
    words = [prompt for prompt in prompts or [", ".join(typed)] for _ in range(asked.n)]
    for index, image in enumerate(images):
        record = {
            "prompt": words[index] if words else "",
            "negative_prompt": asked.negative,
            "seed": asked.seed + index,
            "steps": steps,
            "sampler": type(model.sampler).__name__,
            "checkpoint": digest,
            "command": shlex.join(["ldmkit", "sample", *argv]),
        }
        print(save_png(image, asked.out / f"{index:05d}.png", record))
    if total > 1:
        print(save_grid(images, asked.out / "grid.png", columns=asked.n if rows > 1 and asked.n > 1 else None))


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` words => values by key, as YAML has them; ConfigError where one cannot be read."""
    settings = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--set {word} has no value; write --set {word}=VALUE")
        try:
            settings[key] = OmegaConf.to_container(OmegaConf.create(f"value: {value}"))["value"]  # type: ignore[index,call-overload]
        except (YAMLError, OmegaConfBaseException) as error:
            raise ConfigError(f"--set {word}: '{value}' is no YAML: {str(error).splitlines()[0]}") from None
    return settings


def _make_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {directory} cannot be made a directory: {error.strerror}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {directory} cannot be written to")


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(prog="ldmkit sample", description="Draw pictures with the model of a finished run.")
    parser.add_argument("run", metavar="RUN", help="id under outputs/runs, run directory or checkpoint directory")
    parser.add_argument(
        "prompts", metavar="PROMPT", nargs="*", default=[], help="what to draw, for a model with a text field"
    )
    parser.add_argument("--caption", metavar="TEXT", action="append", default=[], help="a prompt, too")
    parser.add_argument("--negative", metavar="TEXT", default="", help="what not to draw, for all pictures")
    for option, metavar, what in OPTIONS.values():
        parser.add_argument(option, metavar=metavar, help=what)
    parser.add_argument(
        "--field", metavar="NAME=VALUE", action="append", default=[], help="any field, by its name: a number, say"
    )
    parser.add_argument("--from", metavar="FILE", type=Path, dest="original", help="a picture to begin with")
    parser.add_argument("--strength", metavar="S", type=float, help="share of the steps it is noised by, 0 to 1 (0.6)")
    parser.add_argument("--redraw", metavar="FILE", type=Path, help="a mask: only what is white in it is drawn anew")
    parser.add_argument("--invert", action="store_true", help="begin with the noise that --from comes from (DDIM)")
    parser.add_argument("--to", metavar="FILE", type=Path, help="pictures on the arc from the noise of --from to its")
    parser.add_argument("-n", metavar="N", type=_whole(1), default=1, help="pictures for each prompt (1)")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help="another value of a key that only sampling reads: guidance.scale=4",
    )
    parser.add_argument("--steps", metavar="N", type=_whole(1), help="sampler steps (the run's own)")
    parser.add_argument(
        "--seed", metavar="N", type=_whole(), default=0, help="seed of picture 0; picture i has seed + i (0)"
    )
    parser.add_argument("--size", metavar="SIZE", type=_size, help="pixels: 512, or HEIGHTxWIDTH (as given or trained)")
    parser.add_argument(
        "--tile",
        metavar="N",
        type=_whole(1),
        default=DEFAULT_TILING.tile,
        help=f"decode pictures larger than N pixels in tiles of that side ({DEFAULT_TILING.tile})",
    )
    parser.add_argument(
        "--window", metavar="N", type=_whole(1), help="show the denoiser windows of that side, in pixels (all at once)"
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

"""`ldmkit ema RUN --width 0.1`: other averages of the weights of a finished run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ldmkit.artifacts.checkpoint import MANIFEST, commit, link_all, read_tensors, verify, write_json, write_tensors
from ldmkit.errors import ConfigError
from ldmkit.exits import Arguments
from ldmkit.models import find_checkpoint, load
from ldmkit.stages.denoiser import TRAINED
from ldmkit.training.loop import SNAPSHOTS, profile_file
from ldmkit.training.power_ema import WIDEST, WIDTHS, Profile, combination

RECORD = "ema.json"
"""What the averages of a reconstructed checkpoint are, in its directory."""


def main(argv: Sequence[str]) -> None:
    """Carry out `ldmkit ema` with the arguments behind the verb."""
    asked = _parser().parse_args(argv)
    checkpoint = find_checkpoint(asked.run)
    snapshots = find_snapshots(checkpoint, asked.run)
    last = max(profile.step for profile in snapshots)
    wanted = Profile(asked.width, last if asked.step is None else asked.step)
    stored = {profile: file for profile, file in snapshots.items() if profile.step <= wanted.step}
    if not stored or wanted.step > last:
        first = min(profile.step for profile in snapshots)
        raise ConfigError(f"--step {wanted.step}: the run has snapshots of steps {first} to {last}")
    out = asked.out or checkpoint.parent / f"ema-{asked.width:g}"
    if out.exists() and not (out / MANIFEST).is_file():
        raise ConfigError(f"--out {out} is there already, and is no checkpoint; name another directory")
    left = reconstruct(checkpoint, stored, wanted, out)
    print(
        f"{out}: width {wanted.width:g} after {wanted.step} steps, of {len(stored)} averages; profile off by {left:.1%}"
    )


def find_snapshots(checkpoint: Path, run: str) -> dict[Profile, Path]:
    """The stored averages of the run that ``checkpoint`` is of, verified: each profile with its file.

    Raises ConfigError where the run has stored none.
    """
    place = checkpoint.parent / SNAPSHOTS
    if not place.is_dir():
        raise ConfigError(f"'{run}' has stored no averages; train with train.denoiser.snapshot_every=N to have some")
    verify(place)
    steps = [(directory, int(directory.name.partition("-")[2])) for directory in sorted(place.glob("step-*"))]
    return {Profile(width, step): directory / profile_file(width) for directory, step in steps for width in WIDTHS}


def reconstruct(checkpoint: Path, stored: Mapping[Profile, Path], wanted: Profile, out: Path) -> float:
    """Write to ``out`` the model of ``checkpoint`` with averages of the profile ``wanted``, made of ``stored`` ones.

    Returns what :func:`combination` leaves of the profile.
    """
    weights, left = combination(list(stored), wanted)
    model = load(checkpoint)
    trained = nn.ModuleDict({name: getattr(model, name) for name in TRAINED})
    averages = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in trained.named_parameters()}
    for weight, file in zip(weights, stored.values(), strict=True):
        _add(averages, float(weight), read_tensors(file))
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            parameter.copy_(averages[name])

    def write(directory: Path) -> None:
        link_all(checkpoint, directory)
        for name in TRAINED:
            (directory / f"{name}.safetensors").unlink()  # it is the file of the checkpoint, and must not be written to
            write_tensors(directory / f"{name}.safetensors", getattr(model, name).state_dict())
        steps = sorted({profile.step for profile in stored})
        write_json(directory / RECORD, {"width": wanted.width, "step": wanted.step, "off": left, "snapshots": steps})

    commit(out, write)
    return left


def _add(averages: Mapping[str, Tensor], weight: float, snapshot: Mapping[str, Tensor]) -> None:
    for name, average in averages.items():
        average.add_(snapshot[name].double(), alpha=weight)


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(prog="ldmkit ema", description="Average the weights of a finished run anew, by another width.")
    parser.add_argument("run", metavar="RUN", help="id under outputs/runs, or run directory")
    parser.add_argument(
        "--width",
        metavar="W",
        type=_width,
        required=True,
        help="standard deviation of the average, as a share of training: 0.015 to 0.25",
    )
    parser.add_argument("--step", metavar="N", type=int, help="of the average's end (the last of training)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="directory for the checkpoint (RUN/ema-W)")
    return parser


def _width(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < WIDEST:
        raise argparse.ArgumentTypeError(f"takes a number above 0 and below {WIDEST:.4f}, got '{text}'")
    return value

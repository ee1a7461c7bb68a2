"""Held-out PSNR while a first stage trains, before and in its adversarial phase.

    python benchmarks/adversarial_phase.py model=kl-f8 loss=kl --every 250

Trains as `ldmkit run task=first-stage` does with the same overrides, and decodes held-out images with the averaged
weights every so many steps. Prints a line for each: step, PSNR in dB, whether the discriminator plays.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch

import ldmkit
from ldmkit.models import build_data, build_first_stage, build_loss
from ldmkit.protocols import DataSource, FirstStage
from ldmkit.registry.composing import check
from ldmkit.stages.first_stage import STAGE, FirstStageTrainee
from ldmkit.training.device import choose
from ldmkit.training.ema import EMA
from ldmkit.training.loop import Listeners, Loop
from ldmkit.values import to_pixels, to_uint8

IMAGES = 256


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the run, as for `ldmkit run`")
    parser.add_argument("--every", type=int, default=250, help="steps between two lines")
    asked = parser.parse_intermixed_args()
    config = ldmkit.compose(asked.overrides)
    settings = check(config)
    data = build_data(config)
    first_stage = build_first_stage(config, data.spec)
    trainee = FirstStageTrainee(first_stage, build_loss(config, first_stage, data.spec), data)
    steps = settings.train.first_stage.steps
    start = config["loss"].get("discriminator", {}).get("start", steps)
    print(f"{'step':>6} {'PSNR, dB':>9}  discriminator")

    def report(step: int, ema: EMA) -> None:
        with ema.applied():
            print(f"{step:6} {psnr(first_stage, data):9.2f}  {'plays' if step > start else ''}", flush=True)

    previews = {step: partial(report, step) for step in [*range(asked.every, steps, asked.every), steps]}
    compute = choose(settings.device, settings.precision, settings.threads)
    with tempfile.TemporaryDirectory() as directory:
        loop = Loop(
            trainee,
            settings.train.first_stage,
            stage=STAGE,
            seed=settings.seed,
            compute=compute,
            directory=Path(directory),
        )
        loop.run(Listeners(previews=previews))


@torch.no_grad()
def psnr(first_stage: FirstStage, data: DataSource) -> float:
    """Mean over held-out images, of uint8 reconstructions of the posterior's mode."""
    images = data.read("validation", range(min(IMAGES, data.length("validation")))).images
    made = to_uint8(first_stage.decode(first_stage.encode(to_pixels(images)).mode()))
    errors = (made.float() - images.float()).square().flatten(1).mean(1)
    return float((10 * torch.log10(255**2 / errors)).mean())


if __name__ == "__main__":
    main()

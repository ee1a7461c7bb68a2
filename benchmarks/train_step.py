"""Seconds per training step of both stages, on the real path: data, loss, backward, optimisers, averages.

    python benchmarks/train_step.py scale=demo --steps 40
    python benchmarks/train_step.py --vs precision=bf16

With ``--vs`` a second config, the same overrides and those, takes its steps in turn with the first. The ratio is the
median over pairs of steps, so it holds when the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import ldmkit
from ldmkit.artifacts.random import RowRandom
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.models import build_data, build_loss, restore_conditioners
from ldmkit.protocols import DataSource
from ldmkit.registry.config import RunConfig, TrainConfig
from ldmkit.stages.denoiser import DenoiserTrainee
from ldmkit.stages.first_stage import FirstStageTrainee
from ldmkit.training.batches import Order
from ldmkit.training.device import Compute, choose
from ldmkit.training.loop import Loop, Trainee
from ldmkit.values import Posterior, to_pixels

WARM_UP = 3


class EncodedOnce:
    """Posteriors of the first examples, standing in for the cached latents of a whole data set."""

    def __init__(self, model: LatentDiffusion, data: DataSource, count: int) -> None:
        posterior = model.first_stage.encode(to_pixels(data.read("train", range(count)).images))
        self.mean, self.std = posterior.mean.detach(), posterior.std.detach()
        self.statistics = LatentStatistics.measure([Posterior(self.mean, self.std)], "benchmark")

    def __len__(self) -> int:
        return len(self.mean)

    def posterior(self, indices: Sequence[int], device: object) -> Posterior:
        return Posterior(self.mean[indices], self.std[indices])


def main() -> None:
    """Print a table: stage, seconds per step as median and minimum, images per second, and the ratio with ``--vs``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the run, as for `ldmkit run`")
    parser.add_argument("--vs", action="append", default=[], metavar="OVERRIDE", help="what the second config changes")
    parser.add_argument("--steps", type=int, default=30, help=f"steps that are timed, after {WARM_UP} for warm-up")
    asked = parser.parse_intermixed_args()
    configs = [asked.overrides, *([[*asked.overrides, *asked.vs]] if asked.vs else [])]
    print(f"{'stage':12} {'config':32} {'median s':>9} {'min s':>9} {'images/s':>9}")
    for stage in ("first-stage", "denoiser"):
        timed = list(zip(*in_turn([steps(overrides, stage, asked.steps) for overrides in configs]), strict=True))
        for overrides, seconds in zip(configs, timed, strict=True):
            config = ldmkit.check(ldmkit.compose(overrides))
            batch = train_config(config, stage).batch_size
            median = statistics.median(seconds)
            name = " ".join(overrides)[-32:] or "default"
            print(f"{stage:12} {name:32} {median:9.4f} {min(seconds):9.4f} {batch / median:9.1f}")
        if len(timed) == 2:
            ratios = sorted(a / b for a, b in zip(*timed, strict=True))
            low, high = ratios[len(ratios) // 4], ratios[-len(ratios) // 4]
            print(f"{stage:12} first / second: {statistics.median(ratios):.2f} (quartiles {low:.2f} to {high:.2f})")


def in_turn(timed: Sequence[Iterator[float]]) -> Iterator[tuple[float, ...]]:
    """One step of each, again and again."""
    yield from zip(*timed, strict=True)


def train_config(config: RunConfig, stage: str) -> TrainConfig:
    return config.train.first_stage if stage == "first-stage" else config.train.denoiser


def steps(overrides: Sequence[str], stage: str, count: int) -> Iterator[float]:
    """Seconds of each of ``count`` steps of ``stage``."""
    config = ldmkit.compose(list(overrides))
    checked = ldmkit.check(config)
    compute = choose(checked.device, checked.precision, checked.threads)
    data = build_data(config)
    model = ldmkit.build(config, data.spec)
    loop = Loop(
        trainee(stage, config, model, data, compute),
        replace(train_config(checked, stage), steps=10**6),
        stage=stage,
        seed=0,
        compute=compute,
        directory=Path("nowhere"),
    )
    batches = Order(loop.trainee.length, loop.config.batch_size, seed=0, stage=stage)
    for step in range(count + WARM_UP):
        began = time.perf_counter()
        indices = batches.indices(step)
        loop._step(step, loop.trainee.read(indices), RowRandom.of(0, stage, step, indices))
        if step >= WARM_UP:
            yield time.perf_counter() - began


def trainee(
    stage: str, config: dict[str, object], model: LatentDiffusion, data: DataSource, compute: Compute
) -> Trainee:
    if stage == "first-stage":
        model.first_stage.to(compute.device)
        return FirstStageTrainee(model.first_stage, build_loss(config, model.first_stage, data.spec), data)
    with tempfile.TemporaryDirectory() as directory:
        for name, part in model.conditioners.items():
            (Path(directory) / name).mkdir()
            part.fit(data.fields("train", range(min(1000, data.length("train")))), Path(directory) / name)
        restore_conditioners(model.conditioners, Path(directory))
    latents = EncodedOnce(model, data, 256)
    model.statistics = latents.statistics
    model.to(compute.device)
    return DenoiserTrainee(model, latents, data, compute.device)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()

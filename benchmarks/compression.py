"""How much to compress: what the networks of `+experiment=compression-sweep` cost, and what its runs have measured.

    python benchmarks/compression.py costs                                   work and weights of each denoiser
    python benchmarks/compression.py table outputs/runs/*                    quality, mean and deviation over the seeds
    python benchmarks/compression.py table outputs/runs/* --plot docs/images/compression.svg
    python benchmarks/compression.py throughput outputs/runs/*               images a second, trained and drawn

Tables are Markdown. Work is what torch counts in forward and backward passes of the denoiser alone: multiplications and
additions of convolutions, linear layers and attention, two for each pair. Of the directories that are given, finished
runs of the sweep are read and others passed over; of runs of one model, budget and seed the last. `throughput` takes
steps and pictures of all models in turn, so that ratios hold when the machine's speed drifts, and prints medians.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ldmkit_tasks.plots import Series, line_chart
from torch.utils.flop_counter import FlopCounterMode
from train_step import in_turn, steps

import ldmkit
from ldmkit.artifacts.checkpoint import read_json
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.models import CONFIG, build_data, load, parameters
from ldmkit.run import RECORD
from ldmkit.training.device import choose
from ldmkit.values import Conditioning

RECIPE = "+experiment=compression-sweep"
MODELS = ("identity", "kl-f2", "kl-f4", "kl-f8", "kl-f16")
COLUMNS = {
    "obey, all": ("prompt", "all", 100),
    "position": ("prompt", "position", 100),
    "shape": ("prompt", "shape", 100),
    "FID, random": ("samples", "fid_random", 1),
    "PSNR, dB": ("first_stage", "psnr", 1),
    "verified": ("first_stage", "verified", 100),
}
"""Columns of the table: section and key in ``metrics.json``, and the factor that makes a share a percentage."""
STYLE = (
    "text{font:12px sans-serif;fill:#57595e}.grid{stroke:#ddd}polyline{fill:none;stroke-width:2}"
    ".series-0{stroke:#b4621a}.series-1{stroke:#3556c8}.series-2{stroke:#17794a}"
)


@dataclass(frozen=True)
class Finished:
    """A run of the sweep."""

    directory: Path
    model: str
    budget: int
    seed: int
    metrics: Mapping[str, Mapping[str, float]]


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("costs")
    table = verbs.add_parser("table")
    table.add_argument("--plot", type=Path, metavar="FILE", help="SVG of the share that obeys, over the factor")
    throughput = verbs.add_parser("throughput")
    throughput.add_argument("--steps", type=int, default=20, help="training steps of each model")
    throughput.add_argument("--count", type=int, default=32, help="pictures of each model, drawn three times")
    for verb in (table, throughput):
        verb.add_argument("runs", type=Path, nargs="+", help="run directories")
    asked = parser.parse_args()
    if asked.verb == "costs":
        print_costs()
        return
    runs = finished(asked.runs)
    if not runs:
        sys.exit(f"none of these is a finished run of {RECIPE}")
    if asked.verb == "table":
        print_quality(runs)
        if asked.plot is not None:
            asked.plot.write_text(plot(runs), "utf-8")
        return
    print_throughput(runs, asked.steps, asked.count)


def print_costs() -> None:
    """Print the table of costs, each model beside kl-f8."""
    columns = ["model", "latent", "parameters", "GFLOP an image", "batch", "GFLOP a step"]
    print_row(columns)
    print_row(["---"] * len(columns))
    for name in MODELS:
        config = ldmkit.compose([RECIPE, f"model={name}"])
        model, batch = ldmkit.build(config), config["train"]["denoiser"]["batch_size"]
        work = training_flops(model, config["cond"]["text"]["length"]) / 1e9
        spec = model.first_stage.spec
        side = model.data.size // spec.factor
        print_row(
            [
                name,
                f"{side}x{side}x{spec.channels}",
                f"{parameters(model.denoiser):,}",
                f"{work:.3f}",
                str(batch),
                f"{work * batch:.2f}",
            ]
        )


def training_flops(model: LatentDiffusion, length: int) -> int:
    """Work of the denoiser of ``model`` for one example with ``length`` tokens, forward and backward."""
    spec, told = model.first_stage.spec, model.conditioners.spec
    side = model.data.size // spec.factor
    z_t = torch.randn(1, spec.channels, side, side)
    caption = Conditioning(tokens=torch.randn(1, length, told.tokens), vector=torch.randn(1, told.vector))
    with FlopCounterMode(display=False) as counter:
        model.denoiser(z_t, torch.full((1,), 0.5), caption).sum().backward()
    return int(counter.get_total_flops())


def finished(directories: Sequence[Path]) -> list[Finished]:
    """Those of the ``directories`` that are finished runs of the sweep; the last of each model, budget and seed."""
    found: dict[tuple[str, int, int], Finished] = {}
    for directory in sorted(directories, key=lambda path: path.name):
        if not all((directory / file).is_file() for file in (CONFIG, RECORD, "metrics.json")):
            continue
        config, overrides = read_json(directory / CONFIG), read_json(directory / RECORD)["overrides"]
        if RECIPE in overrides:
            chosen = [line.partition("=")[2] for line in overrides if line.startswith("model=")]
            run = Finished(
                directory,
                chosen[0] if chosen else "kl-f8",
                config["train"]["denoiser"]["steps"],
                config["seed"],
                read_json(directory / "metrics.json"),
            )
            found[run.model, run.budget, run.seed] = run
    return sorted(found.values(), key=lambda run: (run.budget, factor(run), run.seed))


def factor(run: Finished) -> int:
    """Pixels per latent position of its first stage, each way."""
    return int(read_json(run.directory / CONFIG)["model"].get("factor", 1))


def grouped(runs: Sequence[Finished]) -> Iterator[tuple[list[Finished], dict[str, list[float]]]]:
    """Yield the seeds of each budget and model, with what they measured by column."""
    for budget, model in dict.fromkeys((run.budget, run.model) for run in runs):
        seeds = [run for run in runs if (run.budget, run.model) == (budget, model)]
        found = {
            column: [scale * run.metrics[section][key] for run in seeds if key in run.metrics.get(section, {})]
            for column, (section, key, scale) in COLUMNS.items()
        }
        yield seeds, found


def print_quality(runs: Sequence[Finished]) -> None:
    """Print the table of quality, a row for each budget and model."""
    print_row(["steps", "model", "seeds", *COLUMNS])
    print_row(["---"] * (3 + len(COLUMNS)))
    for seeds, found in grouped(runs):
        print_row(
            [str(seeds[0].budget), seeds[0].model, str(len(seeds)), *(spread(values) for values in found.values())]
        )


def spread(values: Sequence[float]) -> str:
    """Mean, and the deviation over seeds where there are two or more."""
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.3g}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4g}{deviation}"


def plot(runs: Sequence[Finished]) -> str:
    """The share of samples that obey over the factor, a line for each budget."""
    lines: dict[int, list[tuple[float, float]]] = {}
    for seeds, found in grouped(runs):
        if values := found["obey, all"]:
            lines.setdefault(seeds[0].budget, []).append((math.log2(factor(seeds[0])), statistics.mean(values)))
    series = [Series(f"{budget} steps", points) for budget, points in lines.items()]
    label = "log2 of the factor: 0 is pixels, 3 is kl-f8"
    chart = str(line_chart(series, title="Samples that obey, %", x_label=label, log_y=False))
    head, _, rest = chart.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>{rest}'


def print_throughput(runs: Sequence[Finished], count: int, pictures: int) -> None:
    """Print images a second in training of the denoiser and in sampling, one run of each model in turn."""
    chosen = list({run.model: run for run in runs}.values())
    overrides = [[RECIPE, f"model={run.model}"] for run in chosen]
    batches = [ldmkit.compose(each)["train"]["denoiser"]["batch_size"] for each in overrides]
    trained = list(zip(*in_turn([steps(each, "denoiser", count) for each in overrides]), strict=True))
    drawn = list(zip(*in_turn([drawing(run.directory, pictures) for run in chosen]), strict=True))
    print_row(["model", "seconds a step", "images a second, training", "pictures a second, sampling"])
    print_row(["---"] * 4)
    for run, batch, of_steps, of_pictures in zip(chosen, batches, trained, drawn, strict=True):
        step = statistics.median(of_steps)
        print_row([run.model, f"{step:.3f}", f"{batch / step:.1f}", f"{pictures / statistics.median(of_pictures):.2f}"])


def drawing(directory: Path, count: int, times: int = 3) -> Iterator[float]:
    """Seconds that ``count`` pictures take with the sampler and guidance of a run, decoded; ``times`` times."""
    config = read_json(directory / CONFIG)
    compute = choose(config["device"], config["precision"], config["threads"])
    model, offered = load(directory, compute.device), build_data(config).prompts(count)
    fields: dict[str, Any] = {name: offered[name] for name in model.conditioners.needs}
    for _ in range(times):
        began = time.perf_counter()
        with compute.autocast():
            model.sample(fields, count=count, batch_size=config["samples"]["batch_size"])
        yield time.perf_counter() - began


def print_row(cells: Sequence[str]) -> None:
    """Print one row of a table in Markdown."""
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

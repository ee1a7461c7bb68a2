"""What samplers make of few evaluations of a trained denoiser.

    python benchmarks/samplers.py outputs/runs/<id> --evaluations 5 10 20 50 --count 256
    python benchmarks/samplers.py outputs/runs/<id> --samplers ddim unipc --spacings trailing karras uniform-log-snr

Prints a table in Markdown: for every sampler and number of evaluations, the share of pictures that obey their prompt by
the data's own verifier, in percent; behind it, for samplers that follow the ODE, how far their pictures are from its
exact solution: root mean square over pixels in [-1, 1], the exact solution being 200 steps of unipc. Prompts are the
held-out ones of the run and seeds 0, 1, ..., the same for all. Steps are as many as the evaluations allow; the spacing
is the sampler's own where none is named.
"""

from __future__ import annotations

import argparse
import sys
import time

from torch import Tensor

from ldmkit import compose, load
from ldmkit.artifacts.checkpoint import read_json
from ldmkit.models import CONFIG, build_data, build_part, find_checkpoint
from ldmkit.protocols import DataSource, Sampler
from ldmkit.registry.discovery import registry
from ldmkit.training.device import choose
from ldmkit.values import Fields, to_uint8

EXACT_STEPS = 200


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a finished run: its directory or id")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[5, 10, 20, 50])
    options = sorted(option for kind, option, _ in registry().options() if kind == "sampler")
    fixed = [option for option in options if option not in {"ode", "euler", "euler-a"}]  # the last two are ddim
    parser.add_argument("--samplers", nargs="+", default=fixed, choices=options)
    parser.add_argument("--spacings", nargs="+", default=[""])
    parser.add_argument("--count", type=int, default=256, help="pictures for each number")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    compute = choose(asked.device, "auto", 0)
    model = load(asked.run, compute.device)
    data = build_data(read_json(find_checkpoint(asked.run) / CONFIG))
    offered = data.prompts(asked.count)
    fields = {name: offered[name] for name in model.conditioners.needs}

    def drawn(option: str, spacing: str, steps: int) -> Tensor:
        model.sampler = part(option, spacing)
        with compute.autocast():
            return model.sample(fields, count=asked.count, steps=steps, batch_size=asked.batch_size).cpu()

    exact = drawn("unipc", "trailing", EXACT_STEPS)
    print(f"exact solution: {obeying(data, exact, fields)} of {asked.count} pictures obey", flush=True)
    print("|".join(["", " sampler ", " spacing ", *(f" {number} " for number in asked.evaluations), ""]))
    print("|".join(["", *["---"] * (2 + len(asked.evaluations)), ""]))
    for option in asked.samplers:
        for spacing in asked.spacings:
            cells = []
            for budget in asked.evaluations:
                steps = affordable(part(option, spacing), budget)
                began = time.perf_counter()
                pictures = drawn(option, spacing, steps) if steps else None
                cells.append(cell(data, pictures, exact, fields, follows=part(option, spacing).order is not None))
                print(f"{option} {spacing} {budget}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
            print(
                "|".join(
                    ["", f" `{option}` ", f" {part(option, spacing).spacing} ", *(f" {each} " for each in cells), ""]
                ),
                flush=True,
            )


def part(option: str, spacing: str) -> Sampler:
    """The sampler of an option file, with its own spacing where none is named."""
    overrides = [f"sampler={option}", *([f"sampler.spacing={spacing}"] if spacing else [])]
    built: Sampler = build_part("sampler", compose(overrides)["sampler"])
    return built


def affordable(sampler: Sampler, budget: int) -> int:
    """The most steps of at most ``budget`` evaluations; of a sampler that makes as many as it needs, that many."""
    return max((n for n in range(1, budget + 1) if (sampler.evaluations(n) or n) <= budget), default=0)


def obeying(data: DataSource, pictures: Tensor, fields: Fields) -> str:
    """Percentage of pictures that obey their prompt, where the data can tell."""
    verdict = data.verify(to_uint8(pictures), fields)
    return "?" if verdict is None else f"{100 * float(verdict['all'].float().mean()):.1f} %"


def cell(data: DataSource, pictures: Tensor | None, exact: Tensor, fields: Fields, follows: bool) -> str:
    """What a cell of the table says."""
    if pictures is None:
        return ""
    distance = f", {float((pictures - exact).square().mean().sqrt()):.3f}" if follows else ""
    return obeying(data, pictures, fields) + distance


if __name__ == "__main__":
    main()

"""Memory and speed of reading random rows from a cache of latents that is larger than memory should ever hold.

    python benchmarks/latent_rows.py --gib 2 --batches 2000

Writes a synthetic cache (posteriors of 4 x 32 x 32, mean and std, in fp32) of that size into a temporary directory,
then reads batches of random rows from it, in a process of its own for each way: as training does, row by row, and for
comparison from tensors that are mapped into memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPE = (4, 32, 32)
BATCH = 32


def main() -> None:
    """Print a table: way, milliseconds per batch of 32, and MiB that reading added to the process's resident set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2.0, help="size of the cache")
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(measure(asked.directory, asked.way, asked.batches)))
        return
    with tempfile.TemporaryDirectory() as directory:
        images = write(Path(directory), asked.gib)
        print(f"{images} images, {asked.gib:g} GiB, {asked.batches} batches of {BATCH}")
        print(f"{'way':7} {'ms/batch':>9} {'added MiB':>10}")
        for way in ("rows", "mapped"):
            command = [sys.executable, __file__, "--way", way, "--directory", directory]
            command += ["--batches", str(asked.batches)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(f"{way:7} {found['ms']:9.2f} {found['added']:10.1f}", flush=True)


def write(directory: Path, gib: float) -> int:
    """Write the cache and return how many images it has."""
    import torch

    from ldmkit.artifacts.checkpoint import write_json
    from ldmkit.diffusion.statistics import LatentStatistics
    from ldmkit.models import STATISTICS
    from ldmkit.stages.latents import Footprint, _write
    from ldmkit.values import Posterior

    images = Footprint(1, SHAPE, True, torch.float32)
    batches = round(gib * 2**30 / images.row_bytes / 64)
    posteriors = (Posterior(torch.randn(64, *SHAPE), torch.rand(64, *SHAPE)) for _ in range(batches))
    statistics = LatentStatistics.measure(_write(posteriors, directory, images), "benchmark")
    write_json(directory / STATISTICS, statistics.as_json())
    return statistics.count


def measure(directory: Path, way: str, batches: int) -> dict[str, float]:
    """Milliseconds of a batch, and MiB that all of them added to this process."""
    import torch

    from ldmkit.artifacts.checkpoint import read_tensors
    from ldmkit.artifacts.random import permutation
    from ldmkit.stages.latents import Latents

    latents = Latents(directory)
    order = permutation(batches * BATCH, "rows") % len(latents)
    mapped = [read_tensors(path) for path in sorted(directory.glob("*.safetensors"))] if way == "mapped" else []
    size = len(mapped[0]["mean"]) if mapped else 0
    before, began = resident(), time.perf_counter()
    for batch in range(batches):
        indices = [int(index) for index in order[batch * BATCH : (batch + 1) * BATCH]]
        if mapped:
            for name in ("mean", "std"):
                torch.stack([mapped[index // size][name][index % size] for index in indices])
        else:
            latents.posterior(indices, torch.device("cpu"))
    return {"ms": 1000 * (time.perf_counter() - began) / batches, "added": resident() - before}


def resident() -> float:
    """MiB that this process has in memory now, pages of mapped files among them."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 2**10


if __name__ == "__main__":
    main()

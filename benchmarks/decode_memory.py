"""Peak memory and seconds of decoding pictures of several sizes, whole and in tiles, each in a process of its own.

    python benchmarks/decode_memory.py                                   kl-f8 at scale=paper, 512 to 2048 pixels
    python benchmarks/decode_memory.py model=kl-f4 scale=base --sizes 1024 --encode

Weights are those that the network begins with. Peak is the largest resident set less what it was before the call, with
model and input in memory: what decoding needs, result included (Linux only). Where a whole picture does not fit into
memory, its line says so. With ``--compare`` the tiles are held against the whole picture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch is imported in the children only
    from ldmkit.protocols import FirstStage

WAYS = ("whole", "tiles")


def main() -> None:
    """Print a table: size, way, seconds, and GiB beside model and input; of the latter the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", default=["model=kl-f8", "scale=paper"], help="of the run")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048], metavar="PIXELS")
    parser.add_argument("--tile", type=int, default=512, metavar="PIXELS")
    parser.add_argument("--whole-up-to", type=int, default=1024, metavar="PIXELS", help="larger ones only in tiles")
    parser.add_argument("--encode", action="store_true", help="encode instead of decode")
    parser.add_argument("--compare", action="store_true", help="tiles against whole, instead of memory")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_intermixed_args()
    if asked.one:
        print(json.dumps(measure(asked.overrides, asked.sizes[0], asked.tile, asked.encode, asked.one)))
        return
    if asked.compare:
        for size in asked.sizes:
            compare(asked.overrides, size, asked.tile)
        return
    print(f"{'pixels':>6} {'way':6} {'seconds':>8} {'GiB':>6} {'result':>7}")
    for size in asked.sizes:
        for way in WAYS if size <= asked.whole_up_to else WAYS[1:]:
            one = ["--one", way, "--sizes", str(size), "--tile", str(asked.tile), *["--encode"] * asked.encode]
            done = subprocess.run(
                [sys.executable, __file__, *asked.overrides, *one], capture_output=True, text=True, check=False
            )
            if done.returncode:
                print(f"{size:6} {way:6} failed: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{size:6} {way:6} {found['seconds']:8.1f} {found['peak']:6.2f} {found['result']:7.3f}", flush=True)


def first_stage(overrides: list[str]) -> FirstStage:
    import torch

    import ldmkit
    from ldmkit.models import build_part

    torch.manual_seed(0)
    stage: FirstStage = build_part("model", ldmkit.compose(overrides)["model"], channels=3)
    return stage.eval().requires_grad_(False)


def measure(overrides: list[str], size: int, tile: int, encode: bool, way: str) -> dict[str, float]:
    """Seconds and GiB of one picture, in this process."""
    import torch

    from ldmkit.diffusion.tiling import Tiling

    stage = first_stage(overrides)
    side = size if encode else size // stage.spec.factor
    values = torch.randn(1, 3 if encode else stage.spec.channels, side, side)
    tiling = Tiling(tile=tile if way == "tiles" else 10**6)
    call = tiling.encode if encode else tiling.decode
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak is counted anew
    before = memory("VmRSS")
    began = time.perf_counter()
    result = call(stage, values)
    seconds = time.perf_counter() - began
    numbers = result.mean.numel() * 2 if encode else result.numel()
    return {"seconds": seconds, "peak": memory("VmHWM") - before, "result": numbers * 4 / 2**30}


def compare(overrides: list[str], size: int, tile: int) -> None:
    """Print how far tiles are from the whole, for latents of smooth waves and for noise."""
    import torch

    from ldmkit.diffusion.tiling import Tiling

    stage = first_stage(overrides)
    side = size // stage.spec.factor
    down, across = torch.meshgrid(torch.arange(side) / side, torch.arange(side) / side, indexing="ij")
    waves = [torch.sin(3 * down + index) * torch.cos(4 * across - index) for index in range(stage.spec.channels)]
    noise = torch.randn(1, stage.spec.channels, side, side, generator=torch.Generator().manual_seed(1))
    for name, latents in (("waves", torch.stack(waves)[None]), ("noise", noise)):
        with torch.no_grad():
            whole, tiled = stage.decode(latents), Tiling(tile=tile).decode(stage, latents)
        apart = (tiled - whole).abs()
        print(
            f"{size:6} {name}: std of the whole {whole.std():.4f}; apart at most {apart.max():.2e}, "
            f"on average {apart.mean():.2e}; reach {stage.reach}",
            flush=True,
        )


def memory(name: str) -> float:
    """GiB of this process: VmRSS is what it has in memory now, VmHWM what it had at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**20


if __name__ == "__main__":
    main()

"""How long the command line takes to begin with many plugins installed.

    python benchmarks/many_plugins.py --plugins 0 50 --repeats 9

Makes up packages of one part each, with metadata and an option file, in a passing folder, and times verbs in processes
of their own, in turn. Prints a table in Markdown: median and least of wall time and of CPU time, in milliseconds.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VERBS = (["--help"], ["plugins"], ["ls", "cond"], ["run", "--cfg", "job"])
MODULE = """
from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl

@hookimpl
def components():
    return [Component("cond", "{name}", "{package}.part:Part", "made up")]
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plugins", type=int, nargs="+", default=[0, 50], help="how many are made up")
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    print("| plugins made up | ldmkit | wall, median | wall, least | CPU, median | CPU, least |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        sites = {count: make(Path(folder, str(count)), count) for count in asked.plugins}
        measured = {(count, *verb): [] for count in sites for verb in VERBS}
        for _ in range(asked.repeats):
            for count, site in sites.items():
                for verb in VERBS:
                    measured[count, *verb].append(timed(site, verb))
    for (count, *verb), pairs in measured.items():
        cells = [f(pair[i] for pair in pairs) for i in range(2) for f in (statistics.median, min)]
        print(f"| {count} | {' '.join(verb)} | {' | '.join(f'{1000 * cell:.0f}' for cell in cells)} |")


def make(site: Path, count: int) -> Path:
    """Install ``count`` packages in the folder ``site``."""
    site.mkdir()
    for number in range(count):
        name = f"made-up-{number}"
        package = name.replace("-", "_")
        (site / package / "conf" / "cond").mkdir(parents=True)
        (site / package / "__init__.py").write_text(MODULE.format(name=name, package=package))
        (site / package / "conf" / "cond" / f"{name}.yaml").write_text(f"# @package cond.{name}\nname: {name} # It\n")
        info = site / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: ldmkit>=0.1,<0.2\n"
        )
        (info / "entry_points.txt").write_text(f"[ldmkit]\n{name} = {package}\n")
    return site


def timed(site: Path, verb: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-P", "-m", "ldmkit", *verb],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()

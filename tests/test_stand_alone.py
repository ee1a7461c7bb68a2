"""Each folder of plugins/ is a package of its own: it needs the kernel, and no other folder.

Nothing is installed for it: each gets the metadata of a distribution, on a path of its own. The interpreter starts
without ``site``, so that an editable install puts nothing on the path; the entry points of ldmkit itself are disabled,
and other folders cannot be imported from anywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENTRIES: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["ldmkit"]
"""Our plugins: the import package by the name of the entry point."""

NOT_NAMED = ("hf_text",)
"""Plugins of which the main job names no part."""

START = """
import sys
absent = set({absent})

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)

sys.meta_path.insert(0, Absent())
sys.path[:0] = {there}
sys.path.append({dependencies!r})
"""

EXAMINE = """
import os
import ldmkit.testing  # and torch with it, once for all
from ldmkit.examiner import main

for name, (package, site, distribution) in {plugins}.items():
    process = os.fork()
    if process == 0:
        absent |= {packages} - {{package}}
        sys.path.insert(0, site)
        main("parts", site + "/found.jsonl", distribution, name)
        os._exit(0)
    os.waitpid(process, 0)
"""


def python(program: str, cwd: Path, there: Collection[Path], absent: Collection[str] = ()) -> None:
    """Run ``program`` where dependencies and what is ``there`` can be imported, but nothing ``absent``."""
    begin = START.format(
        absent=list(absent), there=[str(path) for path in there], dependencies=sysconfig.get_path("purelib")
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LDMKIT"))}
    environment |= {"LDMKIT_DISABLE": "ldmkit", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-S", "-P", "-c", begin + program]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def distribution(name: str) -> str:
    """What the package of one of our plugins would be called."""
    return f"ldmkit-{name.replace('_', '-')}"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path with the kernel alone."""
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "ldmkit").symlink_to(ROOT / "ldmkit")
    return folder


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each of our plugins, a path with it alone, as a distribution of its own."""
    made = {}
    for name, package in ENTRIES.items():
        made[name] = tmp_path_factory.mktemp(name)
        (made[name] / package).symlink_to(ROOT / "plugins" / package)
        info = made[name] / f"{package}-1.0.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {distribution(name)}", "Version: 1.0", "Requires-Dist: ldmkit"]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "entry_points.txt").write_text(f"[ldmkit]\n{name} = {package}\n")
    return made


@pytest.fixture(scope="module")
def found(kernel: Path, sites: dict[str, Path]) -> dict[str, list[dict[str, Any]]]:
    """What the process of `ldmkit plugins check` notes of each of our plugins, while the others are absent."""
    plugins = {name: (ENTRIES[name], str(site), distribution(name)) for name, site in sites.items()}
    python(EXAMINE.format(plugins=plugins, packages=set(ENTRIES.values())), kernel, [kernel])
    return {
        name: [json.loads(line) for line in (site / "found.jsonl").read_text().splitlines()]
        for name, site in sites.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRIES)
def test_every_part_and_option_of_a_folder_is_sound_without_the_other_folders(
    name: str, found: dict[str, list[dict[str, Any]]]
) -> None:
    assert [row["fault"] for row in found[name] if "fault" in row] == []
    counts = found[name][-1]["found"]
    options = list((ROOT / "plugins" / ENTRIES[name] / "conf").rglob("*.yaml"))
    assert (counts["parts"] > 0, counts["options"]) == (True, len(options))


@pytest.mark.slow
def test_a_run_needs_only_the_packages_whose_parts_it_names(
    kernel: Path, sites: dict[str, Path], tmp_path: Path
) -> None:
    named = [name for name in ENTRIES if name not in NOT_NAMED]
    main = "from ldmkit.cli import main\nsys.exit(main(['run', 'scale=smoke']))"
    python(main, tmp_path, [kernel, *(sites[name] for name in named)], [ENTRIES[name] for name in NOT_NAMED])
    (directory,) = tmp_path.glob("outputs/runs/*")
    assert (directory / "report.html").is_file()
    versions = json.loads((directory / "run.json").read_text())["versions"]
    assert {package for package in versions if package.startswith("ldmkit-")} == {distribution(name) for name in named}

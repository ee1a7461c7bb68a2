"""docs/plugins.md, followed literally: its commands in an empty folder, and what it says is in the files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from ldmkit import new

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "plugins.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of ``language``."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A virtual environment's folder of commands; what our tests run in is installed in it, and no index is asked."""
    place = tmp_path / "venv"
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    (site,) = place.glob("lib/python*/site-packages")
    (site / "installed.pth").write_text("\n".join(path for path in sys.path if Path(path).is_dir() and path))
    offline = '[ "$1" = install ] && shift && set -- install --no-index --no-build-isolation "$@"\n'
    for name, first in {"pip": offline, "pytest": "", "ldmkit": ""}.items():
        script = place / "bin" / name
        script.write_text(f'#!/bin/sh\n{first}exec "{python}" -m {name} "$@"\n')
        script.chmod(0o755)
    return place / "bin"


def test_the_tutorial_has_commands_and_marks_those_that_publish() -> None:
    marked = [line.split()[0] for line in COMMANDS if "# not run by the tests" in line]
    assert len(COMMANDS) >= 12
    assert marked == ["pip", "twine"]


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs_in_an_empty_folder(scripts: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LDMKIT", "PIP"))
    }
    environment |= {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    said = {}
    for line in COMMANDS:
        if "# not run by the tests" not in line:
            words = ["/bin/sh", "-c", line]
            done = subprocess.run(words, cwd=empty, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            said[line] = done.stdout
    assert re.search(r"^palette +ldmkit-palette +0.1.0 +ok +cond/palette$", said["ldmkit plugins"], re.MULTILINE)
    assert re.search(r"width: 16", said["ldmkit run cond=palette cond.palette.width=16 --cfg job"])
    assert "cond/palette" in said["ldmkit plugins info palette"]
    (run,) = empty.glob("outputs/runs/*")
    assert (run / "report.html").is_file()


def test_the_files_that_it_shows_are_those_that_are_made(tmp_path: Path) -> None:
    new.main(["cond", "palette", "--dir", str(tmp_path)])
    folder = tmp_path / "ldmkit-palette"
    tree = re.findall(r"^      (\S+)", DOCUMENT, re.MULTILINE)
    assert sorted(tree) == sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert (folder / "ldmkit_palette" / "__init__.py").read_text() in blocks("python")
    assert (folder / "ldmkit_palette" / "conf" / "cond" / "palette.yaml").read_text() in blocks("yaml")
    assert (folder / "pyproject.toml").read_text().endswith(blocks("toml")[0])

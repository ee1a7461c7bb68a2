"""A package that somebody else wrote: built by its own backend, installed beside ldmkit, and used without a fork."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "ldmkit_palette"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed by pip, from a copy so that nothing is built in the checkout."""
    folder = tmp_path_factory.mktemp("third_party")
    copy = shutil.copytree(SOURCE, folder / "source")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", folder / "site", copy], check=True, capture_output=True)
    return folder / "site"


def run(site: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_listed_with_its_distribution_and_version(site: Path) -> None:
    done = run(site, "-m", "ldmkit", "plugins", "--json")
    assert done.returncode == 0
    (row,) = [row for row in json.loads(done.stdout)["plugins"] if row["distribution"] == "ldmkit-palette"]
    assert (row["name"], row["version"], row["status"]) == ("palette", "0.3.0", "ok")
    assert row["components"] == ["cond/palette"]


def test_its_option_is_listed_and_explained(site: Path) -> None:
    (conditioners,) = re.findall(r"^cond: (.*)$", run(site, "-m", "ldmkit", "run", "--help").stdout, re.MULTILINE)
    assert conditioners == ("class, hf-text, image, inpaint, layout, low-res, palette, scalar, semantic, size, text")
    page = run(site, "-m", "ldmkit", "show", "cond", "palette").stdout
    assert page.startswith(
        "cond=palette: The colours that a caption names, in whatever order.\nfrom ldmkit-palette (palette) 0.3.0, "
    )
    assert "width: 32 # of the vector" in page


def test_its_config_is_checked_like_ours(site: Path) -> None:
    done = run(site, "-m", "ldmkit", "run", "cond=palette", "cond.palette.widht=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ldmkit: cond 'palette' has no key 'widht'; did you mean 'width'? There is: ")


def test_it_conditions_a_model_beside_one_of_ours(site: Path) -> None:
    code = """
import ldmkit
model = ldmkit.build(ldmkit.compose(["scale=smoke", "cond=[class,palette]", "cond.palette.width=7"]))
part = model.conditioners.parts["palette"]
conditioning = part({"caption": ["a red circle", "red on blue"]}, (4, 4))
print(tuple(conditioning.vector.shape), model.conditioners.spec.vector, model.conditioners.spec.tokens > 0)
print(bool((part.null(2, (4, 4)).vector == part({"caption": ["", "a circle"]}, (4, 4)).vector).all()))
"""
    done = run(site, "-c", code)
    assert done.stderr == ""
    assert done.stdout == "(2, 7) 7 True\nTrue\n"


def test_without_it_its_option_is_not_there(site: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "ldmkit", "run", "cond=palette")
    assert done.returncode == 2
    assert done.stderr.startswith("ldmkit: cond has no option 'palette'")


@pytest.mark.slow
def test_the_main_job_runs_with_it(site: Path, tmp_path: Path) -> None:
    done = run(site, "-m", "ldmkit", "run", "scale=smoke", "cond=[text,palette]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (directory,) = (tmp_path / "outputs" / "runs").iterdir()
    assert (directory / "report.html").is_file()
    assert json.loads((directory / "run.json").read_text())["versions"]["ldmkit-palette"] == "0.3.0"

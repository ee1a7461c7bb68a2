"""What users install: the wheel works from another folder, alone and with somebody else's package beside it.

The wheel goes into a virtual environment of its own. Its dependencies are those of the environment that runs the tests,
put on the path behind it, so that nothing has to be downloaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PALETTE = ROOT / "tests" / "third_party" / "ldmkit_palette"
PACKAGES = {"ldmkit"} | {path.name for path in (ROOT / "plugins").glob("ldmkit_*")}

pytestmark = pytest.mark.slow


def call(*command: str | Path, cwd: Path) -> str:
    """Run ``command`` in ``cwd`` with no path of the checkout in its environment, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LDMKIT"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from the sdist."""
    directory = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT, cwd=directory)
    return directory


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new virtual environment with the wheel and the third-party package installed."""
    place = tmp_path_factory.mktemp("venv")
    venv.create(place, with_pip=True)
    interpreter = place / "bin" / "python"
    (wheel,) = dist.glob("*.whl")
    call(interpreter, "-m", "pip", "install", "--no-deps", wheel, cwd=place)
    site = Path(call(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    built = place / "palette"
    call(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", built, PALETTE, cwd=place)
    call(interpreter, "-m", "pip", "install", "--no-deps", "--force-reinstall", *built.glob("*.whl"), cwd=place)
    return interpreter


def test_the_wheel_holds_the_packages_their_configs_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == PACKAGES
    assert {"ldmkit/py.typed", "ldmkit/conf/config.yaml", "ldmkit/conf/scale/demo.yaml"} <= set(names)
    assert {"ldmkit/templates/pyproject.toml.txt", "ldmkit/templates/part/cond.py.txt"} <= set(names)
    assert {"ldmkit_first_stages/conf/model/kl-f8.yaml", "ldmkit_tasks/report.html.jinja"} <= set(names)
    assert not [name for name in names if "tests/" in name or "__pycache__" in name]


def test_the_sdist_holds_what_the_tests_need(dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"tests/test_install.py", "plugins/ldmkit_samplers/ddim.py", "conf/config.yaml", "LICENSE"} <= names


def test_the_installed_command_runs_the_main_job_from_another_folder(python: Path, tmp_path: Path) -> None:
    where = call(
        python, "-c", "import ldmkit, ldmkit_tasks; print(ldmkit.__file__, ldmkit_tasks.__file__)", cwd=tmp_path
    )
    assert all(str(python.parents[1]) in path for path in where.split())
    call(python.parent / "ldmkit", "run", "scale=smoke", "cond=text", cwd=tmp_path)
    (run,) = tmp_path.glob("outputs/runs/*")
    assert (run / "report.html").is_file()
    call(python.parent / "ldmkit", "sample", run, "a small red circle", "--steps", "2", cwd=tmp_path)
    assert (tmp_path / "samples" / "00000.png").is_file()


def test_somebody_elses_conditioner_plugs_in_by_pip_install(python: Path, tmp_path: Path) -> None:
    listed = json.loads(call(python.parent / "ldmkit", "plugins", "--json", cwd=tmp_path))
    (palette,) = [plugin for plugin in listed["plugins"] if plugin["distribution"] == "ldmkit-palette"]
    assert (palette["status"], palette["components"]) == ("ok", ["cond/palette"])
    assert "palette" in call(python.parent / "ldmkit", "ls", "cond", cwd=tmp_path)
    for cond in ("palette", "[text,palette]"):
        call(python.parent / "ldmkit", "run", "scale=smoke", f"cond={cond}", "outputs=out", cwd=tmp_path)
    runs = sorted((tmp_path / "out" / "runs").iterdir())
    assert json.loads((runs[1] / "metrics.json").read_text())["reused"] == ["first-stage", "latents"]

"""`ldmkit new` makes packages that install, are listed, pass the kit and run as they are: one of every kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ldmkit import new
from ldmkit.errors import ConfigError
from ldmkit.registry.components import KINDS, MULTIPLE

NAMES = {
    "model": "patches",
    "loss": "squared",
    "cond": "palette",
    "denoiser": "mixer",
    "objective": "clean",
    "guidance": "extrapolate",
    "sampler": "first-order",
    "data": "squares",
    "metric": "mean_error",
    "logger": "diary",
    "task": "look",
}
"""A part of every kind, with names of every form."""


def run(site: Path, *words: str, cwd: Path, **environment: str) -> str:
    """What `python *words` prints beside what is installed in ``site``."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-P", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a new package of every kind."""
    folder = tmp_path_factory.mktemp("packages")
    for kind, name in NAMES.items():
        assert new.main([kind, name, "--dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def site(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which pip has installed all of them."""
    folder = tmp_path_factory.mktemp("site")
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", folder]
    run(folder, *map(str, words), *map(str, sorted(packages.glob("ldmkit-*"))), cwd=packages)
    return folder


def test_there_is_a_package_for_every_kind() -> None:
    assert set(NAMES) == set(KINDS)


def test_a_package_is_one_module_one_option_one_test_and_a_readme(packages: Path) -> None:
    folder = packages / "ldmkit-palette"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "README.md",
        "ldmkit_palette/__init__.py",
        "ldmkit_palette/conf/cond/palette.yaml",
        "pyproject.toml",
        "tests/test_palette.py",
    ]


def test_the_test_is_the_suite_and_the_name_and_nothing_else(packages: Path) -> None:
    text = (packages / "ldmkit-first-order" / "tests" / "test_first_order.py").read_text()
    imported, _, suite = text.partition("\n\n\n")
    assert imported == "from ldmkit.testing import SamplerSuite"
    assert suite == 'class TestFirstOrder(SamplerSuite):\n    component = "first-order"\n'


def test_it_asks_for_the_versions_of_ldmkit_that_keep_their_promise(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((packages / "ldmkit-palette" / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == ["ldmkit>=0.1,<0.2"]
    monkeypatch.setattr(new, "version", lambda name: "2.13.1")
    assert new.placeholders("cond", "palette")["range"] == ">=2.13,<3"


def test_the_readme_explains_the_protocol_and_the_files(packages: Path) -> None:
    for kind, name in NAMES.items():
        package = f"ldmkit-{name.replace('_', '-')}"
        text = (packages / package / "README.md").read_text()
        assert f"ldmkit run {kind}={name} scale=smoke" in text
        assert f"pip install {package}\n" in text
        for path in re.findall(r"^\| `([\w./-]+)` \|", text, re.MULTILINE):
            assert (packages / package / path).is_file()
    text = (packages / "ldmkit-palette" / "README.md").read_text()
    assert "built as `Palette(config, data=...)`" in text
    assert "`null(batch: int, latent_size: tuple[int, int]) -> Conditioning`: Conditioning that says nothing" in text


def test_nothing_is_left_to_fill_in_and_the_style_is_ruffs(packages: Path) -> None:
    texts = {path: path.read_text() for path in packages.rglob("*") if path.is_file()}
    assert [str(path) for path, text in texts.items() if re.search(r"\$\w|TODO", text)] == []
    ruff = ["-m", "ruff"]
    rules = ["--isolated", "--line-length", "120"]
    run(packages, *ruff, "check", *rules, "--select", "E,F,W,I,N,B,UP,C4,SIM,RET", ".", cwd=packages)
    run(packages, *ruff, "format", *rules, "--check", ".", cwd=packages)


def test_it_says_what_to_type_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new.main(["logger", "diary", "--dir", str(tmp_path / "not there yet")])
    said = capsys.readouterr().out
    place = f"'{tmp_path}/not there yet/ldmkit-diary'"
    assert f"\n  pip install -e {place}" in said
    assert f"\n  pytest {place}" in said
    assert "\n  ldmkit run logger=diary scale=smoke " in said


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["conds", "palette"], "there is no kind of part 'conds'; did you mean 'cond'"),
        (["cond", "Palette"], "'Palette' cannot be the name of a part; take small letters, digits and hyphens"),
        (["cond", "2nd"], "'2nd' cannot be the name of a part"),
        (["cond", "a b"], "'a b' cannot be the name of a part"),
        (["cond", "../up"], "'../up' cannot be the name of a part"),
        (["cond", "none"], "'none' cannot be the name of a part"),
        (["cond", "conditioner"], "'conditioner' would make a class Conditioner, which ldmkit has"),
        (["cond", "text"], r"there is a cond 'text' already, of ldmkit \(conditioners\); choose another name"),
        (["model", "kl-f8"], r"there is a model 'kl-f8' already, of ldmkit \(first_stages\)"),
        (["data", "data"], "there is a package ldmkit_data already"),
        (["cond"], "new: the following arguments are required: name"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_nothing_is_written(words: list[str], error: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=error):
        new.main([*words, "--dir", str(tmp_path / "place")])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ldmkit-palette").mkdir()
    with pytest.raises(ConfigError, match="is there already, and stays as it is"):
        new.main(["cond", "palette", "--dir", str(tmp_path)])
    assert list((tmp_path / "ldmkit-palette").iterdir()) == []


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*: Not a directory"):
        new.main(["cond", "palette", "--dir", str(tmp_path / "file")])


@pytest.mark.slow
def test_installed_it_is_listed_and_explained_without_importing_it(site: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from ldmkit.cli import main; main(['plugins', '--json']); main(['show', 'cond', 'palette'])\n"
        "assert not {'torch', 'hydra', 'ldmkit_palette'} & set(sys.modules)"
    )
    said = run(site, "-c", code, cwd=tmp_path)
    listed, _, shown = said.partition("\n}\n")
    rows = {row["distribution"]: row for row in json.loads(listed + "}")["plugins"]}
    for kind, name in NAMES.items():
        row = rows[f"ldmkit-{name.replace('_', '-')}"]
        assert (row["version"], row["status"], row["components"]) == ("0.1.0", "ok", [f"{kind}/{name}"])
    head, origin, *_ = shown.splitlines()
    assert head == "cond=palette: Words that a caption holds, in whatever order."
    assert origin.startswith("from ldmkit-palette (palette) 0.1.0, ")


@pytest.mark.slow
def test_its_tests_pass_as_they_are(packages: Path, site: Path, tmp_path: Path) -> None:
    said = run(site, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(packages), cwd=tmp_path)
    assert int(re.search(r"(\d+) passed", said)[1]) >= 10 * len(NAMES)


@pytest.mark.slow
def test_each_goes_with_all_parts_of_ours(site: Path, tmp_path: Path) -> None:
    choices = [f"{kind}=[{name}]" if kind in MULTIPLE else f"{kind}={name}" for kind, name in NAMES.items()]
    code = f"import ldmkit\nfor choice in {choices}:\n    config = ldmkit.compose(['scale=smoke', choice])\n"
    run(site, "-c", code + "    ldmkit.check(config)\n    ldmkit.build(config)", cwd=tmp_path)


@pytest.mark.slow
def test_a_run_with_the_new_conditioner(site: Path, tmp_path: Path) -> None:
    run(site, "-m", "ldmkit", "run", "cond=palette", "scale=smoke", cwd=tmp_path)
    (directory,) = tmp_path.glob("outputs/runs/*")
    assert (directory / "report.html").is_file()
    assert json.loads((directory / "run.json").read_text())["versions"]["ldmkit-palette"] == "0.1.0"


@pytest.mark.slow
def test_a_run_without_any_part_of_ours_but_the_task(site: Path, tmp_path: Path) -> None:
    ours = "first_stages,denoisers,conditioners,objectives,guidance,samplers,hf_text,data,metrics,loggers"
    choices = [f"{kind}={name}" for kind, name in NAMES.items() if kind != "task"]
    run(site, "-m", "ldmkit", "run", "scale=smoke", *choices, cwd=tmp_path, LDMKIT_DISABLE=ours)
    (directory,) = tmp_path.glob("outputs/runs/*")
    found = json.loads((directory / "metrics.json").read_text())
    assert 0 < found["first_stage"]["mean_error"] < 0.5
    assert (directory / "diary.txt").read_text().endswith("samples: 0 steps\ndone\n")


@pytest.mark.slow
def test_a_run_of_the_new_task(site: Path, tmp_path: Path) -> None:
    run(site, "-m", "ldmkit", "run", "task=look", "data=squares", "scale=smoke", cwd=tmp_path)
    (directory,) = tmp_path.glob("outputs/runs/*")
    assert len(json.loads((directory / "texts.json").read_text())["caption"]) == 16
    assert (directory / "pictures.png").is_file()

"""A run with somebody else's parts, and what becomes of it when their package goes, changes, or is another's."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import ldmkit
from ldmkit.artifacts.checkpoint import commit, link_all, write_json
from ldmkit.errors import CheckpointError, ConfigError
from ldmkit.models import load_first_stage
from ldmkit.registry import source
from ldmkit.registry.discovery import registry
from ldmkit.run import job

MODULE = """
from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl

@hookimpl
def components():
    return [
        Component("cond", "length", "{package}.part:Length", "length of the caption"),
        Component("logger", "mute", "{package}.mute:Mute", "says nothing"),
    ]
"""
PART = """
from dataclasses import dataclass
import torch
from ldmkit.protocols import Conditioner
from ldmkit.specs import CondSpec
from ldmkit.values import Conditioning

class Length(Conditioner):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config, *, data):
        super().__init__()
        self.needs, self.spec, self.dropout = {"caption": "text"}, CondSpec(vector=1), 0.0

    def forward(self, fields, latent_size):
        return Conditioning(vector=torch.tensor([[len(text) / 100.0] for text in fields["caption"]]))

    def null(self, batch, latent_size):
        return Conditioning(vector=torch.zeros(batch, 1))
"""
MUTE = """
from dataclasses import dataclass
from ldmkit.registry.hooks import hookimpl

class Mute:
    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config):
        pass

    @hookimpl
    def on_end(self):
        pass
"""


class Site:
    """A folder of installed packages that a test can change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, distribution: str, version: str = "0.1.0", part: str = PART, package: str = "") -> None:
        package = package or distribution.replace("-", "_")
        for path, text in {
            "__init__.py": MODULE.format(package=package),
            "part.py": part,
            "mute.py": MUTE,
            "conf/cond/length.yaml": "# @package cond.length\nname: length # its length\n",
            "conf/logger/mute.yaml": "# @package logger.mute\nname: mute # it says nothing\n",
        }.items():
            (self.folder / package / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / package / path).write_text(text)
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[ldmkit]\n{distribution.rpartition('-')[2]} = {package}\n")
        self.forget()

    def empty(self) -> None:
        """Uninstall all."""
        for path in self.folder.iterdir():
            shutil.rmtree(path)
        self.forget()

    def forget(self) -> None:
        """Let this process see the packages anew."""
        for name in [name for name in sys.modules if name.partition(".")[0] in ("ldmkit_length", "other_length")]:
            del sys.modules[name]
        registry.cache_clear()
        source.code_digest.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The folder of packages on the path, empty."""
    monkeypatch.syspath_prepend(folder)
    found = Site(folder)
    found.empty()
    yield found
    found.empty()


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run with the parts of ``ldmkit-length`` 0.1.0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(tmp_path_factory.mktemp("place"))
        site = Site(folder)
        site.empty()
        site.install("ldmkit-length")
        words = ["scale=smoke", "cond=length", "logger=mute", "metric=[]", "samples.previews=[]", "samples.count=2"]
        steps = ["train.first_stage.steps=1", "train.denoiser.steps=1", "sampler.steps=2"]
        directory = job(ldmkit.compose([*words, *steps]), [*words, *steps]).absolute()
        site.empty()
    return directory


def test_a_run_and_its_checkpoint_say_where_every_part_is_from(run: Path, site: Site) -> None:
    parts = json.loads((run / "model" / "parts.json").read_text())
    assert parts == json.loads((run / "run.json").read_text())["parts"]
    by_place = {part["where"]: part for part in parts}
    assert by_place.keys() == {
        *("model", "loss", "cond.length", "denoiser", "objective"),
        *("guidance", "sampler", "data", "logger.mute", "task"),
    }
    site.install("ldmkit-length")
    assert by_place["cond.length"] == {
        "where": "cond.length",
        "kind": "cond",
        "name": "length",
        "target": "ldmkit_length.part:Length",
        "plugin": "length",
        "distribution": "ldmkit-length",
        "version": "0.1.0",
        "code": source.code_digest("ldmkit_length.part:Length"),
    }
    assert by_place["denoiser"]["distribution"] == "ldmkit"


def test_with_the_same_package_it_loads_without_a_word(run: Path, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.install("ldmkit-length")
    assert ldmkit.load(run).sample({"caption": ["a circle"]}, steps=1).shape == (1, 3, 32, 32)
    assert caplog.text == ""


def test_without_the_package_the_message_names_what_to_install(run: Path, site: Site) -> None:
    with pytest.raises(CheckpointError) as error:
        ldmkit.load(run)
    assert str(error.value) == (
        f"'{run / 'model'}' needs cond 'length' of ldmkit-length 0.1.0, which is not installed; "
        "if you trust it, type: pip install ldmkit-length==0.1.0"
    )


def test_without_the_package_a_resume_names_it_too(run: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parents[2])
    with pytest.raises(CheckpointError, match=r"run '.*' needs cond 'length' of ldmkit-length 0\.1\.0, which is not"):
        job(ldmkit.compose([f"resume={run.name}"]), [f"resume={run.name}"])


def test_what_does_not_need_the_package_does_without(run: Path, site: Site) -> None:
    first_stage, config, _ = load_first_stage(run)
    assert config["logger"] == {"mute": {"name": "mute"}}
    assert first_stage.encode(torch.zeros(1, 3, 32, 32)).mean.shape[0] == 1


def test_a_logger_that_is_gone_is_not_needed_to_draw(run: Path, site: Site) -> None:
    site.install("ldmkit-length")
    hook = (site.folder / "ldmkit_length" / "__init__.py").read_text()
    (site.folder / "ldmkit_length" / "__init__.py").write_text(hook.replace('"mute"', '"silent"'))
    site.forget()
    assert ldmkit.load(run).conditioners.needs == {"caption": "text"}


@pytest.mark.parametrize("variable", ["LDMKIT_DISABLE", "LDMKIT_PLUGINS"])
def test_a_package_that_is_left_out_is_not_to_be_installed(
    variable: str, run: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "length" if variable == "LDMKIT_DISABLE" else "")
    site.install("ldmkit-length")
    with pytest.raises(
        CheckpointError, match=rf"cond 'length' of ldmkit-length 0\.1\.0, which is disabled by {variable}$"
    ):
        ldmkit.load(run)


def test_a_package_that_fails_to_load_says_why(run: Path, site: Site) -> None:
    site.install("ldmkit-length")
    (site.folder / "ldmkit_length" / "__init__.py").write_text("import no_such_module_anywhere")
    site.forget()
    with pytest.raises(CheckpointError, match=r"which fails to load: ModuleNotFoundError: No module named 'no_such"):
        ldmkit.load(run)


def test_a_version_without_the_part_names_the_one_that_has_it(run: Path, site: Site) -> None:
    site.install("ldmkit-length", "2.0")
    hook = (site.folder / "ldmkit_length" / "__init__.py").read_text()
    (site.folder / "ldmkit_length" / "__init__.py").write_text(hook.replace('"length"', '"extent"'))
    site.forget()
    with pytest.raises(
        CheckpointError,
        match=r"which the installed ldmkit-length 2\.0 does not have; .*pip install ldmkit-length==0\.1\.0",
    ):
        ldmkit.load(run)


CHANGED = PART.replace("100.0", "50.0")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            ("0.2.0", CHANGED),
            r"made with ldmkit-length 0\.1\.0, and this is ldmkit-length 0\.2\.0 \(cond 'length': code \w{8}, now",
        ),
        (("0.2.0", PART), r"made with ldmkit-length 0\.1\.0, and this is .* \(cond 'length': its code is the same\)"),
        (("0.1.0", CHANGED), r"made with other code of ldmkit-length 0\.1\.0 \(cond 'length': code \w{8}, now \w{8}\)"),
    ],
)
def test_a_package_that_has_changed_is_told_and_used(
    changed: tuple[str, str], said: str, run: Path, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.install("ldmkit-length", *changed)
    ldmkit.load(run)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert re.search(said, record.getMessage()), record.getMessage()


def test_comments_in_the_part_are_no_change(run: Path, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.install("ldmkit-length", part=f'"""What it is."""\n{PART}\n# a comment\n')
    ldmkit.load(run)
    assert caplog.text == ""


def test_a_part_of_that_name_from_another_package_is_refused(run: Path, site: Site) -> None:
    site.install("other-length", "9.9")
    with pytest.raises(CheckpointError) as error:
        ldmkit.load(run)
    assert str(error.value) == (
        f"'{run / 'model'}' needs cond 'length' of ldmkit-length 0.1.0, but here that is of other-length 9.9; "
        "if you trust it, type: pip install ldmkit-length==0.1.0 "
        "and leave the other out with LDMKIT_DISABLE=other-length"
    )


def test_a_package_under_a_new_name_is_told_and_used(run: Path, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.install("ldmkit-extent", "1.0", package="ldmkit_length")
    ldmkit.load(run)
    assert "made with ldmkit-length 0.1.0, and this is ldmkit-extent 1.0 (cond 'length': its code" in caplog.text


def test_two_packages_with_the_part_are_told_apart_by_the_user(run: Path, site: Site) -> None:
    site.install("ldmkit-length")
    site.install("other-length", "9.9")
    with pytest.raises(
        ConfigError, match=r"by more than one package: ldmkit-length .* and other-length .*LDMKIT_DISABLE="
    ):
        ldmkit.load(run)


Change = Callable[[list[dict[str, Any]]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts.append("a word"),
        lambda parts: parts.append({"kind": "cond"}),
        lambda parts: parts[0].update(distribution="--index-url=https://example.org x"),
        lambda parts: parts[0].update(version="1 && x"),
        lambda parts: parts[0].update(name="\x1b[2J"),
        lambda parts: parts[0].update(code=3),
    ],
)
def test_what_a_strangers_checkpoint_says_is_checked_before_it_is_shown(
    change: Change, run: Path, site: Site, tmp_path: Path
) -> None:
    site.install("ldmkit-length")
    parts = json.loads((run / "model" / "parts.json").read_text())
    change(parts)

    def write(directory: Path) -> None:
        link_all(run / "model", directory)
        (directory / "parts.json").unlink()
        write_json(directory / "parts.json", parts)

    commit(tmp_path / "model", write)
    with pytest.raises(CheckpointError, match="does not say where its parts are from") as error:
        ldmkit.load(tmp_path / "model")
    assert str(error.value).isprintable()


def test_a_checkpoint_from_before_parts_were_recorded_loads(run: Path, site: Site, tmp_path: Path) -> None:
    site.install("ldmkit-length")

    def write(directory: Path) -> None:
        link_all(run / "model", directory)
        (directory / "parts.json").unlink()

    commit(tmp_path / "model", write)
    assert ldmkit.load(tmp_path / "model").conditioners.needs == {"caption": "text"}

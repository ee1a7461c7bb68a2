"""The conformance kit is itself tested: parts that keep every promise pass, and each broken promise is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml

from ldmkit.registry.components import KINDS
from ldmkit.testing import SUITES, Suite, check, checks
from ldmkit.testing.modules import ModuleSuite
from ldmkit.testing.networks import NetworkSuite
from ldmkit.testing.rows import RowSuite

HERE = Path(__file__).parent
REFERENCE = HERE / "ldmkit_reference"
FILES = {
    path.relative_to(REFERENCE).as_posix(): path.read_text(encoding="utf-8")
    for path in REFERENCE.rglob("*")
    if path.suffix in {".py", ".yaml"}
}
MUTANTS = yaml.safe_load((HERE / "mutants.yaml").read_text(encoding="utf-8"))

CONFIGS: dict[str, Any] = {}
"""Of each kind, what the reference package's option file composes to."""

Provide = Callable[[str, Mapping[str, str]], type[Suite]]


@pytest.fixture
def provide(install: Callable[..., Path]) -> Iterator[Provide]:
    """Return ``provide(kind, files)``: install the reference package with ``files`` for the suite of one kind.

    What a mutant does to the process is undone. A config is composed anew only where an option file is another.
    """

    def provide(kind: str, files: Mapping[str, str]) -> type[Suite]:
        rest = {name: text for name, text in files.items() if name != "__init__.py"}
        install("ldmkit-reference", files["__init__.py"], files=rest)
        suite = reference_suites()[kind]
        if all(files[name] == text for name, text in FILES.items() if name.endswith(".yaml")):
            suite._config = CONFIGS[kind] = CONFIGS.get(kind) or suite.config()
        return suite

    dtype = torch.get_default_dtype()
    with mock.patch.dict(os.environ):
        yield provide
    torch.set_default_dtype(dtype)


def reference_suites() -> dict[str, type[Suite]]:
    """A suite of each kind, for the part of the reference package."""
    return {kind: type("Reference", (suite,), {"component": "reference"}) for kind, suite in SUITES.items()}


def test_parts_that_keep_every_promise_pass(provide: Provide) -> None:
    provide("cond", FILES)
    results = {kind: list(check(suite)) for kind, suite in reference_suites().items()}
    assert [each for found in results.values() for each in found if each[1] == "failed"] == []
    skipped = {each[2] for found in results.values() for each in found if each[1] == "skipped"}
    assert skipped == {
        "all its weights are trained",  # but for the denoiser's
        "it is called once a batch, and the networks many times",  # the conditioner
        "it may hold what is open",  # the logger
        "it asks for the null conditioning",  # the guidance
        "the sampler states no order",  # since it adds fresh noise
    }


@pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{each['kind']} {each['fault']}" for each in MUTANTS])
def test_a_broken_promise_is_caught_by_the_check_that_names_it(mutant: Mapping[str, Any], provide: Provide) -> None:
    before = FILES[mutant["file"]]
    assert before.count(mutant["old"]) == 1
    files = {**FILES, mutant["file"]: before.replace(mutant["old"], mutant["new"])}
    suite = provide(mutant["kind"], files)
    with pytest.raises(Exception, match=re.compile(mutant["says"], re.DOTALL)):
        getattr(suite(), mutant["check"])()


def test_faults_of_every_kind_are_tried() -> None:
    assert {each["kind"] for each in MUTANTS} == set(KINDS)


def test_a_failed_check_is_told_in_one_line_and_the_others_go_on(provide: Provide) -> None:
    part = FILES["tasks.py"].replace("run: Run)", "run: Run, more: int)")
    results = {name: (status, why) for name, status, why in check(provide("task", {**FILES, "tasks.py": part}))}
    failed = {name: why for name, (status, why) in results.items() if status == "failed"}
    assert failed == {"test_it_runs_with_nothing_but_the_run": "expected run(run), got run(run, more)"}
    assert list(results) == checks(SUITES["task"])


def test_the_kit_needs_no_pytest() -> None:
    program = "import sys, ldmkit.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


SHARED = {
    "Every kind": Suite,
    "What turns rows into rows": RowSuite,
    "What has weights": ModuleSuite,
    "Networks": NetworkSuite,
}


@pytest.mark.parametrize("title", SHARED)
def test_the_page_lists_what_several_kinds_promise(title: str) -> None:
    page = (HERE.parents[1] / "docs" / "testing.md").read_text(encoding="utf-8")
    (kinds, lines) = re.findall(rf"^{title}(?: \((.+)\))?:\n\n((?:- .+\n)+)", page, re.MULTILINE)[0]
    names = [name.removeprefix("test_").replace("_", " ") for name in vars(SHARED[title]) if name.startswith("test_")]
    assert lines.splitlines() == [f"- {name}" for name in names]
    expected = [kind for kind, suite in SUITES.items() if issubclass(suite, SHARED[title])]
    assert re.findall("`(.+?)`", kinds) == (expected if title != "Every kind" else [])

"""The digest of a part's code changes with what the code says, and with nothing else."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from ldmkit.registry.discovery import registry
from ldmkit.registry.source import _words, code_digest, package_digest

Install = Callable[..., Path]
Hook = Callable[..., str]
TARGET = "one.part:Part"
FILES = {
    "part.py": "from .layer import Layer\nimport one.scale\n\nclass Part:\n    width = 3\n",
    "layer.py": "class Layer:\n    def size(self):\n        from one import late\n        return late.SIZE\n",
    "scale.py": "from . import inner\n",
    "late.py": "SIZE = 4\n",
    "inner/__init__.py": "from .deep import DEEP\n",
    "inner/deep.py": "DEEP = 5\n",
    "other.py": "class Other: pass\n",
}


@pytest.fixture
def package(install: Install, hook: Hook) -> Path:
    return install("one", hook("one"), files=FILES) / "one"


def digest_after(file: Path, text: str) -> str:
    before = code_digest(TARGET)
    file.write_text(text)
    code_digest.cache_clear()
    after = code_digest(TARGET)
    assert len(after) == len(before) == 64
    return after


@pytest.mark.parametrize("name", ["part.py", "layer.py", "scale.py", "late.py", "inner/__init__.py", "inner/deep.py"])
def test_a_change_in_what_the_part_imports_of_its_package_counts(package: Path, name: str) -> None:
    before = code_digest(TARGET)
    assert digest_after(package / name, FILES[name] + "\nchanged = True\n") != before


def test_another_part_of_the_package_does_not_count(package: Path) -> None:
    before = code_digest(TARGET)
    assert digest_after(package / "other.py", "class Other: changed = True") == before
    text = (package / "__init__.py").read_text()
    assert digest_after(package / "__init__.py", text + "\nANOTHER = 1\n") == before


def test_a_package_that_is_imported_by_name_counts(package: Path) -> None:
    digest_after(package / "part.py", "from one import made_up\n")
    before = code_digest(TARGET)
    text = (package / "__init__.py").read_text()
    assert digest_after(package / "__init__.py", text + "\nmade_up = 1\n") != before


@pytest.mark.parametrize(
    "same",
    [
        "# why\nclass Part:\n    def size(self, n=1): return n\n",
        'class Part:\n    """What it is."""\n    def size(self, n=1):\n        """Its size."""\n        return n\n',
        "class Part:\n\n    def size(self,\n             n=1):\n        return (n)\n",
    ],
)
def test_comments_docstrings_and_layout_do_not_count(package: Path, same: str) -> None:
    digest_after(package / "part.py", "class Part:\n    def size(self, n=1):\n        return n\n")
    before = code_digest(TARGET)
    assert digest_after(package / "part.py", same) == before


@pytest.mark.parametrize(
    "other",
    [
        "class Part:\n    def size(self, n=2):\n        return n\n",
        "class Part:\n    def size(self, *, n=1):\n        return n\n",
        "class Part:\n    def size(self, n=1):\n        return n\n    def more(self): ...\n",
        'class Part:\n    def size(self, n=1):\n        "a" + "docstring"\n        return n\n',
        "class Part:\n    def size(self, n=True):\n        return n\n",
    ],
)
def test_what_the_code_says_counts(package: Path, other: str) -> None:
    digest_after(package / "part.py", "class Part:\n    def size(self, n=1):\n        return n\n")
    before = code_digest(TARGET)
    assert digest_after(package / "part.py", other) != before


def test_the_words_of_a_tree_are_those_that_every_python_has() -> None:
    """3.12 gave functions a field ``type_params``, empty where there are none; 3.13 dumps trees otherwise."""
    words = list(_words(ast.parse("def size(n, *, m=None):\n    'Its size.'\n    return n.m\n")))
    assert words == [
        *(
            "Module",
            "body",
            "FunctionDef",
            "name",
            "'size'",
            "args",
            "arguments",
            "args",
            "arg",
            "arg",
            "'n'",
            ")",
            "]",
        ),
        *("kwonlyargs", "arg", "arg", "'m'", ")", "]", "kw_defaults", "Constant", ")", "]", ")"),
        *("body", "Return", "value", "Attribute", "value", "Name", "id", "'n'", ")", "attr", "'m'", ")", ")"),
        *("]", ")", "]", ")"),
    ]


def test_a_file_that_is_no_python_counts_by_its_bytes(package: Path) -> None:
    assert digest_after(package / "late.py", "SIZE = (") != digest_after(package / "late.py", "SIZE = ((")


def test_within_a_process_the_code_is_what_it_was_when_it_was_read(package: Path) -> None:
    before = code_digest(TARGET)
    (package / "part.py").write_text("class Part: pass\n")
    assert code_digest(TARGET) == before


def test_the_digest_of_a_package_is_over_all_of_it_but_its_tests(package: Path) -> None:
    before = package_digest(package)
    (package / "tests").mkdir()
    (package / "tests" / "test_part.py").write_text("assert True\n")
    assert package_digest(package) == before
    (package / "other.py").write_text("class Other: changed = True\n")
    assert package_digest(package) != before


def test_a_plugin_of_one_file_has_a_digest_too(tmp_path: Path, install: Install, hook: Hook) -> None:
    site = install("one", hook("one"), target="alone")
    (site / "alone.py").write_text(hook("one"))
    (found,) = [plugin for plugin in registry().plugins if plugin.distribution == "one"]
    assert found.package == site / "alone.py"
    assert found.digest() == package_digest(site / "alone.py") != package_digest(None)


def test_every_part_of_this_repository_has_code_of_its_own() -> None:
    digests = {component.target: code_digest(component.target) for component, _ in registry().components()}
    assert len(set(digests.values())) == len({target.partition(":")[0] for target in digests})

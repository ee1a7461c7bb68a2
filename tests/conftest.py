"""Packages that a test makes up and installs, so that plugins of every sort can be met; and what tests leave alone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ldmkit.registry import source
from ldmkit.registry.discovery import registry

Install = Callable[..., Path]

HOOK = """
from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl

@hookimpl
def components():
    return [Component({kind!r}, {name!r}, "{package}.part:Part", "made up")]
"""


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what Hydra, run in this process, does to the root logger: a later test would hear of closed streams."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = [each for each in root.handlers if each in handlers]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return ``install(distribution, module, files=..., ...)``, which installs a made-up plugin in this test only.

    Its import package is the distribution's name with underscores; its entry point has the distribution's name. The
    folder of all of them is returned, for PYTHONPATH.
    """
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)

    def make(
        distribution: str,
        module: str,
        *,
        version: str = "1.0",
        group: str = "ldmkit",
        entry: str | None = None,
        target: str | None = None,
        files: Mapping[str, str] | None = None,
    ) -> Path:
        package = distribution.replace("-", "_")
        for path, text in {"__init__.py": module, **(files or {})}.items():
            place = site / package / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        info = site / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry or distribution} = {target or package}\n")
        registry.cache_clear()
        source.code_digest.cache_clear()
        return site

    registry.cache_clear()
    yield make
    registry.cache_clear()
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {path.name for path in site.iterdir()}:
            del sys.modules[name]


@pytest.fixture
def hook() -> Callable[..., str]:
    """Return ``hook(package, kind, name)``: the text of a module that provides one part."""
    return lambda package, kind="cond", name="made-up": HOOK.format(package=package, kind=kind, name=name)

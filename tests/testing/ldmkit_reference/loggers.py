"""A line for each stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldmkit.registry.hooks import hookimpl


class Diary:
    """Writes the stages of a run into ``file`` in its directory."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        file: str

    def __init__(self, config: Config) -> None:
        self.file, self.path = config.file, None

    @hookimpl
    def on_start(self, config: Mapping[str, Any], directory: Path) -> None:
        self.path = directory / self.file

    @hookimpl
    def on_stage(self, stage: str, steps: int, reused: bool) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            print(f"{stage} {steps}", file=file)

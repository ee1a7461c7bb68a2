"""What the README tells to type can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import ldmkit

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
RUNS = [
    " ".join(words)
    for line in re.findall(r"^    (?:.*bin/)?ldmkit run (.+)$", README, re.MULTILINE)
    if (words := [word for word in shlex.split(line.split("  ")[0]) if "=" in word])
    # These need something of the reader's own; other tests run them.
    and not re.search(r"<id>|palette|data=folder|experiment=paper", line)
]


def test_the_readme_shows_runs() -> None:
    assert len(RUNS) >= 8


@pytest.mark.parametrize("line", RUNS)
def test_a_run_of_the_readme_composes_and_its_parts_go_together(line: str, tmp_path: Path) -> None:
    overrides = line.split()
    if any("," in word and "[" not in word for word in overrides):
        overrides = [word.partition(",")[0] for word in overrides]  # the first job of a sweep
    config = ldmkit.compose(overrides)
    ldmkit.check(config)
    ldmkit.build(config)

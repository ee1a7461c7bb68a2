"""``ldmkit check``: what it prints, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ldmkit.cli import main

Install = Callable[..., Path]

TASK = """
from dataclasses import dataclass

from ldmkit.run import Run, Task


class Part(Task):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config: Config) -> None:
        print("hello")

    def run(self, run: Run) -> None: ...
"""


@pytest.fixture
def task(install: Install, hook: Callable[..., str]) -> Callable[[str], None]:
    """Return ``task(text)``, which installs ``text`` as the task ``made-up``."""

    def task(text: str) -> None:
        files = {"part.py": text, "conf/task/made-up.yaml": "name: made-up # a task that does nothing\n"}
        install("ldmkit-made-up", hook("ldmkit_made_up", "task"), files=files)

    return task


def test_every_check_is_a_line_and_what_parts_print_is_not_among_them(
    task: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    task(TASK)
    assert main(["check", "task", "made-up"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert "passed  it runs with nothing but the run" in lines
    assert {line[:8] for line in lines} == {"passed  "}
    assert last == f"task=made-up: {len(lines)} passed"


def test_a_failure_has_its_reason_and_exit_code_1(
    task: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    task(TASK.replace("run: Run)", "run: Run, more: int)"))
    assert main(["check", "task", "made-up", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["component"]) == ("task", "made-up")
    assert [row for row in told["checks"] if row["status"] != "passed"] == [
        {
            "status": "failed",
            "check": "it runs with nothing but the run",
            "why": "expected run(run), got run(run, more)",
        }
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tsk", "train"], "there is no kind of part 'tsk'; did you mean 'task'?"),
        (["task", "trian"], "task has no option 'trian'; did you mean 'train'?"),
        (["cond", "text", "cond.text.widht=3"], "'widht'"),
        (["cond", "scalar"], "cond.scalar.field"),
        (["cond"], "check: "),
    ],
)
def test_a_mistake_is_told_before_anything_is_checked(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err

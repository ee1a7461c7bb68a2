"""metrics.jsonl holds every record, through crashes and resumes."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pluggy
import pytest
import torch
from ldmkit_loggers.jsonl import JSONL

from ldmkit.registry.hooks import RunSpec


def jsonl() -> pluggy.HookRelay:
    manager = pluggy.PluginManager("ldmkit")
    manager.add_hookspecs(RunSpec)
    manager.register(JSONL(JSONL.Config(name="jsonl")))
    manager.check_pending()
    return manager.hook


def records(directory: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    text = (directory / "metrics.jsonl").read_text("utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def without_time(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "time"} for record in found]


def test_every_event_is_a_line(tmp_path: Path) -> None:
    hooks = jsonl()
    hooks.on_start(config={}, directory=tmp_path / "new")
    hooks.on_stage(stage="denoiser", steps=2, reused=False)
    hooks.on_step(stage="denoiser", step=1, metrics={"loss": 0.5, "images": 8})
    hooks.on_sample(
        stage="denoiser", step=1, images=torch.zeros(2, 3, 4, 4), captions=["a 狐", "two\nlines"], path=Path("grid.png")
    )
    hooks.on_checkpoint(stage="denoiser", step=1, path=Path("step-1"))
    hooks.on_metrics(section="prompt", metrics={"all": 0.75, "count": 4})
    hooks.on_end(error=KeyboardInterrupt())
    assert without_time(records(tmp_path / "new")) == [
        {"event": "start"},
        {"event": "stage", "stage": "denoiser", "steps": 2, "reused": False},
        {"event": "step", "stage": "denoiser", "step": 1, "metrics": {"loss": 0.5, "images": 8}},
        {
            "event": "sample",
            "stage": "denoiser",
            "step": 1,
            "count": 2,
            "captions": ["a 狐", "two\nlines"],
            "path": "grid.png",
        },
        {"event": "checkpoint", "stage": "denoiser", "step": 1, "path": "step-1"},
        {"event": "metrics", "section": "prompt", "metrics": {"all": 0.75, "count": 4}},
        {"event": "end", "error": "KeyboardInterrupt"},
    ]
    times = [datetime.fromisoformat(record["time"]) for record in records(tmp_path / "new")]
    assert times == sorted(times)
    assert times[0].utcoffset() == timedelta(0)


def test_numbers_that_json_lacks_come_back_through_float(tmp_path: Path) -> None:
    hooks = jsonl()
    hooks.on_start(config={}, directory=tmp_path)
    hooks.on_step(stage="s", step=1, metrics={"a": math.nan, "b": math.inf, "c": -math.inf, "d": torch.tensor(1.5)})
    hooks.on_end(error=None)
    metrics = records(tmp_path)[1]["metrics"]
    assert metrics == {"a": "nan", "b": "inf", "c": "-inf", "d": 1.5}
    assert math.isnan(float(metrics["a"]))
    assert float(metrics["c"]) == -math.inf


def test_a_record_can_be_read_as_soon_as_it_was_heard(tmp_path: Path) -> None:
    hooks = jsonl()
    hooks.on_start(config={}, directory=tmp_path)
    for step in range(1, 4):
        hooks.on_step(stage="s", step=step, metrics={"loss": 1.0})
        assert records(tmp_path)[-1]["step"] == step
    hooks.on_end(error=None)


def test_a_resumed_run_goes_on_with_the_same_file(tmp_path: Path) -> None:
    for step in (1, 2):
        hooks = jsonl()
        hooks.on_start(config={}, directory=tmp_path)
        hooks.on_step(stage="s", step=step, metrics={})
        hooks.on_end(error=None)
    assert [record["event"] for record in records(tmp_path)] == ["start", "step", "end"] * 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b'{"a": 1}\n', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"b": ', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"b": 2}', b'{"a": 1}\n{"b": 2}\n'),
        (b'{"a": ', b""),
        (b'{"a": 1}\n' + b"\0" * 9000, b'{"a": 1}\n'),
        (b'{"a": 1}\n12', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"b": "\xc3', b'{"a": 1}\n'),
    ],
)
def test_the_end_that_a_crash_left_is_mended(tmp_path: Path, before: bytes, after: bytes) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(before)
    hooks = jsonl()
    hooks.on_start(config={}, directory=tmp_path)
    hooks.on_end(error=None)
    assert file.read_bytes().startswith(after)
    assert [record.get("event") for record in records(tmp_path)][-2:] == ["start", "end"]
    assert len(records(tmp_path)) == after.count(b"\n") + 2


def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from ldmkit_loggers.jsonl import JSONL
logger = JSONL(JSONL.Config(name="jsonl"))
logger.on_start({}, Path(sys.argv[1]))
for step in range(10**9):
    logger.on_step("s", step, {"loss": 0.1 * step})
    if step == 200:
        print("ready", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout as ready:
        ready.readline()
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    steps = [record["step"] for record in records(tmp_path) if record["event"] == "step"]
    assert steps == list(range(len(steps)))
    assert len(steps) > 200


class FullDisk:
    """A file that takes ten bytes of the next record and no more."""

    def __init__(self, file: Any) -> None:
        self.file, self.name = file, file.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: bytes) -> int:
        return int(self.file.write(data[:10]))


def test_a_full_disk_is_told_and_leaves_no_half_line(tmp_path: Path) -> None:
    logger = JSONL(JSONL.Config(name="jsonl"))
    logger.on_start({}, tmp_path)
    whole = logger._file
    logger._file = FullDisk(whole)  # type: ignore[assignment]
    with pytest.raises(OSError, match="wrote 10 of"):
        logger.on_step("s", 1, {"loss": 1.0})
    logger._file = whole
    logger.on_step("s", 2, {"loss": 1.0})
    logger.on_end(None)
    assert [record.get("step") for record in records(tmp_path)] == [None, 2, None]


def test_a_logger_that_never_started_ends_in_peace() -> None:
    hooks = jsonl()
    hooks.on_step(stage="s", step=1, metrics={})
    hooks.on_end(error=None)

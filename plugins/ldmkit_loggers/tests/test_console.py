"""What the console shows, on terminals and off them."""

from __future__ import annotations

import io
import math
import os
import pty
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pluggy
import pytest
import torch
from ldmkit_loggers.console import Console
from ldmkit_loggers.progress import Progress, fitting
from ldmkit_loggers.terminal import QuietStream, duration, printable

from ldmkit.errors import ConfigError
from ldmkit.registry.hooks import RunSpec

PICTURES = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)


def heard(logger: Console) -> pluggy.HookRelay:
    """The hooks of a manager that has nothing but ``logger``, as in a run."""
    manager = pluggy.PluginManager("ldmkit")
    manager.add_hookspecs(RunSpec)
    manager.register(logger)
    manager.check_pending()
    return manager.hook


def console(bar: str = "auto", every: float = 0.0) -> pluggy.HookRelay:
    return heard(Console(Console.Config(name="console", bar=bar, every=every)))


def small_run(hooks: pluggy.HookRelay, directory: Path) -> None:
    hooks.on_start(config={}, directory=directory)
    hooks.on_stage(stage="tokenizer", steps=0, reused=True)
    hooks.on_stage(stage="first-stage", steps=4, reused=False)
    for step in range(1, 5):
        hooks.on_step(
            stage="first-stage", step=step, metrics={"loss": 1 / step, "images": 8.0 * step, "seconds": 0.5 * step}
        )
    hooks.on_checkpoint(stage="first-stage", step=4, path=directory / "step-4")
    hooks.on_sample(
        stage="first-stage",
        step=4,
        images=PICTURES,
        captions=["a \x1b[31mred\x1b[0m circle", "b"],
        path=Path("grid.png"),
    )
    hooks.on_metrics(section="first_stage", metrics={"psnr": 36.30412, "verified": 0.98828125, "verified_count": 256})
    hooks.on_end(error=None)


def test_off_a_terminal_a_run_is_plain_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small_run(console(), tmp_path)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [re.sub(r"  [\d.]+ [MG]iB$", "", line) for line in captured.err.splitlines()]
    assert lines[:-1] == [
        f"run: {tmp_path}",
        "tokenizer: reused from the store",
        "first-stage: 4 steps",
        "first-stage: step 1/4  loss 1  0:02 left  16 images/s",
        "first-stage: step 2/4  loss 0.5  0:01 left  16 images/s",
        "first-stage: step 3/4  loss 0.3333  0:00 left  16 images/s",
        "first-stage: step 4/4  loss 0.25  in 0:02  16 images/s",
        f"first-stage: step 4 saved in {tmp_path}/step-4",
        "first-stage: 2 pictures after step 4, the first of 'a \\x1b[31mred\\x1b[0m circle', in grid.png",
        "first_stage",
        "  psnr            36.3",
        "  verified        0.9883",
        "  verified_count  256",
    ]
    assert lines[-1] == f"done in 0:00: {tmp_path}"
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", captured.err)


def test_lines_of_a_stage_keep_their_distance_but_the_last_step_is_always_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 100.0
    monkeypatch.setattr("ldmkit_loggers.console.time.monotonic", lambda: clock)
    hooks = console(every=10.0)
    hooks.on_stage(stage="denoiser", steps=30, reused=False)
    for step in range(1, 31):
        clock += 1.0
        hooks.on_step(stage="denoiser", step=step, metrics={"loss": 1.0})
    said = [int(step) for step in re.findall(r"step (\d+)/30", capsys.readouterr().err)]
    assert said == [1, 11, 21, 30]


def test_the_end_points_to_the_report_when_there_is_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "report.html").touch()
    hooks = console()
    hooks.on_start(config={}, directory=tmp_path)
    hooks.on_end(error=None)
    assert capsys.readouterr().err.endswith(f"done in 0:00: {tmp_path}/report.html\n")


def test_an_error_is_left_to_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    hooks = console()
    hooks.on_end(error=ValueError("secret"))
    assert capsys.readouterr().err == ""
    hooks.on_stage(stage="latents", steps=0, reused=False)
    hooks.on_end(error=ValueError("secret"))
    assert capsys.readouterr().err == "latents: started\nstopped after 0:00\n"


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, act: Callable[[], None], term: str = "xterm") -> str:
    """Do ``act`` with standard error on a pseudo-terminal of ``columns``; return what arrived there."""
    import fcntl
    import struct
    import termios

    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    arrived = bytearray()

    def collect() -> None:
        while True:
            try:
                block = os.read(terminal, 65536)
            except OSError:
                return
            if not block:
                return
            arrived.extend(block)

    reader = threading.Thread(target=collect)
    reader.start()
    monkeypatch.setenv("TERM", term)
    with os.fdopen(end, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        act()
    reader.join()
    os.close(terminal)
    return arrived.decode()


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (120, {"|", "loss 0.25", "in 0:02", "images/s", "iB"}),
        (62, {"|", "loss 0.25", "in 0:02"}),
        (40, {"loss 0.25", "in 0:02"}),
        (28, {"loss 0.25"}),
        (20, set()),
    ],
)
def test_on_a_terminal_a_bar_is_drawn_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, columns: int, shown: set[str]
) -> None:
    text = on_terminal(monkeypatch, columns, lambda: small_run(console(), tmp_path))
    drawn = [line for line in re.split(r"[\r\n]", text) if line.startswith("first-stage ")]
    assert drawn
    assert max(len(line) for line in drawn) <= columns
    assert "first-stage 4/4" in drawn[-1]
    assert {part for part in ("|", "loss 0.25", "in 0:02", "images/s", "iB") if part in drawn[-1]} == shown
    assert "\x1b[31m" not in text


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = on_terminal(monkeypatch, 40, lambda: small_run(console(), tmp_path), term="dumb")
    assert "first-stage: step 4/4" in text
    assert "\x1b" not in text
    assert not re.search("\r(?!\n)", text)


class Broken(io.StringIO):
    """A pipe whose reader has gone, or a full disk."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.error = error

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ValueError])
@pytest.mark.parametrize("bar", ["always", "never"])
def test_a_run_outlives_its_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bar: str, error: type[Exception]
) -> None:
    monkeypatch.setattr(sys, "stderr", Broken(error))
    small_run(console(bar), tmp_path)


def test_a_run_needs_no_standard_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for stream in (None, io.StringIO()):
        if stream is not None:
            stream.close()
        monkeypatch.setattr(sys, "stderr", stream)
        small_run(console(), tmp_path)
        small_run(console("always"), tmp_path)


def test_a_stream_of_ascii_gets_escapes_for_what_it_lacks() -> None:
    raw = io.BytesIO()
    stream = QuietStream(io.TextIOWrapper(raw, encoding="ascii", errors="strict"))
    stream.write("näive 狐\n")
    stream.flush()
    assert raw.getvalue() == b"n\\xe4ive \\u72d0\n"


def test_an_unknown_bar_is_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"no bar 'allways'; did you mean 'always'\? There is: always, auto, never"):
        console("allways")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a red circle", "a red circle"),
        ("näive 狐", "näive 狐"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\u202edrawkcab", "\\u202edrawkcab"),
        ("\x9b31m", "\\x9b31m"),
        ("\ud800", "\\ud800"),
    ],
)
def test_text_cannot_steer_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut_to_its_width() -> None:
    assert printable("a" * 1_000_000, 10) == "aaaaaaa..."
    assert printable("\x1b" * 10, 10) == "\\x1b\\x1..."
    assert printable("a" * 10, 10) == "a" * 10


def test_speed_and_time_left_are_those_of_the_last_seconds() -> None:
    progress = Progress(1000)
    for step in range(1, 101):  # 100 slow steps of one second, then 100 of a tenth
        progress.report(step, {"images": 8.0 * step, "seconds": float(step)})
    assert {"15:00 left", "8 images/s"} <= set(progress.figures())
    for step in range(101, 401):
        progress.report(step, {"images": 8.0 * step, "seconds": 100 + (step - 100) / 10})
    assert {"1:00 left", "80 images/s"} <= set(progress.figures())


def test_a_loss_that_is_no_number_and_missing_metrics_are_shown_as_they_are() -> None:
    progress = Progress(10)
    progress.report(1, {"loss": math.nan})
    assert progress.figures()[0] == "loss nan"
    progress.report(2, {})
    assert not [text for text in progress.figures() if "loss" in text or "images" in text]


def test_figures_that_do_not_fit_are_left_out_from_the_last_on() -> None:
    assert fitting(["loss 1", "0:02 left", "9 MiB"], 17) == "loss 1  0:02 left"
    assert fitting(["loss 1", "0:02 left"], 5) == ""
    assert fitting(["loss 1", "0:02 left"], None) == "loss 1  0:02 left"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599.4, "59:59"), (36_000, "10:00:00")])
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text

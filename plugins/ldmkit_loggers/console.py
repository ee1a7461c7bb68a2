"""The run as one sees it at the keyboard."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldmkit.errors import ConfigError, did_you_mean
from ldmkit.registry.hooks import hookimpl
from ldmkit_loggers.progress import Progress, StageBar, fitting
from ldmkit_loggers.terminal import QuietStream, duration, printable

if TYPE_CHECKING:
    from torch import Tensor

BARS = ("auto", "always", "never")
CAPTION_WIDTH = 60


class Console:
    """Writes to standard error: a bar for each stage on a terminal, else plain lines without control characters.

    When standard error is closed or full, the console falls silent and the run goes on.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        bar: str
        every: float

    def __init__(self, config: Config) -> None:
        if config.bar not in BARS:
            raise ConfigError(f"logger 'console' knows no bar '{config.bar}'{did_you_mean(config.bar, BARS)}")
        self._stream = QuietStream(sys.stderr)
        self._draws = self._stream.takes_bars() if config.bar == "auto" else config.bar == "always"
        self._every = config.every
        self._directory = Path()
        self._began = time.monotonic()
        self._stage = ""
        self._progress: Progress | None = None
        self._bar: StageBar | None = None
        self._next_line = 0.0

    @hookimpl
    def on_start(self, config: Mapping[str, Any], directory: Path) -> None:
        """Name the run's directory."""
        self._directory, self._began = directory, time.monotonic()
        self._say(f"run: {directory}")

    @hookimpl
    def on_stage(self, stage: str, steps: int, reused: bool) -> None:
        """Open the bar of a stage that has steps; say it in a line of one that has none, or that is reused."""
        self._close_bar()
        self._stage, self._progress, self._next_line = stage, None, 0.0
        if reused:
            self._say(f"{stage}: reused from the store")
        elif steps:
            self._progress = Progress(steps)
            if self._draws:
                self._bar = StageBar(printable(stage), self._progress, self._stream)
            else:
                self._say(f"{stage}: {steps} steps")
        else:
            self._say(f"{stage}: started")

    @hookimpl
    def on_step(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Move the bar, or write a line when the last one is old enough."""
        if self._progress is None or stage != self._stage:
            return
        self._progress.report(step, metrics)
        if self._bar is not None:
            self._bar.show()
            if self._progress.done:
                self._close_bar()
        elif not self._draws and (time.monotonic() >= self._next_line or self._progress.done):
            self._next_line = time.monotonic() + self._every
            figures = fitting(self._progress.figures(), None)
            self._say(f"{stage}: step {step}/{self._progress.steps}  {figures}")

    @hookimpl
    def on_sample(self, stage: str, step: int, images: Tensor, captions: list[str], path: Path) -> None:
        """Announce pictures, with the file to look at."""
        caption = f", the first of '{printable(captions[0], CAPTION_WIDTH)}'" if captions else ""
        after = f" after step {step}" if step else ""
        plural = "s" if len(images) != 1 else ""
        self._say(f"{stage}: {len(images)} picture{plural}{after}{caption}, in {path}")

    @hookimpl
    def on_metrics(self, section: str, metrics: Mapping[str, float]) -> None:
        """Print the measurement as a small table."""
        if not metrics:
            return
        width = max(len(name) for name in metrics)
        self._say(section)
        for name, value in metrics.items():
            self._say(f"  {name:<{width}}  {value if isinstance(value, int) else f'{value:.4g}'}")

    @hookimpl
    def on_checkpoint(self, stage: str, step: int, path: Path) -> None:
        """Say where the checkpoint is."""
        self._say(f"{stage}: step {step} saved in {path}")

    @hookimpl
    def on_end(self, error: BaseException | None) -> None:
        """Say how long the run took and where its report lies; what went wrong is the command line's to tell.

        A run that ended before its first stage took no time.
        """
        self._close_bar()
        took = duration(time.monotonic() - self._began)
        if error is not None:
            if self._stage:
                self._say(f"stopped after {took}")
            return
        report = self._directory / "report.html"
        self._say(f"done in {took}: {report if report.exists() else self._directory}")

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _say(self, text: str) -> None:
        """Write one line, above the bar when there is one."""
        if self._bar is not None:
            self._bar.clear()
        self._stream.write(f"{printable(text)}\n")
        self._stream.flush()
        if self._bar is not None:
            self._bar.refresh()

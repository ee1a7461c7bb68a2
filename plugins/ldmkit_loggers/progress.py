"""How a stage is getting on: its speed, the time left, and the bar that shows them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from ldmkit_loggers.memory import bytes_for_people, memory_held
from ldmkit_loggers.terminal import QuietStream, duration

SPAN = 20.0
"""Seconds of the past over which speed is measured."""
NARROW = 60
"""Columns below which the bar itself gives its place to the figures."""


class Progress:
    """Progress of one stage of ``steps`` steps, from the reports of its loop.

    ``images`` and ``seconds`` of a report count from the stage's beginning, over resumes; speed is taken from the last
    ``SPAN`` seconds.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.step = 0
        self._metrics: Mapping[str, float] = {}
        self._reports: deque[tuple[int, float, float]] = deque([(0, 0.0, 0.0)])

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of ``step``; ``seconds`` and ``images`` of the stage so far are among them."""
        self.step, self._metrics = step, metrics
        self._reports.append((step, metrics.get("images", 0.0), metrics.get("seconds", 0.0)))
        while len(self._reports) > 2 and self._reports[-1][2] - self._reports[1][2] >= SPAN:
            self._reports.popleft()

    @property
    def done(self) -> bool:
        return self.step >= self.steps

    def figures(self) -> list[str]:
        """Return what is known, the most important first: loss, time, images/s, memory."""
        texts = []
        if "loss" in self._metrics:
            texts.append(f"loss {self._metrics['loss']:.4g}")
        (first, images_before, began), (last, images, now) = self._reports[0], self._reports[-1]
        if self.done and "seconds" in self._metrics:
            texts.append(f"in {duration(self._metrics['seconds'])}")
        elif now > began and last > first:
            texts.append(f"{duration((self.steps - last) * (now - began) / (last - first))} left")
        if now > began and images > images_before:
            texts.append(f"{(images - images_before) / (now - began):.3g} images/s")
        held = memory_held()
        return texts if held is None else [*texts, bytes_for_people(held)]


def fitting(texts: Sequence[str], columns: int | None) -> str:
    """Join as many of ``texts``, from the first on, as ``columns`` have room for."""
    line = ""
    for text in texts:
        longer = f"{line}  {text}" if line else text
        if columns is not None and len(longer) > columns:
            break
        line = longer
    return line


class StageBar(tqdm):
    """The bar of one stage: its name, steps, bar, and as many figures as the terminal has room for."""

    monitor_interval = 0  # no thread of its own: the training loop reports often enough

    def __init__(self, stage: str, progress: Progress, stream: QuietStream) -> None:
        self.progress = progress
        self.figures: list[str] = []
        super().__init__(
            desc=stage, total=progress.steps, file=stream, dynamic_ncols=True, mininterval=0.1, miniters=1, leave=True
        )

    def show(self) -> None:
        """Draw the bar as the progress is now, though not more than ten times a second."""
        self.figures = self.progress.figures()
        self.update(self.progress.step - self.n)

    @property
    def format_dict(self) -> dict[str, Any]:
        """The values that tqdm fills into the format of the bar."""
        values: dict[str, Any] = super().format_dict
        columns = values["ncols"]
        wide = columns is None or columns >= NARROW
        head = f"{self.desc} {self.n}/{self.total}"
        room = None if columns is None else columns - len(head) - (16 if wide else 2)
        values["figures"] = fitting(self.figures, room)
        values["bar_format"] = "{desc} {n}/{total} |{bar}| {figures}" if wide else "{desc} {n}/{total} {figures}"
        return values

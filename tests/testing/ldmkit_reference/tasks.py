"""A task that does nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ldmkit.run import Run, Task


class Nothing(Task):
    """Leaves the run alone, ``times`` times."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        times: int

    def __init__(self, config: Config) -> None:
        self.times = config.times

    def run(self, run: Run) -> None:
        for _ in range(self.times):
            pass

"""Checks of tasks."""

from __future__ import annotations

import inspect

from ldmkit.run import Task
from ldmkit.testing.suite import Suite


class TaskSuite(Suite):
    """Checks of a part of the group ``task``. What a task does is for tests of its own: it may take hours."""

    kind = "task"
    protocol = Task

    def test_it_runs_with_nothing_but_the_run(self) -> None:
        got = list(inspect.signature(self.part().run).parameters)
        assert got == ["run"], f"expected run(run), got run({', '.join(got)})"

"""What a run does."""

from __future__ import annotations

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """The tasks."""
    return [
        Component(
            "task", "train", "ldmkit_tasks.train:Train", "train both stages, sample held-out prompts, measure, report"
        ),
    ]

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
        Component(
            "task",
            "first-stage",
            "ldmkit_tasks.first_stage:TrainFirstStage",
            "train the first stage, reconstruct held-out images, measure, report",
        ),
        Component(
            "task",
            "reconstruct",
            "ldmkit_tasks.reconstruct:Reconstruct",
            "take images through a trained first stage and back",
        ),
    ]

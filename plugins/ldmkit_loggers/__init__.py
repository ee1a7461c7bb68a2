"""What listens to a run."""

from __future__ import annotations

from ldmkit.registry.components import Component
from ldmkit.registry.hooks import hookimpl


@hookimpl
def components() -> list[Component]:
    """Announce the loggers."""
    return [
        Component(
            "logger", "console", "ldmkit_loggers.console:Console", "progress bars, or plain lines off a terminal"
        ),
        Component("logger", "jsonl", "ldmkit_loggers.jsonl:JSONL", "every record as a line of metrics.jsonl"),
    ]

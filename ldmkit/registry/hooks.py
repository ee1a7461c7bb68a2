"""The two sets of hooks: one that installed packages implement, one that the loggers of a run hear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from ldmkit.registry.components import Component

if TYPE_CHECKING:
    from torch import Tensor

API_VERSION = 1
"""Raised when a change to :class:`PluginSpec` breaks old plugins; a plugin may state the one it is written for as
``LDMKIT_API = 1``."""

hookspec = pluggy.HookspecMarker("ldmkit")
hookimpl = pluggy.HookimplMarker("ldmkit")


class PluginSpec:
    """What an entry point of the group ``ldmkit`` implements."""

    @hookspec
    def components(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Return the parts that this package provides, as data."""


class RunSpec:
    """What the loggers that a run's config names hear. Installing a package never reaches these.

    A logger implements one or more of them under ``ldmkit.registry.hooks.hookimpl``, with these arguments or fewer.
    """

    @hookspec
    def on_start(self, config: Mapping[str, Any], directory: Path) -> None:
        """The run begins, with its resolved ``config``, in ``directory``."""

    @hookspec
    def on_stage(self, stage: str, steps: int, reused: bool) -> None:
        """A stage begins, of ``steps`` steps, or 0 where it has none; ``reused`` when the store has its result."""

    @hookspec
    def on_step(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """A step of ``stage`` has ended; ``step`` counts from 1, also over a resume."""

    @hookspec
    def on_sample(self, stage: str, step: int, images: Tensor, captions: list[str], path: Path) -> None:
        """Pictures were made after ``step``: uint8 (B, C, H, W), laid out as one grid in the file ``path``."""

    @hookspec
    def on_metrics(self, section: str, metrics: Mapping[str, float]) -> None:
        """A measurement is complete, for example section ``first_stage`` with ``psnr``."""

    @hookspec
    def on_checkpoint(self, stage: str, step: int, path: Path) -> None:
        """A checkpoint is committed and verified at ``path``."""

    @hookspec
    def on_end(self, error: BaseException | None) -> None:
        """The run is over; every logger hears this, whatever the others do."""

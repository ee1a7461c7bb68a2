"""Checks of loggers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import SkipTest

import pluggy
import torch

from ldmkit.pictures import save_grid
from ldmkit.registry.hooks import RunSpec
from ldmkit.testing.process import untouched
from ldmkit.testing.suite import Suite

STRANGE = ["", "a red circle", "\N{UNICORN FACE}\u202e\x1b[2J\nnext" + "x" * 10_000]
NUMBERS = {"loss": 0.25, "lr": 1e-3, "not a number": float("nan"), "without end": float("inf"), "count": 3}


class LoggerSuite(Suite):
    """Checks of a part of the group ``logger``."""

    kind = "logger"

    def test_a_deep_copy_gives_the_same(self) -> None:
        raise SkipTest("it may hold what is open")

    def hearing(self, story: Callable[[Any, Path], None]) -> str:
        """Tell a new logger a ``story`` in a directory of its own; what it wrote to standard output."""
        with TemporaryDirectory() as name, redirect_stdout(StringIO()) as said, redirect_stderr(StringIO()):
            manager = pluggy.PluginManager("ldmkit")
            manager.add_hookspecs(RunSpec)
            manager.register(self.part(), self.component)
            manager.check_pending()
            story(manager.hook, Path(name))
        return said.getvalue()

    def test_it_hears_at_least_one_hook_and_none_that_does_not_exist(self) -> None:
        manager = pluggy.PluginManager("ldmkit")
        manager.add_hookspecs(RunSpec)
        manager.register(self.part(), self.component)
        try:
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise AssertionError(f"expected only hooks of RunSpec, got: {error}") from error
        heard = [caller.name for caller in manager.get_hookcallers(manager.get_plugin(self.component)) or ()]
        hooks = [name for name in vars(RunSpec) if name.startswith("on_")]
        assert heard, f"expected one or more of {', '.join(hooks)} under @hookimpl, got none"

    def test_it_hears_a_whole_run_and_leaves_standard_output_alone(self) -> None:
        said = self.hearing(whole_run)
        assert not said, f"expected nothing on standard output, which belongs to the command's result, got {said!r}"

    def test_it_hears_of_a_run_that_failed(self) -> None:
        def failed(hook: Any, directory: Path) -> None:
            hook.on_start(config={"seed": 0}, directory=directory)
            hook.on_stage(stage="denoiser", steps=10, reused=False)
            hook.on_step(stage="denoiser", step=1, metrics=NUMBERS)
            hook.on_end(error=ValueError("loss is not finite \N{PILE OF POO}"))

        assert not self.hearing(failed), "expected nothing on standard output of a failed run"

    def test_it_hears_of_a_run_that_ends_before_it_starts(self) -> None:
        assert not self.hearing(lambda hook, directory: hook.on_end(error=None)), "expected nothing on standard output"

    def test_it_hears_of_a_run_that_goes_on_in_the_same_directory(self) -> None:
        def resumed(hook: Any, directory: Path) -> None:
            whole_run(hook, directory)
            whole_run(hook, directory)

        assert not self.hearing(resumed), "expected nothing on standard output of a resumed run"

    def test_listening_leaves_the_process_as_it_was(self) -> None:
        self.hearing(whole_run)
        with untouched(during="listening"):
            self.hearing(whole_run)


def whole_run(hook: Any, directory: Path) -> None:
    """Call every hook as a run does, with what is hardest to write down."""
    images = torch.arange(3 * 3 * 8 * 8).remainder(256).to(torch.uint8).view(3, 3, 8, 8)
    grid = save_grid(images, directory / "samples" / "grid.png")
    hook.on_start(config={"seed": 0, "cond": {}}, directory=directory)
    hook.on_stage(stage="conditioners", steps=0, reused=False)
    hook.on_stage(stage="latents", steps=0, reused=True)
    hook.on_stage(stage="denoiser", steps=3, reused=False)
    for step in (1, 2, 3):
        hook.on_step(stage="denoiser", step=step, metrics=NUMBERS)
    hook.on_step(stage="denoiser", step=3, metrics={})
    hook.on_sample(stage="denoiser", step=3, images=images, captions=STRANGE, path=grid)
    hook.on_sample(stage="samples", step=0, images=images[:1], captions=[], path=grid)
    hook.on_checkpoint(stage="denoiser", step=3, path=directory)
    hook.on_metrics(section="first_stage", metrics=NUMBERS)
    hook.on_metrics(section="nothing", metrics={})
    hook.on_end(error=None)

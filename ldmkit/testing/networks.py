"""Checks of networks: rows in, rows out, and weights that are trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor

from ldmkit.models import seeded
from ldmkit.testing.modules import ModuleSuite
from ldmkit.testing.outputs import ROWS, largest_difference
from ldmkit.testing.rows import RowSuite

TRIES, LEARNING_RATE = 200, 5e-3
"""Steps of Adam in which the error on one batch has to halve."""


class NetworkSuite(RowSuite, ModuleSuite):
    """What holds for a network, whose rows are trained on.

    ``one_graph`` False says that a library that it calls branches on numbers, so that it cannot compile as a whole.
    """

    one_graph: ClassVar[bool] = True

    def learned_from(self, part: Any) -> dict[str, Tensor]:
        """What gradients come from; by default all outputs."""
        return self.outputs(part, self.inputs(ROWS))

    def lesson(self, part: Any) -> Callable[[], Tensor]:
        """Return the function that gives the error of ``part`` on one batch, a scalar that training makes small."""
        raise NotImplementedError

    def graphs(self, part: Any) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
        """The functions that are worth compiling, by name, with what they are called with; none by default."""
        return {}

    def test_it_overfits_one_batch(self) -> None:
        with TemporaryDirectory() as directory, seeded(0, "testing"):
            part = self.fitted(self.part(), Path(directory)).train()
            trained = [weight for weight in part.parameters() if weight.requires_grad]
            if not trained:
                raise SkipTest("it has nothing to train")
            lesson = self.lesson(part)
            errors: list[float] = []
            optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE)
            while len(errors) < TRIES and not (errors and errors[-1] <= errors[0] / 2):
                error = lesson()
                errors.append(error.item())
                optimizer.zero_grad()
                error.backward()
                optimizer.step()
        told = f"got {errors[0]:.3g} and in the end {errors[-1]:.3g}"
        assert errors[-1] <= errors[0] / 2, f"expected half the error on one batch within {TRIES} steps, {told}"

    def test_it_compiles_without_a_break_in_the_graph(self) -> None:
        from torch._dynamo.exc import TorchDynamoException  # seconds of import

        if not self.one_graph:
            raise SkipTest("its suite says that it breaks the graph")
        part = self.ready().requires_grad_(False)
        graphs = self.graphs(part)
        if not graphs:
            raise SkipTest("it is called once a batch, and the networks many times")
        for name, (function, inputs) in graphs.items():
            expected = function(*inputs)
            try:
                got = torch.compile(function, fullgraph=True, backend="eager")(*inputs)
            except TorchDynamoException as error:
                why = " ".join(str(error).split())[:300]
                raise AssertionError(f"expected {name} to compile as one graph, got {why}") from error
            finally:
                torch.compiler.reset()
            apart = largest_difference(got, expected)
            assert apart <= 1e-4, f"expected the same of {name} when compiled, got {apart:.2g} apart"

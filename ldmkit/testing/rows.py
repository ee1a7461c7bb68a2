"""Checks of parts that turn rows into rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn

from ldmkit.testing.outputs import ROWS, each_tensor, largest_difference, scattered
from ldmkit.testing.process import untouched
from ldmkit.testing.suite import Suite

NEEDS_NUMBERS = r"on meta tensors|of meta tensor|'Meta' backend|on tensor with meta|data-dependent"
"""What torch says where code looks at the numbers of tensors without memory."""


class RowSuite(Suite):
    """What holds for every function of rows, whatever the part is.

    A suite says what goes in for given ``rows`` of 0, 1, 2, and all that comes out, by name, rows first.
    """

    def inputs(self, rows: Sequence[int]) -> Any:
        """What the part is called with for a batch of ``rows``."""
        raise NotImplementedError

    def outputs(self, part: Any, inputs: Any) -> dict[str, Tensor]:
        """All that the part gives for ``inputs``."""
        raise NotImplementedError

    def found(self, part: Any) -> dict[str, Any]:
        """All that ``part`` gives for three rows."""
        return {name: value.detach() for name, value in self.outputs(part, self.inputs(ROWS)).items()}

    def test_what_it_gives_are_tensors_and_finite(self) -> None:
        for name, value in self.outputs(self.ready(), self.inputs(ROWS)).items():
            assert isinstance(value, Tensor), f"expected {name} to be a tensor, got {type(value).__name__}"
            finite = value.isfinite()
            assert finite.all(), f"expected finite {name}, got {int((~finite).sum())} values that are not"

    def test_it_gives_the_same_twice_and_leaves_its_inputs_as_they_were(self) -> None:
        part, inputs = self.ready(), self.inputs(ROWS)
        first = {name: value.clone() for name, value in self.outputs(part, inputs).items()}
        for name, value in self.outputs(part, inputs).items():
            assert torch.equal(value, first[name]), f"expected the same {name} for the same inputs, got others"

    def test_a_row_is_the_same_alone_and_in_a_batch(self) -> None:
        part = self.ready()
        together = self.outputs(part, self.inputs(ROWS))
        for row in ROWS:
            for name, value in self.outputs(part, self.inputs([row])).items():
                expected = together[name][row : row + 1]
                assert value.shape == expected.shape, f"expected {name} {expected.shape} alone, got {value.shape}"
                apart = largest_difference(value, expected)
                assert apart <= 1e-4, f"expected row {row} of {name} to be as in the batch, got {apart:.2g} apart"

    def test_a_batch_may_have_no_rows(self) -> None:
        part = self.ready()
        one = self.outputs(part, self.inputs([0]))
        for name, value in self.outputs(part, self.inputs([])).items():
            expected = (0, *one[name].shape[1:])
            assert tuple(value.shape) == expected, f"expected {name} {expected}, got {tuple(value.shape)}"

    def test_inputs_may_lie_in_memory_in_any_order(self) -> None:
        part, inputs = self.ready(), self.inputs(ROWS)
        expected, got = self.outputs(part, inputs), self.outputs(part, each_tensor(inputs, scattered))
        for name, value in got.items():
            apart = largest_difference(value, expected[name])
            assert apart <= 1e-4, f"expected the same {name} of inputs that are not contiguous, got {apart:.2g} apart"

    def test_what_it_gives_is_where_its_inputs_are(self) -> None:
        part, device = self.ready(), torch.device("cuda" if torch.cuda.is_available() else "meta")
        inputs = each_tensor(self.inputs(ROWS), lambda value: value.to(device))
        if isinstance(part, nn.Module):
            part = part.to(device)
        try:
            given = self.outputs(part, inputs)
        except (RuntimeError, NotImplementedError) as error:
            if re.search(
                "on meta tensors|of meta tensor|'Meta' backend|on tensor with meta|data-dependent", str(error)
            ):
                raise SkipTest("it looks at numbers, which a device without memory does not have") from error
            raise AssertionError(
                f"expected it to compute where its inputs are, on {device.type}, got {error}"
            ) from error
        for name, value in given.items():
            got = value.device.type
            assert got == device.type, f"expected {name} on {device.type}, where its inputs are, got it on {got}"

    def test_it_draws_no_global_random_numbers(self) -> None:
        part, inputs = self.ready(), self.inputs(ROWS)
        self.outputs(part, inputs)
        with untouched(during="calling it"):
            self.outputs(part, inputs)

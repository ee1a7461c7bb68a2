"""Checks of parts that turn rows into rows, and of those among them that have weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldmkit.artifacts.random import generator
from ldmkit.testing.process import untouched
from ldmkit.testing.suite import Suite

ROWS = range(3)
"""Rows of the largest batch that checks use."""


def normal(name: str, *shape: int) -> Tensor:
    """Standard normal numbers of ``shape``, the same ones for a ``name`` at all times."""
    return torch.from_numpy(generator("testing", name).standard_normal(shape, "float32"))


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

    def ready(self) -> Any:
        """The part, ready to be called."""
        return self.part()

    def test_what_it_gives_is_finite(self) -> None:
        for name, value in self.outputs(self.ready(), self.inputs(ROWS)).items():
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

    def test_it_draws_no_global_random_numbers(self) -> None:
        part, inputs = self.ready(), self.inputs(ROWS)
        self.outputs(part, inputs)
        with untouched(during="calling it"):
            self.outputs(part, inputs)


class ModuleSuite(RowSuite):
    """What holds for every part that is a module."""

    def prepared(self, part: Any) -> Any:
        """Do what the kernel does between building ``part`` and calling it; nothing by default."""
        return part

    def ready(self) -> Any:
        """The part with every trainable weight drawn anew: zeros that it may begin with would hide mistakes."""
        part = self.prepared(self.part()).eval()
        randomise(part)
        return part

    def learned_from(self, part: Any) -> dict[str, Tensor]:
        """What gradients come from; by default all outputs."""
        return self.outputs(part, self.inputs(ROWS))

    def test_its_first_weights_are_a_function_of_the_seed(self) -> None:
        one, two = self.part().state_dict(), self.part().state_dict()
        different = [name for name in one if not torch.equal(one[name], two[name])]
        assert not different, f"expected the same weights for the same seed, got others for {', '.join(different)}"

    def test_gradients_reach_every_weight_that_is_trained(self) -> None:
        part = self.ready()
        outputs = {name: value for name, value in self.learned_from(part).items() if value.requires_grad}
        trained = {name: weight for name, weight in part.named_parameters() if weight.requires_grad}
        if trained:
            assert outputs, f"expected outputs with a gradient, since {', '.join(trained)} require one, got none"
            torch.stack(
                [(value * normal(name, *value.shape)).sum() for name, value in outputs.items()]
            ).sum().backward()
        without = [name for name, weight in trained.items() if weight.grad is None or not weight.grad.any()]
        assert not without, f"expected a gradient for every weight or requires_grad=False, got none: {without}"
        strange = [name for name, weight in trained.items() if not weight.grad.isfinite().all()]
        assert not strange, f"expected finite gradients, got others for {', '.join(strange)}"

    def test_its_saved_weights_make_another_instance_give_the_same(self) -> None:
        part, other = self.ready(), self.prepared(self.part()).eval()
        other.load_state_dict(copy.deepcopy(part.state_dict()))
        self.expect_equal(part, other, "an instance with the saved weights")

    def test_a_deep_copy_gives_the_same(self) -> None:
        part = self.ready()
        self.expect_equal(part, copy.deepcopy(part), "a deep copy")

    def test_it_stays_finite_in_bf16(self) -> None:
        part = self.ready()
        with torch.autocast("cpu", torch.bfloat16):
            outputs = self.outputs(part, self.inputs(ROWS))
        strange = [name for name, value in outputs.items() if not value.isfinite().all()]
        assert not strange, f"expected finite values under autocast to bf16, got others in {', '.join(strange)}"

    def expect_equal(self, part: Any, other: Any, what: str) -> None:
        """Assert that ``other`` gives, bit for bit, what ``part`` gives."""
        expected, got = (self.outputs(each, self.inputs(ROWS)) for each in (part, other))
        different = [name for name in expected if not torch.equal(expected[name], got[name])]
        assert not different, f"expected {what} to give the same, got another {', '.join(different)}"


def largest_difference(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference, 0 where there is nothing; not a number counts as infinitely far away."""
    apart = (one.detach().double() - other.detach().double()).abs().nan_to_num(nan=torch.inf)
    return float(apart.max()) if apart.numel() else 0.0


def randomise(module: nn.Module) -> None:
    """Draw every trainable weight anew, so that features keep about unit variance."""
    for name, weight in module.named_parameters():
        if weight.requires_grad:
            drawn = normal(name, *weight.shape)
            fan_in = weight[0].numel() if weight.ndim > 1 else 1
            weight.data = drawn / fan_in**0.5 if weight.ndim > 1 else weight.data + 0.2 * drawn

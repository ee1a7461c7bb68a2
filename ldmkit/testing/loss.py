"""Checks of what trains a first stage."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from ldmkit.protocols import FirstStageLoss
from ldmkit.testing.outputs import normal
from ldmkit.testing.process import untouched
from ldmkit.testing.suite import Suite
from ldmkit.values import Posterior, Reconstruction


class LossSuite(Suite):
    """Checks of a part of the group ``loss``, for pictures of 3 x 32 x 32 and latents of 4 x 8 x 8."""

    kind = "loss"
    protocol = FirstStageLoss

    def runtime(self) -> dict[str, Any]:
        return {"image_numel": 3 * 32 * 32, "latent_numel": 4 * 8 * 8}

    def call(self, part: Any, *, error: float = 0.3, step: int = 1) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """The loss of reconstructions that are ``error`` off, its parts, and what it should give gradients to."""
        images = normal("pixels", 3, 3, 32, 32).clamp(-1, 1)
        reconstructions = (images + error * normal("error", 3, 3, 32, 32)).requires_grad_()
        mean, std = normal("mean", 3, 4, 8, 8).requires_grad_(), normal("std", 3, 4, 8, 8).exp().requires_grad_()
        loss, parts = part(images, Reconstruction(reconstructions, Posterior(mean, std)), step)
        return loss, parts, [reconstructions, mean, std]

    def test_it_gives_one_finite_number_and_its_parts_by_name(self) -> None:
        for step in (1, 100_000):
            loss, parts, _ = self.call(self.part(), step=step)
            for name, value in {"the loss": loss, **parts}.items():
                assert isinstance(value, Tensor), f"expected {name} to be a tensor, got {value!r}"
                assert value.shape == (), f"expected {name} to be one number, got {tuple(value.shape)}"
                assert value.isfinite(), f"expected {name} to be finite at step {step}, got {value.item()}"

    def test_its_parts_are_for_the_log_and_carry_no_gradient(self) -> None:
        _, parts, _ = self.call(self.part())
        got = [name for name, value in parts.items() if value.requires_grad]
        assert not got, f"expected detached parts, got a gradient in {', '.join(got)}"

    def test_reconstructions_and_posterior_get_a_finite_gradient(self) -> None:
        loss, _, leaves = self.call(self.part())
        loss.backward()
        for name, leaf in zip(("the reconstructions", "the mean"), leaves, strict=False):
            finite = leaf.grad is not None and bool(leaf.grad.isfinite().all())
            assert finite, f"expected a finite gradient for {name}, got {leaf.grad}"

    def test_a_better_reconstruction_has_a_lower_loss(self) -> None:
        part = self.part()
        better, worse = (self.call(part, error=error)[0].item() for error in (0.01, 0.5))
        assert better < worse, f"expected a lower loss for errors of 0.01 than of 0.5, got {better} and {worse}"

    def test_perfect_reconstructions_have_a_finite_loss_and_gradient(self) -> None:
        loss, _, leaves = self.call(self.part(), error=0.0)
        loss.backward()
        grad = leaves[0].grad
        assert loss.isfinite(), f"expected a finite loss without any error, got {loss.item()}"
        assert grad is None or grad.isfinite().all(), "expected a finite gradient without any error, got another"

    def test_it_gives_the_same_twice_and_draws_no_global_random_numbers(self) -> None:
        part = self.part()
        first, again = (self.call(copy.deepcopy(part))[0] for _ in range(2))
        assert torch.equal(first, again), f"expected the same loss twice, got {first.item()} and {again.item()}"
        with untouched(during="the loss"):
            self.call(part)

    def test_its_constants_are_finite_numbers(self) -> None:
        for name, value in self.part().constants().items():
            assert math.isfinite(value), f"expected the constant {name} to be finite, got {value}"

    def test_its_saved_weights_make_another_instance_give_the_same(self) -> None:
        part, other = self.part(), self.part()
        other.load_state_dict(copy.deepcopy(part.state_dict()))
        assert torch.equal(self.call(part)[0], self.call(other)[0]), "expected the same loss with the saved weights"

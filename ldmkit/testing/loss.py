"""Checks of what trains a first stage."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any
from unittest import SkipTest

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldmkit.protocols import Adversary, FirstStageLoss
from ldmkit.testing.modules import ModuleSuite
from ldmkit.testing.outputs import normal
from ldmkit.testing.process import untouched
from ldmkit.values import Posterior, Reconstruction

EARLY, LATE = 1, 1_000_000
"""Steps before and after what a loss may begin with later, such as an adversary."""


class LossSuite(ModuleSuite):
    """Checks of a part of the group ``loss``, for pictures of 3 x 32 x 32 and latents of 4 x 8 x 8."""

    kind = "loss"
    protocol = FirstStageLoss

    def runtime(self) -> dict[str, Any]:
        return {"image_numel": 3 * 32 * 32, "latent_numel": 4 * 8 * 8, "channels": 3}

    def modules(self, part: Any) -> dict[str, nn.Module]:
        return {"loss": part} if part.adversary is None else {"loss": part, "adversary": part.adversary}

    def found(self, part: Any) -> dict[str, Any]:
        """The loss and its parts at an early and at a late step."""
        found = {}
        for step in (EARLY, LATE):
            loss, parts, _ = self.call(copy.deepcopy(part), step=step)
            found.update({f"{name} at step {step}": value.detach() for name, value in {"loss": loss, **parts}.items()})
        return found

    def learned_from(self, part: Any) -> dict[str, Tensor]:
        return {"loss": self.call(part, step=LATE)[0]}

    def call(
        self, part: Any, *, error: float = 0.3, step: int = EARLY, penalty: float | None = None, spread: bool = True
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """The loss of reconstructions that are ``error`` off, its parts, and what it should give gradients to.

        A last layer that changes nothing makes the reconstructions; the posterior has deviation 0 without ``spread``.
        """
        images = normal("pixels", 3, 3, 32, 32).clamp(-1, 1)
        features = (images + error * normal("error", 3, 3, 32, 32)).requires_grad_()
        last_layer = torch.eye(3)[:, :, None, None].requires_grad_()
        mean, std = normal("mean", 3, 4, 8, 8).requires_grad_(), normal("std", 3, 4, 8, 8).exp().requires_grad_()
        posterior = Posterior(mean, std if spread else torch.zeros_like(std))
        wanted = None if penalty is None else torch.tensor(penalty)
        loss, parts = part(images, Reconstruction(F.conv2d(features, last_layer), posterior, wanted), step, last_layer)
        return loss, parts, [features, mean, std]

    def adversary(self) -> Adversary:
        """What the part plays against the first stage; SkipTest where it plays nothing."""
        adversary: Adversary | None = self.part().adversary
        if adversary is None:
            raise SkipTest("it has no adversary")
        return adversary

    def turn(self, adversary: Adversary) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The adversary's turn at a late step, on pictures and smooth ones."""
        images = normal("pixels", 3, 3, 32, 32).clamp(-1, 1)
        played = adversary(images, F.avg_pool2d(images, 5, stride=1, padding=2), LATE)
        assert played is not None, f"expected the adversary to play at step {LATE}, got None"
        loss: Tensor = played[0]
        return loss, played[1]

    def test_it_gives_one_finite_number_and_its_parts_by_name(self) -> None:
        for step in (EARLY, LATE):
            loss, parts, _ = self.call(self.part(), step=step)
            for name, value in {"the loss": loss, **parts}.items():
                assert isinstance(value, Tensor), f"expected {name} to be a tensor, got {value!r}"
                assert value.shape == (), f"expected {name} to be one number, got {tuple(value.shape)}"
                assert value.isfinite(), f"expected {name} to be finite at step {step}, got {value.item()}"

    def test_its_parts_are_for_the_log_and_carry_no_gradient(self) -> None:
        for step in (EARLY, LATE):
            _, parts, _ = self.call(self.part(), step=step)
            got = [name for name, value in parts.items() if value.requires_grad]
            assert not got, f"expected detached parts, got a gradient in {', '.join(got)}"

    def test_reconstructions_and_posterior_get_a_finite_gradient(self) -> None:
        for step in (EARLY, LATE):
            loss, _, leaves = self.call(self.part(), step=step)
            loss.backward()
            for name, leaf in zip(("the reconstructions", "the mean"), leaves, strict=False):
                finite = leaf.grad is not None and bool(leaf.grad.isfinite().all())
                assert finite, f"expected a finite gradient for {name} at step {step}, got {leaf.grad}"

    def test_a_better_reconstruction_has_a_lower_loss(self) -> None:
        part = self.part()
        better, worse = (self.call(part, error=error)[0].item() for error in (0.01, 0.5))
        assert better < worse, f"expected a lower loss for errors of 0.01 than of 0.5, got {better} and {worse}"

    def test_perfect_reconstructions_have_a_finite_loss_and_gradient(self) -> None:
        for step in (EARLY, LATE):
            loss, _, leaves = self.call(self.part(), error=0.0, step=step)
            loss.backward()
            grad = leaves[0].grad
            assert loss.isfinite(), f"expected a finite loss without any error, got {loss.item()}"
            assert grad is None or grad.isfinite().all(), "expected a finite gradient without any error, got another"

    def test_a_posterior_without_spread_has_a_finite_loss_and_gradient(self) -> None:
        loss, parts, leaves = self.call(self.part(), spread=False)
        loss.backward()
        strange = [name for name, value in {"the loss": loss, **parts}.items() if not value.isfinite()]
        assert not strange, f"expected finite numbers for a deviation of 0, got others for {', '.join(strange)}"
        finite = all(leaf.grad is None or bool(leaf.grad.isfinite().all()) for leaf in leaves)
        assert finite, "expected finite gradients for a deviation of 0, got others"

    def test_a_penalty_of_the_first_stage_raises_the_loss(self) -> None:
        part = self.part()
        lower, higher = (self.call(part, penalty=penalty)[0].item() for penalty in (0.0, 2.0))
        assert lower < higher, f"expected a higher loss for a penalty of 2 than of 0, got {higher} and {lower}"

    def test_it_gives_the_same_twice_and_draws_no_global_random_numbers(self) -> None:
        part = self.part()
        first, again = (self.call(copy.deepcopy(part), step=LATE)[0] for _ in range(2))
        assert torch.equal(first, again), f"expected the same loss twice, got {first.item()} and {again.item()}"
        with untouched(during="the loss"):
            self.call(part, step=LATE)

    def test_its_constants_are_finite_numbers(self) -> None:
        for name, value in self.part().constants().items():
            assert math.isfinite(value), f"expected the constant {name} to be finite, got {value}"

    def test_its_adversary_is_no_part_of_its_own_weights(self) -> None:
        part = self.part()
        if part.adversary is None:
            raise SkipTest("it has no adversary")
        apart = {id(value) for value in part.adversary.state_dict(keep_vars=True).values()}
        shared = [name for name, value in part.state_dict(keep_vars=True).items() if id(value) in apart]
        assert not shared, f"expected the adversary apart, by super().__init__(adversary), got it inside: {shared}"

    def test_a_first_stages_turn_gives_its_adversary_no_gradient(self) -> None:
        part = self.part()
        if part.adversary is None:
            raise SkipTest("it has no adversary")
        self.call(part, step=LATE)[0].backward()
        taught = [name for name, weight in part.adversary.named_parameters() if weight.grad is not None]
        assert not taught, f"expected the first stage's turn to leave the adversary alone, got gradients for {taught}"

    def test_its_adversary_learns_to_tell_pictures_from_reconstructions(self) -> None:
        adversary = self.adversary()
        own = adversary.optimizer
        assert own.lr > 0, f"expected a positive learning rate of its own, got {own.lr}"
        optimizer = torch.optim.AdamW(adversary.parameters(), lr=1e-3, betas=own.betas)
        losses = []
        for _ in range(20):
            loss, parts = self.turn(adversary)
            strange = [name for name, value in parts.items() if value.requires_grad or not value.isfinite()]
            assert not strange, f"expected finite, detached parts of its turn, got others: {', '.join(strange)}"
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0], f"expected its loss to fall in 20 steps, got {losses[0]} and then {losses[-1]}"

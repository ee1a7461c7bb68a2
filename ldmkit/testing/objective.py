"""Checks of objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.protocols import Objective
from ldmkit.specs import Spacing
from ldmkit.testing.modules import ModuleSuite
from ldmkit.testing.outputs import ROWS, largest_difference, normal
from ldmkit.testing.process import untouched
from ldmkit.testing.rows import RowSuite
from ldmkit.testing.suite import refusal
from ldmkit.values import Levels

STEPS = (1, 2, 7, 50, 1000)
ROW_SHAPE = (2, 4, 4)


class ObjectiveSuite(RowSuite, ModuleSuite):
    """Checks of a part of the group ``objective``.

    What the network predicts is not asked: it is solved for, since the x0-estimate of every objective is a straight
    line in the network's output.
    """

    kind = "objective"
    protocol = Objective

    def inputs(self, rows: Sequence[int]) -> Any:
        picked = list(rows)
        latents = (normal(name, 3, *ROW_SHAPE)[picked] for name in ("z0", "noise"))
        raw = normal("raw", 3, self.part().predictions * ROW_SHAPE[0], *ROW_SHAPE[1:])[picked]
        return (*latents, raw), self.part().levels(8)[torch.tensor(picked, dtype=torch.long) * 2]

    def outputs(self, part: Any, inputs: Any) -> dict[str, Tensor]:
        (z0, noise, raw), level = inputs
        z_t = part.add_noise(z0, noise, level)
        return {"z_t": z_t, "x0": part.denoiser_to_x0(raw, z_t, level)}

    def learned_from(self, part: Any) -> dict[str, Tensor]:
        return {"loss": part.loss(lambda z_t, t, c: raw_of(part, z_t), normal("z0", 3, *ROW_SHAPE), None, _random(3))}

    def test_levels_are_as_many_as_asked_and_end_clean(self) -> None:
        part = self.part()
        for steps in STEPS:
            levels = part.levels(steps)
            lengths = {name: len(getattr(levels, name)) for name in ("alpha", "sigma", "t")}
            assert set(lengths.values()) == {steps + 1}, f"expected {steps} + 1 of each, got {lengths}"
            last = (levels.alpha[-1].item(), levels.sigma[-1].item())
            assert last == (1.0, 0.0), f"expected alpha 1 and sigma 0 at the end of {steps} steps, got {last}"

    def test_levels_are_finite_and_have_less_noise_each(self) -> None:
        part = self.part()
        for steps in STEPS:
            levels = part.levels(steps)
            for name in ("alpha", "sigma", "t"):
                finite = getattr(levels, name).isfinite().all()
                assert finite, f"expected finite {name} in {steps} steps, got {getattr(levels, name)}"
            change = torch.atan2(levels.sigma.double(), levels.alpha.double()).diff()
            most = change.max().item()
            assert most < 0, f"expected less noise at each level of {steps} steps, got a change of {most:.2g}"

    def test_every_spacing_gives_as_many_levels_with_less_noise_each_and_keeps_what_they_were_taken_from(self) -> None:
        part = self.part()
        for spacing in get_args(Spacing):
            levels = part.levels(8, spacing)
            expected = f"expected {8} + 1 levels of spacing={spacing}, got {len(levels)}"
            assert len(levels) == 8 + 1 or spacing == "compvis", expected
            change = torch.atan2(levels.sigma.double(), levels.alpha.double()).diff().max().item()
            assert change < 0, f"expected less noise at each level of spacing={spacing}, got a change of {change:.2g}"
            assert levels.path is not None, f"expected levels of spacing={spacing} to have their path, got none"

    def test_fewer_than_one_step_are_refused(self) -> None:
        for steps in (0, -1):
            refusal(ValueError, lambda steps=steps: self.part().levels(steps))  # type: ignore[misc]

    def test_training_draws_a_finite_level_for_each_row_from_its_own_random_numbers(self) -> None:
        part, random = self.part(), _random(64)
        with untouched(during="training_levels"):
            levels = part.training_levels(random)
        again, others = part.training_levels(random), part.training_levels(_random(64, step=1))
        for name in ("alpha", "sigma", "t"):
            value = getattr(levels, name)
            assert value.shape == (64,), f"expected {name} (64,), got {tuple(value.shape)}"
            assert value.isfinite().all(), f"expected finite {name}, got {value}"
            assert torch.equal(value, getattr(again, name)), f"expected the same {name} from the same random numbers"
        assert not torch.equal(levels.t, others.t), "expected other times at another step, got the same"

    def test_sampling_tells_the_network_of_a_level_what_training_told_it(self) -> None:
        part = self.part()
        training, sampling = part.training_levels(_random(256)), part.levels(1000)
        known = torch.stack([sampling.t, torch.atan2(sampling.sigma, sampling.alpha)]).double().numpy()[:, :-1]
        inside = (training.t.numpy() >= known[0].min()) & (training.t.numpy() <= known[0].max())
        assert inside.any(), f"expected times from {known[0].min()} to {known[0].max()}, got {training.t}"
        angle = torch.atan2(training.sigma, training.alpha).double().numpy()
        order = np.argsort(known[0], kind="stable")
        apart = np.abs(np.interp(training.t.numpy(), known[0][order], known[1][order]) - angle)[inside].max()
        assert apart < 0.02, f"expected the same noise at the same time, got atan(sigma / alpha) {apart:.2g} apart"

    def test_noise_is_added_as_alpha_z0_plus_sigma_eps(self) -> None:
        part, ((z0, noise, _), _) = self.part(), self.inputs(ROWS)
        levels = part.levels(7)
        for level in (levels[3], levels[torch.tensor([0, 3, 6])]):
            alpha, sigma = (value.expand(3).view(-1, 1, 1, 1) for value in (level.alpha, level.sigma))
            apart = largest_difference(part.add_noise(z0, noise, level), alpha * z0 + sigma * noise)
            assert apart < 1e-6, f"expected alpha z0 + sigma eps, got {apart:.2g} apart"

    def test_estimates_of_x0_are_finite_at_every_level(self) -> None:
        part, ((z0, noise, raw), _) = self.part(), self.inputs(ROWS)
        levels = part.levels(50)
        for index in range(50):
            x0 = part.denoiser_to_x0(raw, part.add_noise(z0, noise, levels[index]), levels[index])
            assert x0.isfinite().all(), f"expected a finite x0 at level {index} of 50, got others"

    def test_one_level_for_all_rows_is_as_one_for_each(self) -> None:
        part, ((_, z_t, raw), _) = self.part(), self.inputs(ROWS)
        one, each = part.levels(7)[2], part.levels(7)[torch.tensor([2, 2, 2])]
        apart = largest_difference(part.denoiser_to_x0(raw, z_t, one), part.denoiser_to_x0(raw, z_t, each))
        assert apart < 1e-6, f"expected the same x0 with a level of shape () and (B,), got {apart:.2g} apart"

    def test_the_estimate_is_a_straight_line_in_what_the_network_says(self) -> None:
        part, ((_, z_t, raw), _) = self.part(), self.inputs(ROWS)
        level = part.levels(7)[2]
        at = [part.denoiser_to_x0(factor * raw.double(), z_t.double(), level) for factor in (0.0, 1.0, 2.0)]
        apart = largest_difference(at[2] - at[1], at[1] - at[0])
        assert apart < 1e-6, f"expected x0 to be a straight line in the output, got a bend of {apart:.2g}"

    def test_no_network_has_less_loss_than_the_one_that_knows_z0(self) -> None:
        part, random = self.part(), _random(16)
        z0, aside = (normal(name, 16, *ROW_SHAPE).double() for name in ("z0", "aside"))
        level = part.training_levels(random)

        def losses(error: float) -> Tensor:
            def network(z_t: Tensor, t: Tensor, conditioning: Any) -> Tensor:
                return raw_of(part, solve(part, z0, z_t.double(), level) + error * aside)

            value: Tensor = part.loss(network, z0, None, random)
            return value

        least = losses(0.0)
        assert least.shape == (16,), f"expected one loss a row, (16,), got {tuple(least.shape)}"
        for error in (0.1, -0.1, 1.0, -1.0):
            more = losses(error) - least
            worst = more.min().item()
            assert worst >= 0, f"expected no less loss with an error of {error} in the output, got {worst:.2g} more"
            assert more.mean() > 0, f"expected more loss with an error of {error} in the output, got as much"

    def test_the_loss_of_a_row_is_its_own(self) -> None:
        part, random, z0 = self.part(), _random(3), normal("z0", 3, *ROW_SHAPE)
        others = torch.cat([z0[:1], 3 - z0[1:]])
        one, other = (part.loss(lambda z, t, c: raw_of(part, 0.3 * z), x, None, random)[0] for x in (z0, others))
        assert torch.equal(one, other), f"expected the loss of row 0 to stay {one.item()}, got {other.item()}"

    def test_the_loss_tells_the_network_the_level_of_training_and_the_conditioning(self) -> None:
        part, random, heard = self.part(), _random(3), []

        def listening(z_t: Tensor, t: Tensor, conditioning: Any) -> Tensor:
            heard.append((t, conditioning))
            return raw_of(part, z_t)

        with untouched(during="the loss"):
            part.loss(listening, normal("z0", 3, *ROW_SHAPE), "what is asked for", random)
        expected = part.training_levels(random).t
        assert all(torch.equal(t, expected) for t, _ in heard), f"expected t = {expected}, got {[t for t, _ in heard]}"
        assert {told for _, told in heard} == {"what is asked for"}, "expected the conditioning to be handed on"


def solve(part: Any, z0: Tensor, z_t: Tensor, level: Levels) -> Tensor:
    """The prediction with which the x0-estimate is ``z0``: the part of the raw output that the estimate depends on."""
    at_zero = part.denoiser_to_x0(raw_of(part, torch.zeros_like(z_t)), z_t, level)
    slope = part.denoiser_to_x0(raw_of(part, torch.ones_like(z_t)), z_t, level) - at_zero
    return (z0 - at_zero) / slope


def raw_of(part: Any, prediction: Tensor) -> Tensor:
    """The raw output of a network that says ``prediction``; of what else the part wants to know, it says zeros."""
    return torch.cat([prediction, *[torch.zeros_like(prediction)] * (part.predictions - 1)], dim=1)


def _random(rows: int, step: int = 0) -> RowRandom:
    return RowRandom.of(0, "testing", step, range(rows))

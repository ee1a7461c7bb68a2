"""Checks of guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ldmkit.protocols import Guidance
from ldmkit.testing.outputs import ROWS, RowSuite, largest_difference, normal
from ldmkit.values import Conditioning, Levels

LEVEL = Levels(torch.tensor(0.6), torch.tensor(0.8), torch.tensor(500.0))


class MadeUpDenoise:
    """An x0-estimate that is a plain function of the latents, the level and the conditioning; counts its uses."""

    def __init__(self) -> None:
        self.prepared = 0
        self.rows = 0

    def prepare(self, conditioning: Conditioning) -> Any:
        """Give the conditioning in a form of our own, to see whether it is handed on."""
        self.prepared += 1
        return {"conditioning": conditioning}

    def __call__(self, z: Tensor, level: Levels, prepared: Any) -> Tensor:
        conditioning = prepared["conditioning"]
        self.rows += len(z)
        x0 = level.alpha * z
        for each in (conditioning.vector, conditioning.tokens):
            if each is not None:
                assert len(each) == len(z), f"expected as many rows of conditioning as of latents, got {len(each)}"
                x0 = x0 + each.flatten(1).mean(1).view(-1, 1, 1, 1)
        return x0 if conditioning.map is None else x0 + conditioning.map.mean(1, keepdim=True)


class GuidanceSuite(RowSuite):
    """Checks of a part of the group ``guidance``."""

    kind = "guidance"
    protocol = Guidance

    def inputs(self, rows: Sequence[int]) -> Any:
        picked = list(rows)
        return (
            normal("z", 3, 4, 2, 2)[picked],
            conditioning("asked").apply(lambda value: value[picked]),
            conditioning("null").apply(lambda value: value[picked]),
        )

    def outputs(self, part: Any, inputs: Any) -> dict[str, Tensor]:
        z, asked, null = inputs
        return {"x0": part.guide(MadeUpDenoise(), asked, null)(z, LEVEL)}

    def test_an_estimate_has_the_shape_and_type_of_the_latents(self) -> None:
        z, asked, null = self.inputs(ROWS)
        for dtype in (torch.float32, torch.float64):
            got = part_guided(self.part(), asked, null)(z.to(dtype), LEVEL)
            expected = f"expected {dtype} {tuple(z.shape)}, got {got.dtype} {tuple(got.shape)}"
            assert (got.shape, got.dtype) == (z.shape, dtype), expected

    def test_a_conditioning_that_says_nothing_gives_the_conditional_estimate(self) -> None:
        z, asked, _ = self.inputs(ROWS)
        denoise = MadeUpDenoise()
        expected = denoise(z, LEVEL, denoise.prepare(asked))
        apart = largest_difference(part_guided(self.part(), asked, asked)(z, LEVEL), expected)
        assert apart < 1e-5, f"expected the conditional estimate where the null is the same, got {apart:.2g} apart"

    def test_a_model_without_conditioners_is_guided_too(self) -> None:
        z, _, _ = self.inputs(ROWS)
        denoise = MadeUpDenoise()
        expected = denoise(z, LEVEL, denoise.prepare(Conditioning()))
        apart = largest_difference(part_guided(self.part(), Conditioning(), Conditioning())(z, LEVEL), expected)
        assert apart < 1e-5, f"expected the plain estimate without conditioning, got {apart:.2g} apart"

    def test_what_is_asked_for_matters(self) -> None:
        z, asked, null = self.inputs(ROWS)
        other = replace(asked, vector=asked.vector + 1)
        one, two = (part_guided(self.part(), each, null)(z, LEVEL) for each in (asked, other))
        assert not torch.equal(one, two), "expected another estimate for another conditioning, got the same"

    def test_conditioning_is_prepared_once_for_all_steps(self) -> None:
        z, asked, null = self.inputs(ROWS)
        denoise = MadeUpDenoise()
        guided = self.part().guide(denoise, asked, null)
        guided(z, LEVEL)
        before = denoise.prepared
        guided(z, LEVEL)
        assert denoise.prepared == before, f"expected no preparing in a later step, got {denoise.prepared - before}"

    def test_every_step_is_guided_alike(self) -> None:
        z, asked, null = self.inputs(ROWS)
        guided = part_guided(self.part(), asked, null)
        first = guided(z, LEVEL)
        assert torch.equal(guided(z, LEVEL), first), "expected the same estimate for the same latents at a later step"


def conditioning(name: str) -> Conditioning:
    """Three rows of all three forms."""
    tokens, vector = normal(f"{name} tokens", 3, 5, 8), normal(f"{name} vector", 3, 6)
    mask = torch.ones(3, 5, dtype=torch.bool)
    return Conditioning(tokens=tokens, mask=mask, vector=vector, map=normal(f"{name} map", 3, 2, 2, 2))


def part_guided(part: Any, asked: Conditioning, null: Conditioning) -> Any:
    """The guided estimate over a fresh made-up one."""
    return part.guide(MadeUpDenoise(), asked, null)

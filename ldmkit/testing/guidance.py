"""Checks of guidance."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from ldmkit.protocols import ConditionalDenoise, Guidance, Perturbation
from ldmkit.testing.outputs import ROWS, largest_difference, normal
from ldmkit.testing.rows import RowSuite
from ldmkit.values import Conditioning, Levels

LEVEL = Levels(torch.tensor(0.6), torch.tensor(0.8), torch.tensor(500.0))


@dataclass
class MadeUpDenoise:
    """An x0-estimate that is a plain function of the latents, the level and the conditioning; counts its uses.

    Told of some conditioners only, it is told the vector of ``asked`` and else nothing. The weaker and the perturbed
    estimate are ``apart`` from its own.
    """

    asked: Conditioning
    null: Conditioning
    conditioners: Sequence[str] = ("text", "semantic")
    apart: float = 0.0
    prepared: int = 0
    seen: list[tuple[Tensor, Levels]] = field(default_factory=list)

    def told(self, conditioners: Collection[str]) -> Conditioning:
        """Both of two conditioners, none, or one."""
        if set(conditioners) >= set(self.conditioners):
            return self.asked
        return replace(self.null, vector=self.asked.vector) if conditioners else self.null

    def prepare(self, conditioning: Conditioning) -> Any:
        """Give the conditioning in a form of our own, to see whether it is handed on."""
        self.prepared += 1
        return {"conditioning": conditioning}

    def __call__(self, z: Tensor, level: Levels, prepared: Any) -> Tensor:
        conditioning = prepared["conditioning"]
        self.seen.append((z, level))
        x0 = level.alpha * z
        for each in (conditioning.vector, conditioning.tokens):
            if each is not None:
                assert len(each) == len(z), f"expected as many rows of conditioning as of latents, got {len(each)}"
                x0 = x0 + each.flatten(1).mean(1).view(-1, 1, 1, 1)
        return x0 if conditioning.map is None else x0 + conditioning.map.mean(1, keepdim=True)

    def perturbed(self, where: Perturbation) -> ConditionalDenoise:
        """See :meth:`ldmkit.protocols.ConditionalDenoise.perturbed`."""
        return Apart(self)

    def weaker(self) -> ConditionalDenoise:
        """See :meth:`ldmkit.protocols.ConditionalDenoise.weaker`."""
        return Apart(self)


@dataclass
class Apart:
    """The estimates of ``denoise``, so much shrunk as it says."""

    denoise: MadeUpDenoise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.denoise, name)

    def __call__(self, z: Tensor, level: Levels, prepared: Any) -> Tensor:
        return self.denoise(z, level, prepared) * (1 - self.denoise.apart)


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
        return {"x0": part_guided(part, asked, null, apart=0.3)(z, LEVEL)}

    def test_an_estimate_has_the_shape_and_type_of_the_latents(self) -> None:
        z, asked, null = self.inputs(ROWS)
        for dtype in (torch.float32, torch.float64):
            got = part_guided(self.part(), asked, null)(z.to(dtype), LEVEL)
            expected = f"expected {dtype} {tuple(z.shape)}, got {got.dtype} {tuple(got.shape)}"
            assert (got.shape, got.dtype) == (z.shape, dtype), expected

    def test_a_conditioning_that_says_nothing_gives_the_conditional_estimate(self) -> None:
        z, asked, _ = self.inputs(ROWS)
        denoise = MadeUpDenoise(asked, asked)
        expected = denoise(z, LEVEL, denoise.prepare(asked))
        apart = largest_difference(part_guided(self.part(), asked, asked)(z, LEVEL), expected)
        assert apart < 1e-5, f"expected the conditional estimate where the null is the same, got {apart:.2g} apart"

    def test_a_model_without_conditioners_is_guided_too(self) -> None:
        z, _, _ = self.inputs(ROWS)
        denoise = MadeUpDenoise(Conditioning(), Conditioning())
        expected = denoise(z, LEVEL, denoise.prepare(Conditioning()))
        apart = largest_difference(part_guided(self.part(), Conditioning(), Conditioning())(z, LEVEL), expected)
        assert apart < 1e-5, f"expected the plain estimate without conditioning, got {apart:.2g} apart"

    def test_what_is_asked_for_matters(self) -> None:
        z, asked, null = self.inputs(ROWS)
        other = replace(asked, vector=asked.vector + 1)
        one, two = (part_guided(self.part(), each, null)(z, LEVEL) for each in (asked, other))
        assert not torch.equal(one, two), "expected another estimate for another conditioning, got the same"

    def test_a_null_that_it_does_not_ask_for_does_not_matter(self) -> None:
        if self.part().nulls != ():
            raise SkipTest("it asks for the null conditioning")
        z, asked, null = self.inputs(ROWS)
        other = replace(null, vector=null.vector + 1)
        one, two = (part_guided(self.part(), asked, each, apart=0.3)(z, LEVEL) for each in (null, other))
        apart = largest_difference(one, two)
        assert apart < 1e-5, f"expected nulls = () to mean that the null does not matter, got {apart:.2g} apart"

    def test_conditioning_is_prepared_once_for_all_steps(self) -> None:
        z, asked, null = self.inputs(ROWS)
        denoise = MadeUpDenoise(asked, null)
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

    def test_it_asks_about_the_latents_and_the_level_that_it_is_given(self) -> None:
        z, asked, null = self.inputs(ROWS)
        denoise = MadeUpDenoise(asked, null)
        self.part().guide(denoise, asked, null)(z, LEVEL)
        for got, level in denoise.seen:
            assert level is LEVEL, f"expected to be asked at the level {LEVEL}, got {level}"
            same = all(torch.equal(rows, z) for rows in got.split(len(z)))
            assert same, "expected to be asked about the latents as they are, got others"

    def test_it_is_finite_from_pure_noise_to_almost_none(self) -> None:
        z, asked, null = self.inputs(ROWS)
        guided = part_guided(self.part(), asked, null, apart=0.3)
        for sigma in (1.0, 1 - 1e-6, 0.5, 1e-3, 1e-5):
            alpha = (1 - sigma**2) ** 0.5
            x0 = guided(z, Levels(torch.tensor(alpha), torch.tensor(sigma), torch.tensor(sigma)))
            assert x0.isfinite().all(), f"expected a finite estimate at alpha {alpha}, sigma {sigma}, got others"


def conditioning(name: str) -> Conditioning:
    """Three rows of all three forms."""
    tokens, vector = normal(f"{name} tokens", 3, 5, 8), normal(f"{name} vector", 3, 6)
    mask = torch.ones(3, 5, dtype=torch.bool)
    return Conditioning(tokens=tokens, mask=mask, vector=vector, map=normal(f"{name} map", 3, 2, 2, 2))


def part_guided(part: Any, asked: Conditioning, null: Conditioning, apart: float = 0.0) -> Any:
    """The guided estimate over a fresh made-up one."""
    names = tuple(part.conditioners) if part.conditioners else ("text", "semantic")
    return part.guide(MadeUpDenoise(asked, null, names, apart), asked, null)

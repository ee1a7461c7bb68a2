"""Guidance follows its formula, and computes no more than it needs."""

from dataclasses import dataclass, field

import pytest
import torch
from ldmkit_guidance.cfg import CFG
from ldmkit_guidance.unguided import Unguided
from torch import Tensor

from ldmkit.protocols import Guidance
from ldmkit.values import Conditioning, Levels

LEVEL = Levels(torch.tensor(0.6), torch.tensor(0.8), torch.tensor(500.0))


@dataclass
class Denoise:
    """x0 = z + the vector of the conditioning; counts what it is asked."""

    prepared: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    def prepare(self, conditioning: Conditioning) -> Tensor | None:
        self.prepared.append(0 if conditioning.vector is None else len(conditioning.vector))
        return conditioning.vector

    def __call__(self, z: Tensor, level: Levels, prepared: Tensor | None) -> Tensor:
        self.calls.append(len(z))
        return z * level.alpha if prepared is None else z * level.alpha + prepared[:, :, None, None].sin()


def guidance(scale: float) -> Guidance:
    return CFG(CFG.Config(name="cfg", scale=scale))


def conditioning(seed: int) -> Conditioning:
    return Conditioning(vector=torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)))


Z = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 2.5, 7.5])
def test_classifier_free_guidance_is_the_formula_over_two_separate_passes(scale: float) -> None:
    cond, null = conditioning(1), conditioning(2)
    alone = Denoise()
    x0_cond, x0_null = alone(Z, LEVEL, cond.vector), alone(Z, LEVEL, null.vector)
    guided = guidance(scale).guide(Denoise(), cond, null)(Z, LEVEL)
    torch.testing.assert_close(guided, (1 - scale) * x0_null + scale * x0_cond, rtol=1e-5, atol=1e-5)


def test_both_estimates_come_from_one_batch_that_is_prepared_once() -> None:
    denoise = Denoise()
    guided = guidance(2.5).guide(denoise, conditioning(1), conditioning(2))
    for _ in range(4):
        assert guided(Z, LEVEL).shape == Z.shape
    assert denoise.prepared == [6]
    assert denoise.calls == [6, 6, 6, 6]


@pytest.mark.parametrize("part", [guidance(1.0), Unguided(Unguided.Config(name="none"))], ids=["scale 1", "none"])
def test_the_conditional_estimate_costs_one_pass(part: Guidance) -> None:
    denoise = Denoise()
    estimate = part.guide(denoise, conditioning(1), conditioning(2))(Z, LEVEL)
    assert torch.equal(estimate, Denoise()(Z, LEVEL, conditioning(1).vector))
    assert (denoise.prepared, denoise.calls) == ([3], [3])


def test_without_conditioning_there_is_nothing_to_guide() -> None:
    denoise = Denoise()
    guidance(2.5).guide(denoise, Conditioning(), Conditioning())(Z, LEVEL)
    assert denoise.calls == [3]


def test_every_form_and_the_mask_reach_the_denoiser_null_first() -> None:
    seen: list[Conditioning] = []

    class Listening(Denoise):
        def prepare(self, conditioning: Conditioning) -> None:
            seen.append(conditioning)

    def full(value: float) -> Conditioning:
        mask = torch.tensor([[True, value > 0]]).expand(3, 2)
        return Conditioning(
            torch.full((3, 2, 5), value), mask, torch.full((3, 4), value), torch.full((3, 1, 5, 5), value)
        )

    guidance(2.0).guide(Listening(), full(1.0), full(0.0))
    (both,) = seen
    for form in (both.tokens, both.mask, both.vector, both.map):
        assert form is not None
        assert len(form) == 6
        assert form[3:].float().mean() > form[:3].float().mean()

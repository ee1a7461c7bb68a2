"""Classifier-free guidance computes no more than it needs, and hands on all that it is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ldmkit.protocols import Guidance
from ldmkit.values import Conditioning, Levels

LAWS = {(): (0.3, 1.2), ("text",): (1.5, 0.6), ("semantic",): (0.9, 0.9), ("text", "semantic"): (1.1, 0.4)}
LEVEL = Levels(torch.tensor(0.6), torch.tensor(0.8), torch.tensor(500.0))


@pytest.fixture
def model(gaussians: Any) -> Any:
    return gaussians(LAWS)


def test_both_estimates_come_from_one_batch_that_is_prepared_once(guidance: Any, model: Any, z: Tensor) -> None:
    guided = model.guided(guidance("cfg"))
    for _ in range(4):
        assert guided(z, LEVEL).shape == z.shape
    assert model.prepared == [6]
    assert model.calls == [6, 6, 6, 6]


def test_sequential_estimates_are_those_of_the_batch_in_half_the_memory(guidance: Any, model: Any, z: Tensor) -> None:
    together = model.guided(guidance("cfg", batched=True))(z, LEVEL)
    model.calls.clear()
    torch.testing.assert_close(model.guided(guidance("cfg", batched=False))(z, LEVEL), together)
    assert model.calls == [3, 3]


@pytest.mark.parametrize(
    ("option", "keys"),
    [("cfg", {"scale": 1.0}), ("cfg", {"scale": {"text": 1.0, "semantic": 1.0}}), ("none", {})],
)
def test_the_conditional_estimate_costs_one_pass(
    *, option: str, keys: dict[str, Any], guidance: Any, model: Any, exact_x0: Any, z: Tensor
) -> None:
    estimate = model.guided(guidance(option, **keys))(z, LEVEL)
    torch.testing.assert_close(estimate, exact_x0(*LAWS["text", "semantic"], z, LEVEL))
    assert (model.prepared, model.calls) == ([3], [3])


@pytest.mark.parametrize(
    ("option", "keys"),
    [
        ("none", {}),
        *(("cfg", {"scale": scale}) for scale in (1.0, 0.0, 4.0)),
        *(("cfg", {"scale": {"text": text, "semantic": semantic}}) for text, semantic in ((1, 1), (1, 4), (4, 1))),
        *(("cfg-zero-star", {"scale": scale, "zero_init": 0.0}) for scale in (1.0, 4.0)),
        *(("pag", {"cfg_scale": scale}) for scale in (1.0, 4.0)),
        ("autoguidance", {"run": "x"}),
    ],
)
def test_the_nulls_that_it_says_it_asks_for_are_those_that_matter(
    *, option: str, keys: dict[str, Any], guidance: Any, gaussians: Any, z: Tensor
) -> None:
    part = guidance(option, **keys)
    other = gaussians({(): (0.0, 1.0), ("text", "semantic"): (0.2, 0.9)})
    before = gaussians(LAWS, other=other).guided(part)(z, LEVEL)
    for name in ("text", "semantic"):
        changed = {told: law if name in told else (law[0] + 1, law[1]) for told, law in LAWS.items()}
        same = torch.allclose(gaussians(changed, other=other).guided(part)(z, LEVEL), before)
        assert same == (part.nulls is not None and name not in part.nulls)


@pytest.mark.parametrize(
    ("scale", "evaluations"),
    [({"text": 4.0, "semantic": 1.5}, 3), ({"text": 1.0, "semantic": 1.5}, 2), ({"text": 4.0, "semantic": 4.0}, 2)],
)
def test_scales_by_conditioner_cost_one_evaluation_for_each_that_differs_and_one_more(
    scale: dict[str, float], evaluations: int, guidance: Any, model: Any, z: Tensor
) -> None:
    model.guided(guidance("cfg", scale=scale))(z, LEVEL)
    assert model.calls == [3 * evaluations]


def test_equal_scales_by_conditioner_are_one_scale(guidance: Any, model: Any, z: Tensor) -> None:
    by_name = model.guided(guidance("cfg", scale={"text": 2.5, "semantic": 2.5}))(z, LEVEL)
    assert torch.equal(by_name, model.guided(guidance("cfg", scale=2.5))(z, LEVEL))


@pytest.mark.parametrize("option", ["cfg", "cfg-zero-star"])
def test_without_conditioning_there_is_nothing_to_guide(option: str, guidance: Any, z: Tensor) -> None:
    calls: list[int] = []

    class Plain:
        conditioners = ()

        def prepare(self, conditioning: Conditioning) -> None:
            return None

        def __call__(self, z: Tensor, level: Levels, prepared: None) -> Tensor:
            calls.append(len(z))
            return z.sin()

    part: Guidance = guidance(option, batched=False)
    torch.testing.assert_close(part.guide(Plain(), Conditioning(), Conditioning())(z, LEVEL), z.sin())
    assert option != "cfg" or calls == [3]


def test_every_form_and_the_mask_reach_the_denoiser_null_first(guidance: Any, model: Any) -> None:
    seen: list[Conditioning] = []
    model.prepare = seen.append

    def full(value: float) -> Conditioning:
        mask = torch.tensor([[True, value > 0]]).expand(3, 2)
        return Conditioning(
            torch.full((3, 2, 5), value), mask, torch.full((3, 4), value), torch.full((3, 1, 5, 5), value)
        )

    guidance("cfg").guide(model, full(1.0), full(0.0))
    (both,) = seen
    for form in (both.tokens, both.mask, both.vector, both.map):
        assert form is not None
        assert len(form) == 6
        assert form[3:].float().mean() > form[:3].float().mean()

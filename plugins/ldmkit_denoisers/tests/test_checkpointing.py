"""Gradient checkpointing keeps less and changes nothing: not the output, not one gradient, with dropout either."""

from collections.abc import Callable

import pytest
import torch
from ldmkit_denoisers.unet import UNet
from torch import Tensor

from ldmkit.values import Conditioning

Build = Callable[..., UNet]
FORMS = {"tokens": 24, "vector": 10, "map": 3}


def step(network: UNet, bf16: bool = False) -> tuple[Tensor, dict[str, Tensor], int]:
    """Output, gradients by name, and how many numbers are kept for the backward pass."""
    torch.manual_seed(1)
    leaves = {"tokens": torch.randn(2, 5, 24), "vector": torch.randn(2, 10), "map": torch.randn(2, 3, 8, 8)}
    mask = torch.arange(5)[None] < torch.tensor([[5], [2]])
    told = Conditioning(**{name: leaf.requires_grad_() for name, leaf in leaves.items()}, mask=mask)
    z, t = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 800.0])
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.numel()
        return value

    weights = dict(network.named_parameters())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = network(z, t, told)
        for weight in weights.values():
            kept.pop(weight.untyped_storage().data_ptr(), None)
        count = sum(kept.values())
    torch.manual_seed(2)  # the backward pass must not depend on where the generator is
    out.square().sum().backward()
    gradients = {name: leaf.grad for name, leaf in {**weights, **leaves}.items() if leaf.grad is not None}
    assert len(gradients) == len(weights) + 3
    return out.detach(), gradients, count


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_output_and_gradients_are_the_same_bits_and_less_is_kept(build: Build, dropout: float, bf16: bool) -> None:
    plain, again = (build(**FORMS, dropout=dropout, checkpointing=checkpointing) for checkpointing in (False, True))
    (expected, gradients, kept), (out, mine, kept_again) = step(plain, bf16), step(again, bf16)
    assert torch.equal(out, expected)
    assert [name for name, gradient in gradients.items() if not torch.equal(mine[name], gradient)] == []
    assert kept_again < kept / 3


def test_dropout_is_drawn_and_differs_from_step_to_step(build: Build) -> None:
    network = build(**FORMS, dropout=0.3, checkpointing=True)
    told = Conditioning(torch.ones(2, 5, 24), None, torch.ones(2, 10), torch.ones(2, 3, 8, 8))
    z, t = torch.randn(2, 4, 8, 8), torch.zeros(2)
    assert not torch.equal(network(z, t, told), network(z, t, told))


@torch.no_grad()
def test_without_gradients_nothing_is_computed_differently(build: Build) -> None:
    z, t, told = torch.randn(2, 4, 8, 8), torch.zeros(2), Conditioning(tokens=torch.randn(2, 5, 24))
    assert torch.equal(build(checkpointing=True)(z, t, told), build()(z, t, told))

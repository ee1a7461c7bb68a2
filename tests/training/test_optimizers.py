"""Muon against its definition and against torch's own, and the learning-rate schedule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ldmkit.training.optimizers import Muon, hidden_weights, make_optimizers, orthogonalise, scheduled


def spectrum(matrices: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(matrices.float())


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 40), (2, 40, 8), (1, 64, 576)])
def test_orthogonalising_brings_singular_values_near_one_and_keeps_the_directions(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalise(matrices, steps=8)
    assert result.shape == matrices.shape
    # Jordan et al. 2024: the tuned coefficients end within about [0.7, 1.2]; bfloat16 widens that a little.
    assert spectrum(result).min() > 0.6
    assert spectrum(result).max() < 1.25
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    overlap = (result.float() * (u @ v)).sum((1, 2)) / (result.float().norm(dim=(1, 2)) * (u @ v).norm(dim=(1, 2)))
    assert overlap.min() > 0.95  # values at both ends of [0.7, 1.2] give mean / rms = 0.967


def test_a_matrix_in_a_batch_is_treated_as_alone() -> None:
    matrices = torch.randn(4, 12, 20, generator=torch.Generator().manual_seed(1))
    together, alone = orthogonalise(matrices), orthogonalise(matrices[2:3])
    torch.testing.assert_close(together[2].float(), alone[0].float(), atol=0.02, rtol=0.02)


def test_on_matrices_it_is_torchs_muon() -> None:
    ours, theirs = (nn.Linear(24, 16, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    mine = Muon(ours.parameters(), lr=0.02, momentum=0.95, weight_decay=0.1)
    reference = torch.optim.Muon(theirs.parameters(), lr=0.02, momentum=0.95, weight_decay=0.1, nesterov=True)
    for step in range(5):
        gradient = torch.randn(16, 24, generator=torch.Generator().manual_seed(step))
        ours.weight.grad, theirs.weight.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    torch.testing.assert_close(ours.weight, theirs.weight, atol=2e-3, rtol=0)


def test_a_convolution_is_updated_as_its_flattened_matrix() -> None:
    conv, linear = nn.Conv2d(4, 8, 3, bias=False), nn.Linear(36, 8, bias=False)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.flatten(1))
    gradient = torch.randn(8, 36, generator=torch.Generator().manual_seed(0))
    conv.weight.grad, linear.weight.grad = gradient.view(8, 4, 3, 3), gradient.clone()
    for layer in (conv, linear):
        Muon(layer.parameters(), lr=0.1).step()
    torch.testing.assert_close(conv.weight.flatten(1), linear.weight)


def test_channels_last_weights_are_updated_like_others() -> None:
    conv, other = nn.Conv2d(4, 8, 3, bias=False), nn.Conv2d(4, 8, 3, bias=False).to(memory_format=torch.channels_last)
    other.load_state_dict(conv.state_dict())
    gradient = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    conv.weight.grad, other.weight.grad = gradient, gradient.to(memory_format=torch.channels_last)
    for layer in (conv, other):
        Muon(layer.parameters(), lr=0.1).step()
    torch.testing.assert_close(conv.weight, other.weight)


def test_every_parameter_has_one_optimizer() -> None:
    net = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Conv2d(8, 8, 3))
    assert [tuple(w.shape) for w in hidden_weights(net)] == [(8, 8), (8, 8, 3, 3)]
    for kind in ("muon", "adamw"):
        optimizers = make_optimizers(net, kind=kind, lr=1e-3, muon_lr=1e-2, betas=(0.9, 0.99), weight_decay=0.0)
        held = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in net.parameters())


def test_the_schedule_warms_up_linearly_and_ends_at_zero() -> None:
    rates = [scheduled(step, 100, 10, "cosine") for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[50] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(0.99 * math.pi)))
    assert [scheduled(step, 100, 10, "constant") for step in (4, 10, 99)] == [0.5, 1, 1]
    assert scheduled(0, 100, 0, "constant") == 1

"""The codebook: nearest codes, a gradient that goes straight through, and codes that come back from the dead."""

import math
from typing import Any

import pytest
import torch
from ldmkit_first_stages import codebook as module
from ldmkit_first_stages.codebook import Codebook
from ldmkit_first_stages.quantiser import counts
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ldmkit.artifacts.random import RowRandom
from ldmkit.values import code_usage


def build(codes: int = 8, channels: int = 2, **changes: Any) -> Codebook:
    """A codebook with codes of unit variance."""
    keys: dict[str, Any] = {"commitment": 0.25, "placing": "commitment", "revive_after": 0} | changes
    torch.manual_seed(0)
    codebook = Codebook(codes=codes, channels=channels, **keys)
    torch.nn.init.normal_(codebook.embedding.weight)
    return codebook


def latents(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows(count: int, step: int = 0) -> RowRandom:
    return RowRandom.of(0, "test", step, range(count))


def test_codes_begin_uniform_within_one_over_their_number() -> None:
    torch.manual_seed(0)
    weight = Codebook(codes=500, channels=4, commitment=0.25, placing="commitment", revive_after=0).embedding.weight
    assert weight.shape == (500, 4)
    assert weight.abs().max() <= 1 / 500
    assert weight.std().item() == pytest.approx(1 / 500 / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("distances", [1, 30, 2**24])
def test_each_position_takes_the_code_that_is_nearest(distances: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISTANCES", distances)
    codebook, z = build(codes=11, channels=3), latents(2, 3, 5, 4)
    apart = torch.cdist(z.movedim(1, -1).flatten(0, 2).double(), codebook.embedding.weight.double())
    codes = codebook.codes(z)
    assert codes.shape == (2, 5, 4, 1)
    assert torch.equal(codes.flatten(), apart.argmin(1))
    assert torch.equal(codebook(z).movedim(1, -1), codebook.embedding.weight[codes[..., 0]])


def test_codes_that_are_close_together_far_from_the_origin_are_told_apart() -> None:
    # |z|^2 has 7 digits in fp32: added to each distance, it would drown differences as small as those of fresh codes.
    codebook = build(codes=2, channels=1)
    codebook.embedding.weight.data = torch.tensor([[-1e-4], [1e-4]])
    z = torch.tensor([-30.0, 30.0, -100.0, 100.0]).view(1, 1, 2, 2)
    assert codebook.codes(z).flatten().tolist() == [0, 1, 0, 1]


class Largest(TorchDispatchMode):
    """Records the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.numel = max(self.numel, made.numel())
        return made


def test_memory_does_not_grow_with_positions_times_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISTANCES", 200_000)
    codebook, z = build(codes=1000), latents(1, 2, 64, 64)
    with Largest() as largest:
        codebook.codes(z)
    assert largest.numel == 200_000  # 4096 positions have 4,096,000 distances


def test_the_value_is_the_code_and_the_gradient_that_of_the_latents() -> None:
    codebook, z = build(), latents(2, 2, 3, 3).requires_grad_()
    quantised = codebook(z)
    assert not torch.equal(quantised, z)
    assert torch.equal(codebook(quantised), quantised)
    weights = latents(2, 2, 3, 3, seed=1)
    (quantised * weights).sum().backward()
    assert torch.equal(z.grad, weights)
    assert codebook.embedding.weight.grad is None


@pytest.mark.parametrize(("placing", "of_codes", "of_latents"), [("commitment", 1.0, 0.25), ("legacy", 0.25, 1.0)])
def test_the_weight_is_on_the_commitment_term_and_with_legacy_on_the_other(
    placing: str, of_codes: float, of_latents: float
) -> None:
    # van den Oord et al. 2017, equation 3: |sg(z) - e|^2 + beta |z - sg(e)|^2, here as means over the elements of z.
    codebook, z = build(placing=placing), latents(3, 2, 4, 4).requires_grad_()
    made = codebook.learn(z, rows(3))
    codes = codebook.codes(z).flatten()
    vectors = codebook.embedding.weight.detach()[codes]
    difference = z.detach().movedim(1, -1).flatten(0, 2) - vectors
    torch.testing.assert_close(made.penalty, 1.25 * difference.square().mean())
    made.penalty.backward()
    expected = torch.zeros_like(codebook.embedding.weight).index_add_(0, codes, -2 * difference / z.numel())
    torch.testing.assert_close(codebook.embedding.weight.grad, of_codes * expected)
    torch.testing.assert_close(z.grad.movedim(1, -1).flatten(0, 2), of_latents * 2 * difference / z.numel())
    torch.testing.assert_close(made.parts["codebook"], difference.square().mean())
    torch.testing.assert_close(made.parts["commitment"], difference.square().mean())


def test_gradients_are_those_of_finite_differences() -> None:
    codebook = build(channels=2).double()
    z = latents(1, 2, 2, 2).double().requires_grad_()
    weight = codebook.embedding.weight

    def terms(z: Tensor, weight: Tensor) -> Tensor:
        # Where no gradient is stopped, one distance has both: the commitment term's to z, the codebook term's to e.
        vectors = weight[codebook.codes(z.detach()).flatten()]
        return (z.movedim(1, -1).flatten(0, 2) - vectors).square().mean()

    assert torch.autograd.gradcheck(terms, (z, weight.detach().clone().requires_grad_()))
    of_z, of_weight = torch.autograd.grad(terms(z, weight), (z, weight))
    made = codebook.learn(z, rows(1)).penalty
    ours_z, ours_weight = torch.autograd.grad(made, (z, weight))
    torch.testing.assert_close(ours_z, 0.25 * of_z)
    torch.testing.assert_close(ours_weight, of_weight)


def test_usage_counts_codes_and_perplexity_how_evenly_they_are_used() -> None:
    alike = code_usage(counts(torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]).view(2, 2, 2, 1), 16))
    assert alike["usage"].item() == 4 / 16
    assert alike["perplexity"].item() == pytest.approx(4)
    alone = code_usage(counts(torch.zeros(2, 2, 2, 1, dtype=torch.int64), 16))
    assert (alone["usage"].item(), alone["perplexity"].item()) == (1 / 16, 1)
    uneven = code_usage(counts(torch.tensor([0, 0, 0, 1]).view(1, 2, 2, 1), 2))
    assert uneven["perplexity"].item() == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_of_several_codes_for_a_position_the_mean_is_reported() -> None:
    both = code_usage(counts(torch.tensor([[0, 0], [0, 1]]).view(1, 1, 2, 2), 2))
    assert (both["usage"].item(), both["perplexity"].item()) == (pytest.approx(0.75), pytest.approx(1.5))


def far(codebook: Codebook, codes: slice) -> None:
    """Put ``codes`` where no latent is, and tell the codebook that all were just used."""
    codebook.embedding.weight.data[codes] = 1000.0
    codebook.idle.zero_()


def test_a_code_without_use_for_so_many_steps_is_put_at_a_latent_of_the_batch() -> None:
    codebook = build(revive_after=3).train()
    far(codebook, slice(5, 8))
    for step in range(3):
        codebook.learn(latents(2, 2, 8, 8, seed=step), rows(2, step))
        assert (codebook.embedding.weight[5:] == 1000).all(), step
    z = latents(2, 2, 8, 8, seed=9)
    kept = codebook.embedding.weight[:5].clone()
    made = codebook.learn(z, rows(2, 9))
    revived = codebook.embedding.weight[5:]
    positions = z.movedim(1, -1).flatten(0, 2)
    where = [(positions == code).all(1).nonzero().item() for code in revived]
    assert len(set(where)) == 3
    assert torch.equal(codebook.embedding.weight[:5], kept)
    assert set(range(5, 8)) <= set(codebook.codes(z).flatten().tolist())
    assert made.parts["usage"].item() == 1
    assert (codebook.idle == 0).all()


def test_codes_that_were_never_used_begin_at_latents_of_the_first_batch() -> None:
    codebook = Codebook(codes=16, channels=2, commitment=0.25, placing="commitment", revive_after=100).train()
    made = codebook.learn(latents(2, 2, 8, 8), rows(2))
    assert made.parts["usage"].item() == 1


def test_more_dead_codes_than_positions_are_revived_in_several_steps() -> None:
    codebook = build(codes=10, revive_after=1).train()
    far(codebook, slice(0, 10))
    codebook.idle.fill_(1)
    codebook.learn(latents(1, 2, 2, 2), rows(1))
    assert (codebook.embedding.weight == 1000).all(1).sum() == 6


def test_which_latents_revive_is_a_function_of_the_rows_own_numbers() -> None:
    made = []
    for step, seed in ((0, 0), (0, 1), (1, 0)):
        codebook = build(revive_after=1).train()
        torch.manual_seed(seed)
        codebook.idle.fill_(1)
        codebook.learn(latents(2, 2, 8, 8), rows(2, step))
        made.append(codebook.embedding.weight.detach())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@pytest.mark.parametrize(("revive_after", "training"), [(0, True), (1, False)])
def test_nothing_is_revived_where_it_is_turned_off_or_nothing_is_trained(revive_after: int, training: bool) -> None:
    codebook = build(revive_after=revive_after).train(training)
    before = {name: value.clone() for name, value in codebook.state_dict().items()}
    for step in range(4):
        codebook.learn(50 + latents(1, 2, 2, 2, seed=step), rows(1, step))
    assert all(torch.equal(value, before[name]) for name, value in codebook.state_dict().items())


def test_a_published_codebook_without_counts_loads_as_if_all_were_in_use() -> None:
    codebook, weight = build(revive_after=5), latents(8, 2)
    codebook.load_state_dict({"embedding.weight": weight})
    assert torch.equal(codebook.embedding.weight, weight)
    assert (codebook.idle == 0).all()


def test_counts_are_saved_and_loaded_and_left_out_where_nothing_is_revived() -> None:
    codebook = build(revive_after=5).train()
    codebook.learn(latents(1, 2, 2, 2), rows(1))
    assert len(codebook.idle.unique()) > 1
    other = build(revive_after=5)
    other.load_state_dict(codebook.state_dict())
    assert torch.equal(other.idle, codebook.idle)
    build(revive_after=0).load_state_dict(codebook.state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*embedding\.weight"):
        other.load_state_dict({})


def test_distances_are_exact_under_autocast() -> None:
    codebook, z = build(codes=500, channels=4), latents(2, 4, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        codes, made = codebook.codes(z), codebook.learn(z, rows(2))
    assert torch.equal(codes, codebook.codes(z))
    assert made.penalty.dtype == made.latents.dtype == torch.float32


def test_half_precision_latents_stay_half_and_finite() -> None:
    codebook, z = build(), latents(2, 2, 4, 4).bfloat16()
    assert codebook(z).dtype == torch.bfloat16
    made = codebook.learn(z, rows(2))
    assert made.latents.dtype == torch.bfloat16
    assert made.penalty.dtype == torch.float32
    assert made.penalty.isfinite()


def test_an_empty_batch_is_quantised() -> None:
    assert build()(latents(0, 2, 3, 3)).shape == (0, 2, 3, 3)

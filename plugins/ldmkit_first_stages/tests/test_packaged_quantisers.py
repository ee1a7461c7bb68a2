"""The quantisers of vector-quantize-pytorch behind the protocol of ours."""

import sys
from typing import Any

import pytest
import torch
from ldmkit_first_stages.packaged_quantisers import Packaged, packaged
from torch import Tensor

from ldmkit.artifacts.random import RowRandom
from ldmkit.errors import ConfigError

KINDS = ("fsq", "lfq", "residual")


def build(kind: str, **changes: Any) -> Packaged:
    pytest.importorskip("vector_quantize_pytorch")
    keys: dict[str, Any] = {"channels": 4, "codes": 16, "codebooks": 3, "levels": [5, 3, 4, 7]}
    torch.manual_seed(0)
    return packaged(kind, name="vq", **keys | {"commitment": 0.25, "entropy_weight": 0.1} | changes)


def latents(*shape: int) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def rows(count: int) -> RowRandom:
    return RowRandom.of(0, "test", 0, range(count))


@pytest.mark.parametrize("kind", KINDS)
def test_latents_become_one_of_as_many_vectors_as_there_are_codes(kind: str) -> None:
    quantiser, z = build(kind).eval(), latents(3, 4, 6, 5)
    quantised, codes = quantiser(z), quantiser.codes(z)
    assert quantised.shape == z.shape
    assert codes.shape == (3, 6, 5, {"fsq": 1, "lfq": 1, "residual": 3}[kind])
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert codes.max() < {"fsq": 5 * 3 * 4 * 7, "lfq": 16, "residual": 16}[kind]
    of_code: dict[tuple[int, ...], Tensor] = {}
    for code, vector in zip(codes.flatten(0, 2).tolist(), quantised.movedim(1, -1).flatten(0, 2), strict=True):
        torch.testing.assert_close(of_code.setdefault(tuple(code), vector), vector)
    assert len(of_code) > 8


def test_fsq_rounds_each_channel_to_its_levels() -> None:
    quantised = build("fsq").eval()(20 * latents(4, 4, 16, 16))
    assert [len(channel.unique()) for channel in quantised.unbind(1)] == [5, 3, 4, 7]


def test_lfq_takes_signs() -> None:
    z = latents(2, 4, 3, 3)
    assert torch.equal(build("lfq").eval()(z), torch.where(z > 0, 1.0, -1.0))


def test_each_codebook_of_the_chain_makes_the_residual_smaller() -> None:
    z = latents(2, 4, 16, 16)
    errors = []
    for codebooks in (1, 2, 4):
        quantiser = build("residual", codebooks=codebooks, codes=64).train()
        for _ in range(20):
            quantiser.learn(z, rows(2))
        errors.append((quantiser.eval()(z) - z).square().mean().item())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize("kind", KINDS)
def test_learning_gives_a_gradient_and_reports_usage(kind: str) -> None:
    quantiser, z = build(kind).train(), latents(2, 4, 6, 6).requires_grad_()
    made = quantiser.learn(z, rows(2))
    assert 0 < made.parts["usage"].item() <= 1
    assert made.parts["perplexity"].item() > 1
    assert (made.penalty is None) == (kind == "fsq")
    (made.latents.sum() + (0 if made.penalty is None else made.penalty)).backward()
    assert z.grad.isfinite().all()
    assert z.grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch_is_quantised(kind: str) -> None:
    assert build(kind).eval()(latents(0, 4, 3, 3)).shape == (0, 4, 3, 3)


def test_lfq_with_codes_that_are_no_power_of_two_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^model 'vq': codes is 12 but quantiser 'lfq' needs a power of two$"):
        build("lfq", codes=12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    keys: dict[str, Any] = {"channels": 4, "codes": 16, "codebooks": 3, "levels": [5, 3], "entropy_weight": 0.1}
    with pytest.raises(ConfigError, match=r"pip install 'ldmkit\[quantisers\]'$") as refusal:
        packaged(kind, name="vq", commitment=0.25, **keys)
    assert str(refusal.value).startswith(f"model 'vq': quantiser '{kind}' needs the package vector-quantize-pytorch")
    assert "\n" not in str(refusal.value)

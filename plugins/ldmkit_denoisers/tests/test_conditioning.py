"""How tokens, a vector and a map reach the network, and what is said when they do not fit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from ldmkit_denoisers.unet import UNet
from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.values import Conditioning

Build = Callable[..., UNet]
ALL = {"tokens": 24, "vector": 10, "map": 3}


def noisy(batch: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(batch, 4, 8, 8), torch.rand(batch) * 1000


def everything(batch: int = 3) -> Conditioning:
    torch.manual_seed(2)
    mask = torch.arange(7)[None] < torch.tensor([7, 4, 2])[:batch, None]
    return Conditioning(
        tokens=torch.randn(batch, 7, 24),
        mask=mask,
        vector=torch.randn(batch, 10),
        map=torch.randn(batch, 3, 8, 8),
    )


@torch.no_grad()
def test_the_order_of_the_tokens_does_not_matter(build: Build) -> None:
    network, told, order = build(**ALL), everything(), torch.randperm(7)
    assert told.tokens is not None
    assert told.mask is not None
    shuffled = replace(told, tokens=told.tokens[:, order], mask=told.mask[:, order])
    torch.testing.assert_close(network(*noisy(), shuffled), network(*noisy(), told), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_tokens_speak_only_through_the_values_of_the_cross_attention(build: Build) -> None:
    network, told = build(**ALL), everything()
    assert told.tokens is not None
    other = replace(told, tokens=told.tokens + 1)
    assert not torch.allclose(network(*noisy(), told), network(*noisy(), other))
    for name, parameter in network.named_parameters():
        if name.endswith("attn2.to_v.weight"):
            parameter.zero_()
    assert torch.equal(network(*noisy(), told), network(*noisy(), other))


@torch.no_grad()
def test_masked_tokens_have_no_influence_whatever_they_hold(build: Build) -> None:
    network, told = build(**ALL), everything()
    assert told.tokens is not None
    assert told.mask is not None
    pads = replace(told, tokens=torch.where(told.mask[:, :, None], told.tokens, torch.tensor(float("nan"))))
    assert torch.equal(network(*noisy(), pads), network(*noisy(), told))
    z, t = noisy()
    row = Conditioning(told.tokens[1:2, :4], None, told.vector[1:2], told.map[1:2])  # type: ignore[index]
    torch.testing.assert_close(network(z, t, told)[1:2], network(z[1:2], t[1:2], row), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pads", [1, 30])
def test_the_number_of_pads_and_what_they_hold_does_not_matter(build: Build, pads: int) -> None:
    network, told = build(**ALL), everything()
    assert told.tokens is not None
    assert told.mask is not None
    longer = replace(
        told,
        tokens=torch.cat([told.tokens, torch.full((3, pads, 24), torch.nan)], dim=1),
        mask=torch.cat([told.mask, torch.zeros(3, pads, dtype=torch.bool)], dim=1),
    )
    expected = network(*noisy(), told)
    apart = (network(*noisy(), longer) - expected).abs().max()
    assert apart <= 1e-6 * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize("grad", [False, True])
def test_a_row_of_pads_alone_gets_nothing_from_its_cross_attention(build: Build, grad: bool) -> None:
    network = build()
    pads = Conditioning(tokens=torch.randn(3, 7, 24), mask=torch.zeros(3, 7, dtype=torch.bool))
    nothing = Conditioning(tokens=torch.zeros(3, 1, 24))  # K = V = 0
    with torch.set_grad_enabled(grad):
        out = network(*noisy(), pads)
        torch.testing.assert_close(out, network(*noisy(), nothing), atol=1e-5, rtol=1e-5)
    if grad:
        out.square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("forms", [{}, {"tokens": 24}, {"vector": 10}, {"map": 3}, ALL])
def test_prepared_conditioning_gives_the_same_bits(build: Build, forms: dict[str, int], grad: bool) -> None:
    network = build(**{"tokens": 0, **forms})
    told = Conditioning(**{name: getattr(everything(), name) for name in forms})
    with torch.set_grad_enabled(grad):
        assert torch.equal(network(*noisy(), network.prepare(told)), network(*noisy(), told))


@torch.no_grad()
@pytest.mark.parametrize("form", ["tokens", "vector", "map"])
def test_each_form_is_heard(build: Build, form: str) -> None:
    network, told = build(**ALL), everything()
    other = replace(told, **{form: getattr(told, form) + 1})
    change = (network(*noisy(), other) - network(*noisy(), told)).abs()
    assert all(row.max() > 1e-3 for row in change)


def test_what_is_absent_has_no_parameters(build: Build) -> None:
    network = build(tokens=0, attention_without_tokens="plain")
    assert not any("label_emb" in name or "attn2" in name for name in network.state_dict())
    assert network.input_blocks[0][0].in_channels == 4


@torch.no_grad()
def test_without_tokens_both_attentions_of_a_transformer_attend_to_the_features(build: Build) -> None:
    network = build(tokens=0)
    assert network.input_blocks[1][1].transformer_blocks[0].attn2.to_k.in_features == 32
    assert network(*noisy(), Conditioning()).isfinite().all()


@torch.no_grad()
def test_rows_of_a_batch_do_not_see_each_other(build: Build) -> None:
    network, told = build(**ALL), everything()
    z, t = noisy()
    for row in range(3):
        alone = network(z[row : row + 1], t[row : row + 1], told.apply(lambda value, i=row: value[i : i + 1]))
        torch.testing.assert_close(alone, network(z, t, told)[row : row + 1], atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_form(build: Build) -> None:
    told = everything()
    leaves = {form: getattr(told, form).requires_grad_() for form in ALL}
    network = build(**ALL)
    network(*noisy(), network.prepare(replace(told, **leaves))).square().sum().backward()
    assert all(leaf.grad.abs().sum() > 0 for leaf in leaves.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": None}, "got no tokens but expected tokens of width 24"),
        ({"vector": None}, "got no vector but expected vector of width 10"),
        ({"map": None}, "got no map but expected map of width 3"),
        ({"tokens": torch.zeros(3, 7, 25)}, r"got tokens \(3, 7, 25\) but expected a width of 24"),
        ({"vector": torch.zeros(3, 11)}, r"got vector \(3, 11\) but expected a width of 10"),
        ({"map": torch.zeros(3, 2, 8, 8)}, r"got map \(3, 2, 8, 8\) but expected a width of 3"),
        ({"map": torch.zeros(3, 3, 4, 4)}, r"got a map \(3, 3, 4, 4\) but expected one of latent size \(8, 8\)"),
        ({"mask": torch.ones(3, 6, dtype=torch.bool)}, r"got a mask \(3, 6\) but expected \(3, 7\)"),
    ],
)
def test_conditioning_that_does_not_fit_is_refused(build: Build, change: dict[str, Any], message: str) -> None:
    network = build(**ALL)
    with pytest.raises(ConfigError, match=message):
        network(*noisy(), replace(everything(), **change))


def test_conditioning_that_was_not_announced_is_refused(build: Build) -> None:
    with pytest.raises(ConfigError, match=r"got vector \(3, 10\) but expected none"):
        build()(*noisy(), Conditioning(tokens=torch.zeros(3, 7, 24), vector=torch.zeros(3, 10)))

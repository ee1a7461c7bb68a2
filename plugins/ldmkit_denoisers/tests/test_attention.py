"""Attention: both of its forms agree, Q comes from the features, K and V from the tokens."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models import attention_processor as diffusers_attention
from ldmkit_denoisers.attention import MASKED, Attention, PlainAttention, attend, attend_in_steps
from torch import Tensor


def qkv(heads: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, heads, length, 16, dtype=dtype) for length in (10, 7, 7)]


def bias() -> Tensor:
    mask = torch.arange(7)[None] < torch.tensor([7, 4, 1])[:, None]
    return torch.zeros(3, 7).masked_fill(~mask, MASKED)[:, None, None]


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_both_forms_and_their_gradients_agree(heads: int, masked: bool) -> None:
    stepwise, fused = ([value.requires_grad_() for value in qkv(heads)] for _ in range(2))
    ours, theirs = attend_in_steps(*stepwise, bias() if masked else None), attend(*fused, bias() if masked else None)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    for mine, reference in zip(stepwise, fused, strict=True):
        torch.testing.assert_close(mine.grad, reference.grad, atol=1e-5, rtol=1e-5)


def test_attention_is_the_formula() -> None:
    q, k, v = (value.double() for value in qkv(2))
    weights = torch.exp(torch.einsum("bhnd,bhmd->bhnm", q, k) / 4 + bias())
    expected = torch.einsum("bhnm,bhmd->bhnd", weights / weights.sum(-1, keepdim=True), v)
    for form in (attend, attend_in_steps):
        torch.testing.assert_close(form(q, k, v, bias()), expected, atol=1e-6, rtol=1e-6)


def test_training_in_bf16_on_a_cpu_goes_step_by_step() -> None:
    trained = attend(*(value.requires_grad_() for value in qkv(2, torch.bfloat16)))
    assert "ScaledDotProduct" not in type(trained.grad_fn).__name__
    assert "ScaledDotProduct" in type(attend(*(value.requires_grad_() for value in qkv(2))).grad_fn).__name__


def test_a_bias_of_fp32_goes_with_features_of_bf16() -> None:
    exact = attend(*qkv(2), bias())
    for grad in (False, True):
        rough = attend(*(value.requires_grad_(grad) for value in qkv(2, torch.bfloat16)), bias())
        assert rough.dtype == torch.bfloat16
        torch.testing.assert_close(rough.float(), exact, atol=0.05, rtol=0.05)


def test_queries_come_from_the_features_and_keys_and_values_from_the_tokens() -> None:
    attention = Attention(channels=16, tokens=6, heads=2, dropout=0.0)
    assert [tuple(layer.weight.shape) for layer in (attention.to_q, attention.to_k, attention.to_v)] == [
        (16, 16),
        (16, 6),
        (16, 6),
    ]
    features, tokens = torch.randn(2, 9, 16), torch.randn(2, 5, 6)
    assert attention(features, attention.keys_values(tokens)).shape == (2, 9, 16)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        attention(tokens, attention.keys_values(features))


def test_zero_values_leave_nothing_but_the_output_bias() -> None:
    attention = Attention(channels=16, tokens=6, heads=2, dropout=0.0)
    torch.nn.init.zeros_(attention.to_v.weight)
    out = attention(torch.randn(2, 9, 16), attention.keys_values(torch.randn(2, 5, 6)))
    torch.testing.assert_close(out, attention.to_out[0].bias.expand_as(out))


def test_plain_attention_splits_its_channels_by_head_before_q_k_and_v() -> None:
    torch.manual_seed(0)
    block = PlainAttention(channels=32, heads=2, norm="group")
    torch.nn.init.normal_(block.proj_out.weight)
    features = torch.randn(2, 32, 3, 3)
    projected = F.conv1d(block.norm(features).flatten(2), block.qkv.weight, block.qkv.bias)
    heads = projected.reshape(2 * 2, 3 * 16, 9)  # ADM's "legacy" order
    q, k, v = heads.split(16, dim=1)
    weights = torch.einsum("bct,bcs->bts", q * 16**-0.25, k * 16**-0.25).softmax(-1)
    attended = torch.einsum("bts,bcs->bct", weights, v).reshape(2, 32, 9)
    expected = features + F.conv1d(attended, block.proj_out.weight, block.proj_out.bias).view_as(features)
    torch.testing.assert_close(block(features), expected, atol=1e-5, rtol=1e-5)


def test_perturbed_self_attention_is_attention_of_each_position_to_itself() -> None:
    attention, features = Attention(channels=16, tokens=16, heads=2, dropout=0.0), torch.randn(3, 5, 16)
    alone = torch.full((5, 5), MASKED).fill_diagonal_(0)
    torch.testing.assert_close(attention.identity(features), attention(features, bias=alone))


def test_perturbed_self_attention_is_that_of_diffusers() -> None:
    attention, features = Attention(channels=16, tokens=16, heads=2, dropout=0.0), torch.randn(3, 5, 16)
    theirs = diffusers_attention.Attention(query_dim=16, heads=2, dim_head=8)
    theirs.load_state_dict(attention.state_dict())
    theirs.set_processor(diffusers_attention.PAGIdentitySelfAttnProcessor2_0())
    plain, perturbed = theirs(torch.cat([features, features])).chunk(2)
    torch.testing.assert_close(attention(features), plain)
    torch.testing.assert_close(attention.identity(features), perturbed)


def test_perturbed_plain_attention_hands_on_its_values() -> None:
    attention = PlainAttention(32, heads=2, norm="group")
    torch.nn.init.normal_(attention.proj_out.weight)
    grid = torch.randn(2, 32, 3, 3)
    one = attention(grid[:, :, :1, :1], perturbed=False)  # a single position has only itself to attend to
    torch.testing.assert_close(attention(grid[:, :, :1, :1], perturbed=True), one)
    assert (attention(grid, perturbed=True) - attention(grid)).abs().max() > 1e-3

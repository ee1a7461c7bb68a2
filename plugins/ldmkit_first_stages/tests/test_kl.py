"""The KL autoencoder by its own laws."""

from typing import Any

import pytest
import torch
from ldmkit_first_stages.kl import KLAutoencoder
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ldmkit.errors import ConfigError
from ldmkit.registry.schema import typed

SMALL = {
    "name": "kl",
    "factor": 4,
    "width": 32,
    "multipliers": [1, 2, 2],
    "patch": 1,
    "norm": "group",
    "middle": "attention",
    "attention_factors": [],
    "encoder_blocks": 2,
    "decoder_blocks": 3,
    "z_channels": 4,
    "dropout": 0.0,
}

DEMO = SMALL | {
    "factor": 8,
    "width": 16,
    "multipliers": [1, 2, 4, 4],
    "patch": 4,
    "norm": "none",
    "middle": "none",
    "encoder_blocks": 1,
    "decoder_blocks": 2,
}


def build(base: dict[str, Any] = SMALL, **changes: Any) -> KLAutoencoder:
    """Build with weights drawn from a fixed seed, none of them zero, so that every path carries signal."""
    torch.manual_seed(0)
    model = KLAutoencoder(KLAutoencoder.Config(**base | changes), channels=3)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("base", [SMALL, DEMO], ids=["paper-like", "demo-like"])
@pytest.mark.parametrize("size", [(8, 8), (16, 40), (24, 8)])
def test_any_size_that_the_factor_divides_comes_back(base: dict[str, Any], size: tuple[int, int]) -> None:
    model = build(base)
    height, width = size
    posterior = model.encode(images(2, 3, height, width))
    grid = (2, model.spec.channels, height // model.spec.factor, width // model.spec.factor)
    assert posterior.mean.shape == posterior.std.shape == grid
    assert model.decode(posterior.mode()).shape == (2, 3, height, width)


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_folding_pixels_leaves_the_factor_and_takes_levels_away(patch: int) -> None:
    model = build(DEMO, patch=patch)
    assert model.spec.factor == 8
    assert model.encode(images(1, 3, 32, 16)).mean.shape == (1, 4, 4, 2)
    assert len(model.encoder.down) == len(model.decoder.up) == 4 - {1: 0, 2: 1, 4: 2, 8: 3}[patch]
    assert model.encoder.conv_in.weight.shape[:2] == ({1: 16, 2: 32, 4: 64, 8: 64}[patch], 3 * patch**2)


def test_the_middle_is_two_residual_blocks_with_attention_or_without_or_nothing() -> None:
    keys = {middle: set(build(middle=middle).state_dict()) for middle in ("attention", "residual", "none")}
    assert {key for key in keys["attention"] - keys["residual"] if ".mid.attn_1." not in key} == set()
    assert len(keys["attention"] - keys["residual"]) == 2 * 10  # weight and bias of norm, q, k, v and proj_out, twice
    assert keys["residual"] - keys["none"] == {key for key in keys["residual"] if ".mid.block_" in key}
    assert len(keys["residual"] - keys["none"]) == 2 * 16


@pytest.mark.parametrize("channels", [1, 4])
def test_the_number_of_image_channels_is_given_at_run_time(channels: int) -> None:
    model = KLAutoencoder(KLAutoencoder.Config(**DEMO), channels=channels)
    assert model.decode(model.encode(images(1, channels, 16, 16)).mean).shape == (1, channels, 16, 16)


@pytest.mark.parametrize("base", [SMALL, DEMO], ids=["paper-like", "demo-like"])
def test_a_row_of_a_batch_is_what_the_row_is_alone(base: dict[str, Any]) -> None:
    model, batch = build(base), images(3, 3, 16, 16)
    whole, alone = model.encode(batch), model.encode(batch[1:2])
    torch.testing.assert_close(whole.mean[1:2], alone.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.std[1:2], alone.std, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        model.decode(whole.mean)[1:2], model.decode(whole.mean[1:2].contiguous()), rtol=1e-4, atol=1e-5
    )


def test_downsampling_pads_right_and_bottom_only() -> None:
    # With a kernel whose only entry is in its first corner, output (i, j) is input (2i, 2j) when nothing is padded in
    # front, and (2i - 1, 2j - 1), zero at the border, with symmetric padding. The last corner meets the zeros behind.
    downsample = build().encoder.down[0].downsample
    features = images(1, 32, 6, 6)
    for corner, expected in (
        (0, features[:, :, 0::2, 0::2]),
        (2, torch.nn.functional.pad(features[:, :, 2::2, 2::2], (0, 1, 0, 1))),
    ):
        with torch.no_grad():
            downsample.conv.bias.zero_()
            downsample.conv.weight.zero_()
            downsample.conv.weight[range(32), range(32), corner, corner] = 1.0
        torch.testing.assert_close(downsample(features), expected)


def test_the_deviation_is_that_of_the_clamped_log_variance() -> None:
    model = build(DEMO)
    with torch.no_grad():
        model.quant_conv.weight.zero_()
        model.quant_conv.bias.copy_(torch.tensor([0.0] * 4 + [-1000.0, 1000.0, 0.0, 2.0]))
    std = model.encode(images(1, 3, 8, 8)).std.flatten()
    torch.testing.assert_close(std, torch.tensor([-15.0, 10.0, 0.0, 1.0]).exp())


def test_without_normalisation_every_residual_branch_begins_at_zero() -> None:
    model = KLAutoencoder(KLAutoencoder.Config(**DEMO | {"middle": "attention"}), channels=3)
    features = images(2, 64, 4, 4)
    assert torch.equal(model.encoder.mid(features), features)
    assert not any("norm" in key for key in model.state_dict())


@pytest.mark.parametrize("base", [SMALL, DEMO], ids=["paper-like", "demo-like"])
def test_bf16_autocast_is_finite_and_near_fp32(base: dict[str, Any]) -> None:
    model, batch = build(base), images(2, 3, 32, 32)
    exact = model.encode(batch)
    with torch.autocast("cpu", torch.bfloat16):
        posterior = model.encode(batch)
        loss = (model.decode(posterior.mean).float() - batch).square().mean() + posterior.kl().mean()
    loss.backward()
    assert posterior.mean.dtype == posterior.std.dtype == torch.float32
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert (posterior.mean - exact.mean).norm() < 0.05 * exact.mean.norm()


class SeenTypes(TorchFunctionMode):
    """Records the types in which group norm is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.nn.functional.group_norm:
            self.types.add(args[0].dtype)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_group_norm_is_computed_in_fp32_and_keeps_the_type_of_its_input(half: torch.dtype) -> None:
    norm, features = build().encoder.norm_out, images(1, 64, 8, 8).to(half)
    with SeenTypes() as seen:
        normed = norm(features)
        all_in_half = norm.to(half)(features)
    assert seen.types == {torch.float32}
    assert normed.dtype == all_in_half.dtype == half


def test_channels_last_gives_the_same_numbers() -> None:
    model, batch = build(), images(2, 3, 16, 16)
    mean = model.encode(batch).mean
    model.to(memory_format=torch.channels_last)
    again = model.encode(batch.contiguous(memory_format=torch.channels_last)).mean
    torch.testing.assert_close(again, mean, rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only() -> None:
    model, batch = build(dropout=0.5), images(1, 3, 8, 8)
    assert not torch.equal(model.train().encode(batch).mean, model.encode(batch).mean)
    assert torch.equal(model.eval().encode(batch).mean, model.encode(batch).mean)


def test_an_image_that_the_factor_does_not_divide_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError) as refusal:
        build(DEMO).encode(images(1, 3, 60, 64))
    message = str(refusal.value)
    assert "\n" not in message
    for part in ("60x64", "factor, 8", "56x64", "64x64"):
        assert part in message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"factor": 6}, "factor is 6"),
        ({"factor": 8}, "8 has 4 levels but multipliers has 3"),
        ({"patch": 3}, "patch is 3"),
        ({"patch": 8}, "at most the factor, 4"),
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"middle": "mlp"}, "middle is 'mlp'"),
        ({"width": 48}, "48 channels wide"),
        ({"attention_factors": [8]}, "attention_factors has 8"),
        ({"attention_factors": [1], "patch": 2}, "attention_factors has 1"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        KLAutoencoder(KLAutoencoder.Config(**SMALL | changes), channels=3)
    assert str(refusal.value).startswith("model 'kl': ")
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "number"),
    [("factor", 0), ("width", 0), ("dropout", 1.0), ("encoder_blocks", 0), ("decoder_blocks", 0), ("z_channels", 0)],
)
def test_a_number_out_of_range_is_refused_by_its_key(key: str, number: float) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.{key} is {number} but must be"):
        typed(KLAutoencoder.Config, SMALL | {key: number}, "model")

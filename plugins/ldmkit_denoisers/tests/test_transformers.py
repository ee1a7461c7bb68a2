"""What holds for every denoiser that is a transformer: DiT with tokens in each of its three ways, and U-ViT."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from ldmkit_denoisers.dit import DiT
from ldmkit_denoisers.uvit import UViT
from torch import Tensor

from ldmkit.errors import ConfigError
from ldmkit.protocols import Denoiser
from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.testing.outputs import randomise
from ldmkit.training.optimizers import hidden_weights
from ldmkit.values import Conditioning

DIT = DiT.Config(
    name="dit",
    patch_size=2,
    width=32,
    depth=2,
    heads=4,
    feed_forward_multiple=2,
    tokens="cross-attention",
    qk_norm=False,
    position_grid=None,
    checkpointing=False,
)
UVIT = UViT.Config(
    name="uvit",
    patch_size=2,
    width=32,
    depth=5,
    heads=4,
    feed_forward_multiple=2,
    learned_positions=None,
    checkpointing=False,
)
CONFIGS: dict[str, Any] = {
    "cross-attention": DIT,
    "in-context": replace(DIT, tokens="in-context"),
    "joint": replace(DIT, tokens="joint"),
    "joint-qk-norm": replace(DIT, tokens="joint", qk_norm=True),
    "cross-attention-qk-norm": replace(DIT, qk_norm=True),
    "uvit": UVIT,
    "uvit-learned-positions": replace(UVIT, learned_positions=4),
}
ALL = {"tokens": 24, "vector": 10, "map": 3}
Build = Callable[..., Denoiser]


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> Any:
    return CONFIGS[request.param]


def build(config: Any, *, new: bool = False, **changes: Any) -> Any:
    """A network for 4 latent channels that takes all forms, or those among ``changes``; its weights random."""
    cond = CondSpec(**{form: changes.pop(form, width) for form, width in ALL.items()})
    kind = DiT if config.name == "dit" else UViT
    network = kind(replace(config, **changes), latent=LatentSpec(channels=4, factor=8), cond=cond)
    if not new:
        randomise(network)
    return network


def noisy(batch: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(batch, 4, 8, 8), torch.rand(batch) * 1000


def everything(tokens: int = 7) -> Conditioning:
    torch.manual_seed(2)
    return Conditioning(
        tokens=torch.randn(3, tokens, 24),
        mask=torch.arange(tokens)[None] < torch.tensor([tokens, 4, 2])[:, None],
        vector=torch.randn(3, 10),
        map=torch.randn(3, 3, 8, 8),
    )


def test_a_new_network_answers_zero(config: Any) -> None:
    assert not build(config, new=True)(*noisy(), everything()).any()


@torch.no_grad()
def test_the_order_of_the_tokens_does_not_matter(config: Any) -> None:
    network, told, order = build(config), everything(), torch.randperm(7)
    assert told.tokens is not None
    assert told.mask is not None
    shuffled = replace(told, tokens=told.tokens[:, order], mask=told.mask[:, order])
    torch.testing.assert_close(network(*noisy(), shuffled), network(*noisy(), told), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pads", [1, 30])
def test_the_number_of_pads_and_what_they_hold_does_not_matter(config: Any, pads: int) -> None:
    network, told = build(config), everything()
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


@torch.no_grad()
def test_a_row_of_pads_alone_is_a_row_without_tokens(config: Any) -> None:
    network = build(config, vector=0, map=0)
    none = Conditioning(tokens=torch.randn(3, 5, 24), mask=torch.zeros(3, 5, dtype=torch.bool))
    other = Conditioning(tokens=torch.randn(3, 2, 24), mask=torch.zeros(3, 2, dtype=torch.bool))
    out = network(*noisy(), none)
    torch.testing.assert_close(out, network(*noisy(), other), atol=1e-5, rtol=1e-5)
    assert out.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (4, 12), (2, 2), (16, 6)])
def test_any_size_of_whole_patches_goes(config: Any, size: tuple[int, int]) -> None:
    network = build(config, map=0)
    told = replace(everything(), map=None)
    assert network(torch.randn(3, 4, *size), torch.zeros(3), told).shape == (3, 4, *size)


@torch.no_grad()
def test_it_knows_where_a_patch_stands(config: Any) -> None:
    network, (z, t) = build(config, map=0), noisy()
    told = replace(everything(), map=None)
    for axis in (2, 3):  # without positions, shifted latents would give shifted answers
        shifted = network(z.roll(2, axis), t, told).roll(-2, axis)
        assert (shifted - network(z, t, told)).abs().max() > 1e-2


@pytest.mark.parametrize("shape", [(3, 4, 7, 8), (3, 4, 8, 9), (3, 3, 8, 8)])
def test_other_sizes_are_refused(config: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"expected \(B, 4, h, w\) with h and w multiples of 2; .*patch_size"):
        build(config)(torch.randn(shape), torch.zeros(3), everything())
    assert build(config).multiple == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": None}, "got no tokens but expected tokens of width 24"),
        ({"vector": torch.zeros(3, 11)}, r"got vector \(3, 11\) but expected a width of 10"),
        ({"map": torch.zeros(3, 3, 4, 4)}, r"got a map \(3, 3, 4, 4\) but expected one of latent size \(8, 8\)"),
    ],
)
def test_conditioning_that_does_not_fit_is_refused(config: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"denoiser '{config.name}' {message}"):
        build(config)(*noisy(), replace(everything(), **change))


@pytest.mark.parametrize("grad", [False, True])
def test_prepared_conditioning_gives_the_same_bits(config: Any, grad: bool) -> None:
    network, told = build(config), everything()
    with torch.set_grad_enabled(grad):
        assert torch.equal(network(*noisy(), network.prepare(told)), network(*noisy(), told))


@pytest.mark.parametrize("bf16", [False, True])
def test_every_parameter_learns(config: Any, bf16: bool) -> None:
    network = build(config)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = network(*noisy(), everything())
    assert out.dtype == torch.float32
    out.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        silent = name.endswith("to_k.bias")  # adds the same number to all scores of a row
        assert parameter.grad.abs().sum() > 0 or silent, name


@torch.no_grad()
def test_bf16_is_near_fp32(config: Any) -> None:
    network, (z, t), told = build(config), noisy(), everything()
    exact = network(z, t, told)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(z, t, told)
    assert (rough - exact).square().mean().sqrt() < 0.05 * exact.std()
    halved = network.bfloat16()(z.bfloat16(), t, told.to(torch.bfloat16))
    assert halved.dtype == torch.bfloat16
    assert (halved.float() - exact).square().mean().sqrt() < 0.05 * exact.std()


def test_checkpointing_gives_the_same_gradients_and_keeps_less(config: Any) -> None:
    gradients, kept = [], []
    for checkpointing in (False, True):
        network, count = build(config, checkpointing=checkpointing), 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = network(*noisy(), everything()).square().sum()
        kept.append(count)
        loss.backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert kept[1] < 0.7 * kept[0]
    for plain, again in zip(*gradients, strict=True):
        assert (plain - again).abs().max() <= 1e-5 * plain.abs().max()


def test_muon_takes_the_hidden_matrices_alone(config: Any) -> None:
    network = build(config)
    taken = {id(weight) for weight in hidden_weights(network)}
    names = {name for name, parameter in network.named_parameters() if id(parameter) in taken}
    assert all(network.get_parameter(name).ndim == 2 for name in names)
    left = {name for name, parameter in network.named_parameters() if parameter.ndim > 1} - names
    edges = {"patch_embed.weight", "proj_out.weight", "last.weight"}
    learned = {"time_position", "vector_position", "positions"}
    assert left == (edges | learned) & {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30, "heads": 3}, "width is 30 but must be a multiple of 4 and of heads=3"),
        ({"heads": 5}, "width is 32 but must be a multiple of 4 and of heads=5"),
        ({"patch_size": 0}, "patch_size is 0 but must be 1 or more"),
    ],
)
def test_a_config_that_does_not_add_up_is_refused(config: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(config, **change)

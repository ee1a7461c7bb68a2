"""With the same weights the UNet computes what those of diffusers compute, and so do its gradients.

Names by the published conversion: block = (i - 1) // (n + 1) and layer = (i - 1) % (n + 1) of ``input_blocks.i``, n
residual blocks on each level. The ``attention_head_dim`` of UNet2DConditionModel is the number of heads; the one of
UNet2DModel is the width of a head. Weights and gradients are converted alike, since a conversion only moves numbers.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from ldmkit_denoisers.unet import UNet
from torch import Tensor

from ldmkit.values import Conditioning

diffusers = pytest.importorskip("diffusers")

Build = Callable[..., UNet]
Made = tuple[UNet, Any, dict[str, Any]]
RES_BLOCKS = 2
INNER = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "class_embedding.linear_1",
    "label_emb.0.2": "class_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
# Two channels to a group and more: with one, what is added in front of a norm has no gradient.
NUMBERS = {"channels": 64, "multipliers": [1, 2, 3], "res_blocks": RES_BLOCKS, "feed_forward_multiple": 4}
THEIRS = {"sample_size": 8, "block_out_channels": (64, 128, 192), "layers_per_block": RES_BLOCKS, "out_channels": 4}


def place(block: str, index: int, sub: int, has_attention: bool) -> str:
    """Where diffusers keeps ``block``.``index``.``sub``."""
    kind = "attentions" if sub == 1 and has_attention else "resnets"
    if block == "middle_block":
        return f"mid_block.{'attentions.0' if index == 1 else f'resnets.{index // 2}'}"
    if block == "input_blocks":
        level, layer = divmod(index - 1, RES_BLOCKS + 1)
        return f"down_blocks.{level}." + ("downsamplers.0" if layer == RES_BLOCKS else f"{kind}.{layer}")
    level, layer = divmod(index, RES_BLOCKS + 1)
    upsampler = sub == 2 or (sub == 1 and not has_attention)
    return f"up_blocks.{level}." + ("upsamplers.0" if upsampler else f"{kind}.{layer}")


def renamed(name: str, attended: set[tuple[str, str]]) -> str:
    """The name in diffusers of our parameter ``name``; ``attended`` are the blocks that have attention."""
    for ours, theirs in OUTER.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    block, first, *rest = name.split(".")
    if block == "middle_block":
        where = place(block, int(first), 0, True)
    else:
        second, *rest = rest
        where = place(block, int(first), int(second), (block, first) in attended)
    inner = ".".join(rest)
    for ours, theirs in INNER.items():
        if inner.startswith(f"{ours}."):
            return f"{where}.{inner.replace(ours, theirs, 1)}"
    if "samplers" in where:
        return f"{where}.conv.{inner.removeprefix('op.').removeprefix('conv.')}"
    return f"{where}.{inner}"


def converted(ours: UNet, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``values`` by our names, weights or gradients, under the names and in the shapes of diffusers."""
    paths = [name.split(".") for name in ours.state_dict()]
    attended = {(path[0], path[1]) for path in paths if "transformer_blocks" in path or "qkv" in path}
    heads = {name: module.heads for name, module in ours.named_modules() if hasattr(module, "qkv")}

    def pieces(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
        block, _, leaf = name.rpartition(".")
        block, _, layer = block.rpartition(".")
        if block not in heads:
            yield renamed(name, attended), value
        elif layer == "qkv":  # each head has its q, k and v beside each other
            parts = value.flatten(1) if leaf == "weight" else value
            for to, part in zip("qkv", parts.unflatten(0, (heads[block], 3, -1)).unbind(1), strict=True):
                yield renamed(f"{block}.to_{to}.{leaf}", attended), part.flatten(0, 1)
        else:
            theirs = {"norm": "group_norm", "proj_out": "to_out.0"}[layer]
            yield renamed(f"{block}.{theirs}.{leaf}", attended), value.flatten(1) if value.ndim == 3 else value

    return {theirs: piece for name, value in values.items() for theirs, piece in pieces(name, value)}


def stable_diffusion(build: Build) -> Made:
    """Cross-attention at two of three levels, eight heads or so, a vector, a map: the UNet of LDM and SD 1."""
    ours = build(vector=10, map=3, heads=4, head_channels=None, **NUMBERS)
    theirs = diffusers.UNet2DConditionModel(
        in_channels=7,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=4,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=10,
        **THEIRS,
    )
    mask = torch.arange(6)[None] < torch.tensor([[6], [3]])
    return (
        ours,
        theirs,
        {
            "tokens": torch.randn(2, 6, 24),
            "mask": mask,
            "vector": torch.randn(2, 10),
            "map": torch.randn(2, 3, 8, 8),
        },
    )


def stable_diffusion_xl(build: Build) -> Made:
    """Heads of one width, deeper transformers on lower levels, linear projections: the UNet of SD 2 and XL."""
    numbers = {**NUMBERS, "attention_factors": [2, 4], "transformer_depth": [1, 2, 3], "projection": "linear"}
    ours = build(head_channels=32, **numbers)
    theirs = diffusers.UNet2DConditionModel(
        in_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=(2, 4, 6),
        transformer_layers_per_block=(1, 2, 3),
        use_linear_projection=True,
        **THEIRS,
    )
    return ours, theirs, {"tokens": torch.randn(2, 6, 24)}


def unconditional(build: Build) -> Made:
    """Plain attention: the UNet of the paper's faces."""
    ours = build(tokens=0, attention_without_tokens="plain", head_channels=32, **{**NUMBERS, "attention_factors": [2]})
    theirs = diffusers.UNet2DModel(
        in_channels=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
        **THEIRS,
    )
    return ours, theirs, {}


def adm(build: Build) -> Made:
    """ADM: residual blocks change the resolution, the time scales and shifts, a class is added to it."""
    changes = {"scale_shift": True, "resample": "block", "attention_without_tokens": "plain", "vector_embedding": "add"}
    ours = build(tokens=0, vector=256, head_channels=32, **{**NUMBERS, **changes, "attention_factors": [2, 4]})
    theirs = diffusers.UNet2DModel(
        in_channels=4,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
        resnet_time_scale_shift="scale_shift",
        attn_norm_num_groups=32,
        attention_head_dim=32,
        class_embed_type="identity",
        **THEIRS,
    )
    return ours, theirs, {"vector": torch.randn(2, 256)}


def relative(mine: Tensor, theirs: Tensor) -> float:
    """|mine - theirs| / |theirs|, Euclidean norms over the whole tensor."""
    return float((mine.double() - theirs.double()).norm() / theirs.double().norm())


def computed(ours: UNet, theirs: Any, given: dict[str, Any], dtype: torch.dtype) -> tuple[Any, ...]:
    """The outputs of both, and the gradients of both by the names of diffusers, computed in ``dtype``."""
    ours, theirs = copy.deepcopy(ours).to(dtype), copy.deepcopy(theirs).to(dtype)
    told = Conditioning(**{name: value for name, value in given.items() if name != "z"}).to(dtype)
    z, t = given["z"].to(dtype), torch.tensor([17.0, 803.0])
    out = ours(z, t, told)
    attended = {} if told.tokens is None else {"encoder_hidden_states": told.tokens}
    attended |= {} if told.mask is None else {"encoder_attention_mask": told.mask}
    z = z if told.map is None else torch.cat([z, told.map], 1)
    expected = theirs(z, t, class_labels=told.vector, return_dict=False, **attended)[0]
    out.square().sum().backward()
    expected.square().sum().backward()
    gradients = converted(ours, {name: weight.grad for name, weight in ours.named_parameters()})
    return out.detach(), expected.detach(), gradients, {name: w.grad for name, w in theirs.named_parameters()}


@pytest.mark.parametrize("make", [stable_diffusion, stable_diffusion_xl, unconditional, adm])
def test_outputs_and_gradients_are_those_of_diffusers(build: Build, make: Callable[[Build], Made]) -> None:
    """In fp64 to 1e-12; in fp32 to 1e-5, or to three times the rounding error of diffusers where that is more.

    It is more in a few of the 1,941 tensors: Q and K of the deepest self-attention, whose gradients are sums that
    cancel. There diffusers in fp32 is up to 1.2e-5 from itself in fp64, and so are we.
    """
    torch.manual_seed(3)
    ours, theirs, given = make(build)
    theirs.load_state_dict(converted(ours, ours.state_dict()))
    given["z"] = torch.randn(2, 4, 8, 8)
    out, expected, gradients, references = computed(ours, theirs, given, torch.float32)
    exact_out, exact_expected, exact_gradients, exact_references = computed(ours, theirs, given, torch.float64)
    assert relative(out, expected) < 1e-5
    assert relative(exact_out, exact_expected) < 1e-12
    for name, exact in exact_references.items():
        if name.endswith("to_k.bias"):  # shifts all scores of a query alike: its gradient is nothing but rounding
            assert gradients[name].norm() < 1e-5 * references[name.replace("to_k", "to_v")].norm(), name
            continue
        assert relative(exact_gradients[name], exact) < 1e-12, name
        rounding = relative(references[name], exact)
        assert relative(gradients[name], references[name]) < max(1e-5, 3 * rounding), name
        assert relative(gradients[name], exact) < 2e-5, name

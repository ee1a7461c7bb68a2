"""With the same weights the UNet computes what the one of diffusers computes, and so do its gradients.

Names by the published conversion: block = (i - 1) // (n + 1) and layer = (i - 1) % (n + 1) of ``input_blocks.i``, n
residual blocks on each level. ``attention_head_dim`` of diffusers is the number of heads.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ldmkit_denoisers.unet import UNet
from torch import Tensor

from ldmkit.values import Conditioning

diffusers = pytest.importorskip("diffusers")

RES_BLOCKS = 2
LAST = 2  # the lowest of three levels
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
    """The name in diffusers of our parameter ``name``."""
    for ours, theirs in OUTER.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    block, first, *rest = name.split(".")
    if block == "middle_block":
        where = place(block, int(first), 0, True)
    else:
        second, *rest = rest
        where = place(block, int(first), int(second), (block, first) in attended)
    inner = ".".join(rest).removeprefix("op.") if "samplers" in where else ".".join(rest)
    for ours, theirs in INNER.items():
        if inner.startswith(f"{ours}."):
            inner = inner.replace(ours, theirs, 1)
    return f"{where}.{'conv.' + inner.removeprefix('conv.') if 'samplers' in where else inner}"


def reference(ours: UNet) -> tuple[Any, dict[str, str]]:
    """The UNet of diffusers with the weights of ``ours``, and its names by our names."""
    network = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=7,
        out_channels=4,
        block_out_channels=(64, 128, 192),
        layers_per_block=RES_BLOCKS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=4,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=10,
    ).to(ours.out[2].weight.dtype)
    attended = {tuple(name.split(".")[:2]) for name in ours.state_dict() if ".transformer_blocks." in name}
    names = {name: renamed(name, attended) for name in ours.state_dict()}  # type: ignore[arg-type]
    network.load_state_dict({names[name]: value for name, value in ours.state_dict().items()})
    return network, names


def relative(mine: Tensor, theirs: Tensor) -> float:
    return float((mine.detach() - theirs.detach()).abs().max() / theirs.detach().abs().max())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_outputs_and_gradients_are_those_of_diffusers(
    build: Callable[..., UNet], dtype: torch.dtype, tolerance: float
) -> None:
    ours = build(
        vector=10,
        map=3,
        channels=64,  # two channels to a group: with one, what is added in front of a norm has no gradient
        multipliers=[1, 2, 3],
        res_blocks=RES_BLOCKS,
        heads=4,
        head_channels=None,
        feed_forward_multiple=4,
    ).to(dtype)
    theirs, names = reference(ours)
    torch.manual_seed(3)
    z, extra, t = (
        torch.randn(2, 4, 8, 8, dtype=dtype),
        torch.randn(2, 3, 8, 8, dtype=dtype),
        torch.tensor([17.0, 803.0]),
    )
    tokens, vector = torch.randn(2, 6, 24, dtype=dtype), torch.randn(2, 10, dtype=dtype)
    mask = torch.arange(6)[None] < torch.tensor([[6], [3]])

    out = ours(z, t, Conditioning(tokens, mask, vector, extra))
    expected = theirs(
        torch.cat([z, extra], 1), t, tokens, encoder_attention_mask=mask, class_labels=vector, return_dict=False
    )[0]
    assert relative(out, expected) < tolerance

    out.square().sum().backward()
    expected.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    # Gradients of the time are sums that cancel: in fp32 their rounding error is that of the terms.
    slack = 5 if dtype == torch.float32 else 1
    for name, parameter in ours.named_parameters():
        assert relative(parameter.grad, gradients[names[name]]) < slack * tolerance, name

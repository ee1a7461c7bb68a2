"""With the same weights DiT computes what that of diffusers computes, MMDiT what SD3 computes; so do the gradients."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from ldmkit_denoisers.dit import DiT
from ldmkit_denoisers.positions import sincos_positions
from torch import Tensor

from ldmkit.specs import CondSpec, LatentSpec
from ldmkit.testing.outputs import randomise
from ldmkit.values import Conditioning

diffusers = pytest.importorskip("diffusers")

DEPTH, HEADS, WIDTH = 3, 4, 32
ATTENTION = {f"to_{name}": f"to_{name}" for name in ("q", "k", "v", "out.0")} | {"norm_q": "norm_q", "norm_k": "norm_k"}
ADDED = {"to_q": "add_q_proj", "to_k": "add_k_proj", "to_v": "add_v_proj", "to_out.0": "to_add_out"}
ADDED |= {"norm_q": "norm_added_q", "norm_k": "norm_added_k"}
FEED_FORWARD = {"0": "net.0.proj", "2": "net.2"}


def ours(dtype: torch.dtype, **config: Any) -> DiT:
    numbers = {"patch_size": 2, "width": WIDTH, "depth": DEPTH, "heads": HEADS, "feed_forward_multiple": 4}
    chosen = {"tokens": "cross-attention", "qk_norm": False, "position_grid": None, "checkpointing": False, **config}
    cond = CondSpec(vector=10, tokens=24 if config else 0)
    network = DiT(DiT.Config(name="dit", **numbers, **chosen), latent=LatentSpec(channels=4, factor=8), cond=cond)
    randomise(network)
    return network.to(dtype)


def renamed(network: DiT, names: Mapping[str, str]) -> dict[str, str]:
    """Their name for each of our parameters whose module ``names`` has."""
    pairs = (name.rpartition(".") for name, _ in network.named_parameters())
    return {f"{module}.{kind}": f"{names[module]}.{kind}" for module, _, kind in pairs if module in names}


def relative(mine: Tensor, theirs: Tensor) -> float:
    """|mine - theirs| / |theirs|, Euclidean norms over the whole tensor."""
    return float((mine.detach() - theirs.detach()).norm() / theirs.detach().norm())


def swapped(rows: Tensor) -> Tensor:
    """(shift, scale) => (scale, shift)."""
    return rows.roll(len(rows) // 2, dims=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_outputs_and_gradients_are_those_of_dit(dtype: torch.dtype, tolerance: float) -> None:
    network = ours(dtype)
    reference = diffusers.DiTTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        num_layers=DEPTH,
        sample_size=8,
        num_embeds_ada_norm=2,
        norm_eps=1e-6,
    )
    reference = reference.to(dtype).eval()
    embedders = [block.norm1.emb for block in reference.transformer_blocks]  # one for each block, where we have one
    names = {"patch_embed": "pos_embed.proj", "last_modulation.linear": "proj_out_1", "proj_out": "proj_out_2"}
    for index in range(DEPTH):
        mine, theirs = f"blocks.{index}", f"transformer_blocks.{index}"
        names[f"{mine}.modulation.linear"] = f"{theirs}.norm1.linear"
        names |= {f"{mine}.attention.{key}": f"{theirs}.attn1.{value}" for key, value in ATTENTION.items()}
        names |= {f"{mine}.feed_forward.{key}": f"{theirs}.ff.{value}" for key, value in FEED_FORWARD.items()}
    pairs = renamed(network, names)
    weights = {theirs: network.get_parameter(mine).data for mine, theirs in pairs.items()}
    torch.manual_seed(3)
    z, vector, t = torch.randn(2, 4, 8, 8, dtype=dtype), torch.randn(2, 10, dtype=dtype), torch.tensor([17.0, 803.0])
    assert network.vector_embed is not None
    embedded = network.vector_embed(vector)
    for index, embedder in enumerate(embedders):
        embedder.time_proj.downscale_freq_shift = 0  # 10000^(-i / half), as in the papers; theirs is i / (half - 1)
        prefix = f"transformer_blocks.{index}.norm1.emb"
        for mine, theirs in (("0", "linear_1"), ("2", "linear_2")):
            for kind in ("weight", "bias"):
                weights[f"{prefix}.timestep_embedder.{theirs}.{kind}"] = network.time_embed.get_parameter(
                    f"{mine}.{kind}"
                ).data
        table = torch.cat([embedded.detach(), torch.zeros(1, WIDTH, dtype=dtype)])
        weights[f"{prefix}.class_embedder.embedding_table.weight"] = table
    reference.load_state_dict(weights)
    reference.pos_embed.pos_embed.copy_(sincos_positions(4, 4, WIDTH)[None])  # which theirs computes in fp64

    network.vector_embed.register_forward_hook(lambda *call: call[2].retain_grad() or outputs.append(call[2]))
    outputs: list[Tensor] = []
    out = network(z, t, Conditioning(vector=vector))
    expected = reference(z, t, class_labels=torch.tensor([0, 1]), return_dict=False)[0]
    assert relative(out, expected) < tolerance

    out.square().sum().backward()
    expected.square().sum().backward()
    for mine, theirs in pairs.items():
        if not mine.endswith("to_k.bias"):  # whose gradient is zero: the same number for all scores of a row
            assert relative(network.get_parameter(mine).grad, reference.get_parameter(theirs).grad) < tolerance, mine
    labels = sum(embedder.class_embedder.embedding_table.weight.grad[:2] for embedder in embedders)
    assert outputs[0].grad is not None
    assert relative(outputs[0].grad, labels) < tolerance
    times = sum(embedder.timestep_embedder.linear_1.weight.grad for embedder in embedders)
    assert relative(network.time_embed[0].weight.grad, times) < tolerance


@pytest.mark.parametrize(
    ("dtype", "tolerance", "qk_norm"),
    [(torch.float32, 1e-5, False), (torch.float64, 1e-9, False), (torch.float32, 1e-5, True)],  # theirs norms in fp32
)
def test_outputs_and_gradients_are_those_of_sd3(dtype: torch.dtype, tolerance: float, qk_norm: bool) -> None:
    network = ours(dtype, tokens="joint", qk_norm=qk_norm)
    reference = diffusers.SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=DEPTH,
        attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS,
        joint_attention_dim=24,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=10,
        pos_embed_max_size=4,
        qk_norm="rms_norm" if qk_norm else None,
    ).to(dtype)
    names = {
        "patch_embed": "pos_embed.proj",
        "token_embed": "context_embedder",
        "time_embed.0": "time_text_embed.timestep_embedder.linear_1",
        "time_embed.2": "time_text_embed.timestep_embedder.linear_2",
        "vector_embed.0": "time_text_embed.text_embedder.linear_1",
        "vector_embed.2": "time_text_embed.text_embedder.linear_2",
        "last_modulation.linear": "norm_out.linear",
        "proj_out": "proj_out",
    }
    for index in range(DEPTH):
        mine, theirs = f"blocks.{index}", f"transformer_blocks.{index}"
        names[f"{mine}.image.modulation.linear"] = f"{theirs}.norm1.linear"
        names[f"{mine}.tokens.modulation.linear"] = f"{theirs}.norm1_context.linear"
        for stream, form, part in (("image", ATTENTION, "ff"), ("tokens", ADDED, "ff_context")):
            names |= {f"{mine}.{stream}.attention.{key}": f"{theirs}.attn.{value}" for key, value in form.items()}
            names |= {f"{mine}.{stream}.feed_forward.{k}": f"{theirs}.{part}.{v}" for k, v in FEED_FORWARD.items()}
        names |= {f"{mine}.tokens.{key}": f"{theirs}.attn.{value}" for key, value in ADDED.items()}
    pairs = renamed(network, names)
    assert len(pairs) == len(list(network.parameters()))
    scale_first = {"last_modulation.linear", f"blocks.{DEPTH - 1}.tokens.modulation.linear"}
    turned = {f"{name}.{kind}" for name in scale_first for kind in ("weight", "bias")}
    weights = {theirs: network.get_parameter(mine).data for mine, theirs in pairs.items()}
    weights |= {pairs[name]: swapped(weights[pairs[name]]) for name in turned}
    missing, unexpected = reference.load_state_dict(weights, strict=False)
    assert not unexpected
    reference.pos_embed.pos_embed.copy_(sincos_positions(4, 4, WIDTH)[None])  # which theirs computes in fp64
    unused = {"add_q_proj.weight", "add_q_proj.bias", "norm_added_q.weight"}  # queries of tokens that nobody hears
    last = f"transformer_blocks.{DEPTH - 1}.attn."
    assert set(missing) <= {"pos_embed.pos_embed", *(last + name for name in unused)}

    torch.manual_seed(3)
    z, t = torch.randn(2, 4, 8, 8, dtype=dtype), torch.tensor([17.0, 803.0])
    tokens, vector = torch.randn(2, 6, 24, dtype=dtype), torch.randn(2, 10, dtype=dtype)
    out = network(z, t, Conditioning(tokens=tokens, vector=vector))
    expected = reference(z, tokens, vector, t, return_dict=False)[0]
    assert relative(out, expected) < tolerance

    out.square().sum().backward()
    expected.square().sum().backward()
    for mine, theirs in pairs.items():
        gradient, other = network.get_parameter(mine).grad, reference.get_parameter(theirs).grad
        if qk_norm or not mine.endswith("to_k.bias"):
            assert relative(swapped(gradient) if mine in turned else gradient, other) < tolerance, mine

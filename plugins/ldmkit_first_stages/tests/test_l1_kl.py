"""L1 plus KL: both reductions, and the weight that carries one over into the other."""

from typing import Any

import pytest
import torch
from ldmkit_first_stages.l1_kl import L1KL

from ldmkit.errors import ConfigError
from ldmkit.registry.schema import typed
from ldmkit.values import Posterior, Reconstruction

IMAGE, LATENT = 3 * 16 * 16, 4 * 2 * 2


NODE = {"name": "l1-kl", "reconstruction": "l1", "reduction": "mean", "kl_weight": 0.5, "codebook_weight": 2.0}


def build(*, image_numel: int = IMAGE, latent_numel: int = LATENT, **changes: Any) -> L1KL:
    config = typed(L1KL.Config, {**NODE, **changes}, "loss")
    return L1KL(config, image_numel=image_numel, latent_numel=latent_numel, channels=3)


@pytest.fixture
def example() -> tuple[torch.Tensor, torch.Tensor, Posterior]:
    torch.manual_seed(0)
    images, reconstructions = torch.rand(2, 5, 3, 16, 16).mul(2).sub(1)
    return images, reconstructions, Posterior(torch.randn(5, 4, 2, 2), torch.rand(5, 4, 2, 2) + 0.1)


@pytest.mark.parametrize(("reconstruction", "power"), [("l1", 1), ("l2", 2)])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_terms_are_those_of_their_definitions(example, reconstruction: str, power: int, reduction: str) -> None:
    images, reconstructions, posterior = example
    loss, parts = build(reconstruction=reconstruction, reduction=reduction)(
        images, Reconstruction(reconstructions, posterior), step=1
    )
    normal = torch.distributions.Normal(posterior.mean, posterior.std)
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    errors = (images - reconstructions).abs() ** power
    expected = (errors.mean(), kl.mean()) if reduction == "mean" else (errors.sum() / 5, kl.sum() / 5)
    torch.testing.assert_close((parts["reconstruction"], parts["kl"]), expected)
    torch.testing.assert_close(loss, expected[0] + 0.5 * expected[1])


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_equivalent_weight_gives_the_same_loss_up_to_a_factor(example, reduction: str) -> None:
    images, reconstructions, posterior = example
    here = build(reduction=reduction)
    other = build(
        reduction={"sum": "mean", "mean": "sum"}[reduction], kl_weight=here.constants()["equivalent_kl_weight"]
    )
    losses = {
        each.config.reduction: each(images, Reconstruction(reconstructions, posterior), step=1)[0]
        for each in (here, other)
    }
    torch.testing.assert_close(losses["sum"], losses["mean"] * IMAGE)
    assert other.constants()["equivalent_kl_weight"] == pytest.approx(here.config.kl_weight)


@pytest.mark.parametrize(("latent", "weight"), [(4 * 32 * 32, 2.0833333e-8), (3 * 64 * 64, 6.25e-8)], ids=["f8", "f4"])
def test_the_papers_weight_has_its_known_equivalent(latent: int, weight: float) -> None:
    sums = build(reduction="sum", kl_weight=1e-6, image_numel=3 * 256 * 256, latent_numel=latent)
    assert sums.constants()["equivalent_kl_weight"] == pytest.approx(weight)
    means = build(reduction="mean", kl_weight=weight, image_numel=3 * 256 * 256, latent_numel=latent)
    assert means.constants()["equivalent_kl_weight"] == pytest.approx(1e-6)


def test_half_precision_reconstructions_are_compared_in_fp32(example) -> None:
    images, reconstructions, posterior = example
    half = reconstructions.bfloat16()
    loss, _ = build(reduction="sum")(images, Reconstruction(half, posterior), step=1)
    expected, _ = build(reduction="sum")(images, Reconstruction(half.float(), posterior), step=1)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_gradients_reach_reconstruction_and_posterior(example) -> None:
    images, reconstructions, posterior = example
    inputs = [tensor.requires_grad_() for tensor in (reconstructions, posterior.mean, posterior.std)]
    loss, parts = build(reduction="sum")(images, Reconstruction(reconstructions, posterior), step=1)
    loss.backward()
    # d|r - x|/dr = sign(r - x); d KL/d mean = mean; d KL/d std = std - 1 / std; each over the batch of 5.
    torch.testing.assert_close(inputs[0].grad, (reconstructions - images).sign().detach() / 5)
    torch.testing.assert_close(inputs[1].grad, 0.5 * posterior.mean.detach() / 5)
    torch.testing.assert_close(inputs[2].grad, 0.5 * (posterior.std - 1 / posterior.std).detach() / 5)
    assert not any(part.requires_grad for part in parts.values())


@pytest.mark.parametrize(("key", "value"), [("reconstruction", "huber"), ("reduction", "max")])
def test_a_wrong_value_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"loss.{key}: '{value}' is not one of its values"):
        build(**{key: value})


def test_a_weight_below_zero_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^loss.kl_weight is -1\.0 but must be 0 or more$"):
        build(kl_weight=-1.0)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_codebooks_penalty_counts_and_its_posterior_without_spread_has_no_kl(example, reduction: str) -> None:
    images, reconstructions, posterior = example
    codes = Posterior(posterior.mean, torch.zeros_like(posterior.std))
    loss, parts = build(reduction=reduction)(images, Reconstruction(reconstructions, codes, torch.tensor(0.3)), step=1)
    assert parts.keys() == {"reconstruction", "penalty"}
    # the penalty is a mean over the latent's elements, of which there are LATENT
    torch.testing.assert_close(parts["penalty"], torch.tensor(0.3 * (LATENT if reduction == "sum" else 1)))
    torch.testing.assert_close(loss, parts["reconstruction"] + 2.0 * parts["penalty"])

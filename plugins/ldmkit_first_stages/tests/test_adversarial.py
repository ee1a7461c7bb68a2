"""The adversarial game against its formulas, and the adaptive weight against a computation by hand."""

import numpy as np
import pytest
import torch
from ldmkit_first_stages.adversarial import (
    DiscriminatorConfig,
    PatchAdversary,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
)

CONFIG = DiscriminatorConfig(game="hinge", weight=0.5, start=10, layers=2, width=8, lr=1e-4, betas=(0.5, 0.9))


@pytest.fixture
def adversary() -> PatchAdversary:
    torch.manual_seed(0)
    return PatchAdversary(CONFIG, channels=3)


def logits(name: str) -> torch.Tensor:
    numbers = np.random.default_rng(["real", "fake"].index(name)).normal(scale=2, size=(4, 1, 5, 6))
    return torch.from_numpy(numbers).requires_grad_()


def test_hinge_is_its_closed_form() -> None:
    real, fake = logits("real"), logits("fake")
    r, f = real.detach().numpy(), fake.detach().numpy()
    expected = 0.5 * (np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean())
    assert discriminator_loss(real, fake, "hinge").item() == pytest.approx(expected, rel=1e-12)
    assert generator_loss(fake, "hinge").item() == pytest.approx(-f.mean(), rel=1e-12)


def test_vanilla_is_the_likelihood_of_a_logistic_classifier() -> None:
    real, fake = logits("real"), logits("fake")
    r, f = real.detach().numpy(), fake.detach().numpy()
    sigmoid_r, sigmoid_f = 1 / (1 + np.exp(-r)), 1 / (1 + np.exp(-f))
    expected = -0.5 * (np.log(sigmoid_r).mean() + np.log(1 - sigmoid_f).mean())
    assert discriminator_loss(real, fake, "vanilla").item() == pytest.approx(expected, rel=1e-12)
    assert generator_loss(fake, "vanilla").item() == pytest.approx(-np.log(sigmoid_f).mean(), rel=1e-12)


@pytest.mark.parametrize("game", ["hinge", "vanilla"])
def test_gradients_of_the_game_are_those_of_finite_differences(game: str) -> None:
    assert torch.autograd.gradcheck(lambda r, f: discriminator_loss(r, f, game), (logits("real"), logits("fake")))
    assert torch.autograd.gradcheck(lambda f: generator_loss(f, game), logits("fake"))


def test_a_sure_discriminator_stops_learning_with_hinge_and_still_teaches_the_generator() -> None:
    real, fake = torch.full((2, 1, 3, 3), 9.0), torch.full((2, 1, 3, 3), -9.0, requires_grad=True)
    assert discriminator_loss(real, fake, "hinge").item() == 0
    for game in ("hinge", "vanilla"):
        (gradient,) = torch.autograd.grad(generator_loss(fake, game), fake)
        torch.testing.assert_close(gradient, torch.full_like(fake, -1 / 18), rtol=1e-3, atol=0)


def by_hand(features: np.ndarray, images: np.ndarray, weights: np.ndarray, judge: np.ndarray) -> tuple[float, float]:
    """Norms at W of the gradients of mean |x - W f| and of -mean(judge . W f), for f (B, K, H, W) and W (C, K)."""
    made = np.einsum("ck,bkhw->bchw", weights, features)
    of_error = np.einsum("bchw,bkhw->ck", np.sign(made - images) / images.size, features)
    of_game = -np.einsum("c,bkhw->ck", judge, features) / (images.size / images.shape[1])
    return float(np.linalg.norm(of_error)), float(np.linalg.norm(of_game))


@pytest.mark.parametrize(
    ("scale", "expected"), [(1.0, None), (1e-9, 1e4), (0.0, 1e4)], ids=["plain", "limit", "nothing"]
)
def test_the_adaptive_weight_is_the_ratio_of_gradients_at_the_last_layer(scale: float, expected: float | None) -> None:
    random = np.random.default_rng(0)
    features, images = random.normal(size=(2, 5, 6, 7)), random.normal(size=(2, 3, 6, 7)) * 30
    weights, judge = random.normal(size=(3, 5)), random.normal(size=3) * scale
    of_error, of_game = by_hand(features, images, weights, judge)
    boost = 1.0 if expected is None else 1e3  # so that only the limit keeps the ratio down

    layer = torch.from_numpy(weights)[:, :, None, None].requires_grad_()
    made = torch.nn.functional.conv2d(torch.from_numpy(features), layer)
    likelihood = boost * (torch.from_numpy(images) - made).abs().mean()
    generator = -(made * torch.from_numpy(judge)[:, None, None]).sum(1).mean()
    weight = adaptive_weight(likelihood, generator, layer)

    ratio = boost * of_error / (of_game + 1e-4)
    assert weight.item() == pytest.approx(ratio if expected is None else expected, rel=1e-12)
    assert expected is None or ratio > 1e4
    assert not weight.requires_grad
    (likelihood + weight * generator).backward()  # the graph is still whole
    assert layer.grad is not None


def test_without_a_last_layer_the_adaptive_weight_is_one() -> None:
    made = torch.ones(1, requires_grad=True)
    assert adaptive_weight(made.sum(), made.sum(), None).item() == 1


def test_it_does_not_play_before_its_start(adversary: PatchAdversary) -> None:
    images = torch.zeros(2, 3, 32, 32)
    assert adversary(images, images, 9) is None
    assert adversary(images, images, 10) is not None
    assert not adversary.plays(0)


def test_its_turn_judges_both_kinds_of_pictures_and_teaches_only_itself(adversary: PatchAdversary) -> None:
    images = torch.randn(2, 3, 32, 32)
    made = torch.randn(2, 3, 32, 32, requires_grad=True)
    loss, parts = adversary(images, made, 10)
    loss.backward()
    with torch.no_grad():
        real, fake = adversary.discriminator(images), adversary.discriminator(made)
    assert loss.item() == pytest.approx(0.5 * ((1 - real).relu().mean() + (1 + fake).relu().mean()).item(), rel=1e-6)
    assert parts["logits_real"].item() == pytest.approx(real.mean().item(), rel=1e-5)
    assert parts["logits_fake"].item() == pytest.approx(fake.mean().item(), rel=1e-5)
    assert made.grad is None
    # within the margin the last bias pulls both ways alike, and its gradient is 0
    assert all(
        weight.grad.any() for name, weight in adversary.named_parameters() if name != "discriminator.main.8.bias"
    )


def test_the_first_stages_turn_gives_the_discriminator_no_gradient(adversary: PatchAdversary) -> None:
    made = torch.randn(2, 3, 32, 32, requires_grad=True)
    loss = adversary.generator_loss(made)
    loss.backward()
    assert loss.item() == pytest.approx(-adversary.discriminator(made).mean().item(), rel=1e-5)
    assert made.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in adversary.parameters())
    assert all(weight.requires_grad for weight in adversary.parameters())


def test_it_learns_to_tell_blurred_pictures_from_sharp_ones(adversary: PatchAdversary) -> None:
    torch.manual_seed(1)
    images = torch.rand(8, 3, 32, 32).mul(2).sub(1)
    blurred = torch.nn.functional.avg_pool2d(images, 5, stride=1, padding=2)
    optimizer = torch.optim.AdamW(adversary.parameters(), lr=1e-3, betas=adversary.optimizer.betas)
    for step in range(10, 40):
        loss, parts = adversary(images, blurred, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    assert parts["logits_real"].item() > 0.5
    assert parts["logits_fake"].item() < -0.5


def test_a_half_precision_turn_has_a_loss_in_fp32(adversary: PatchAdversary) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = adversary(torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32), 10)
        assert adversary.generator_loss(torch.randn(2, 3, 32, 32)).dtype == torch.float32
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("weight", -1.0, "weight is -1.0 but must be 0 or more"),
        ("start", -1, "start is -1 but must be 0 or more"),
        ("layers", 0, "layers is 0 but must be 1 or more"),
        ("lr", 0.0, "lr is 0.0 but must be more than 0"),
        ("betas", (0.5, 1.0), "betas.1 is 1.0 but must be at least 0 and below 1"),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(key: str, value: object, says: str) -> None:
    fields = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
    with pytest.raises(ValueError, match=f"^{says}$"):
        DiscriminatorConfig(**{**fields, key: value})

"""LPIPS as a loss: the package's own number, a frozen network, and gradients for the reconstructions alone."""

import re
import warnings
from collections.abc import Iterator

import pytest
import torch
from ldmkit_first_stages.perceptual import PerceptualDistance
from torch import nn

from ldmkit.torchvision_operators import declare_torchvision_operators


@pytest.fixture(scope="module")
def random() -> PerceptualDistance:
    return PerceptualDistance(None)


@pytest.fixture(scope="module")
def package() -> Iterator[nn.Module]:
    """The network of the package, built as its own documentation says, with random features of its own."""
    declare_torchvision_operators()
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        import lpips

        torch.manual_seed(0)
        yield lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)


def pictures(channels: int = 3, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(0)
    images = torch.rand(2, channels, side, side, generator=numbers) * 2 - 1
    return images, (images + 0.3 * torch.randn(images.shape, generator=numbers)).clamp(-1, 1)


def test_it_is_the_packages_own_distance_for_the_same_features(package: nn.Module) -> None:
    features = {
        re.sub(r"net\.slice\d\.", "features.", name): value
        for name, value in package.state_dict().items()
        if name.startswith("net.")
    }
    images, reconstructions = pictures()
    ours, theirs = reconstructions.clone().requires_grad_(), reconstructions.clone().requires_grad_()
    distance, expected = PerceptualDistance(features)(images, ours), package(images, theirs).flatten()
    assert torch.equal(distance, expected)
    distance.sum().backward()
    expected.sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_the_random_features_are_always_the_same_and_draw_nothing_global(random: PerceptualDistance) -> None:
    before = torch.get_rng_state()
    again = PerceptualDistance(None)
    assert torch.equal(before, torch.get_rng_state())
    images, reconstructions = pictures()
    assert torch.equal(random(images, reconstructions), again(images, reconstructions))


def test_random_features_begin_as_he_et_al_2015(random: PerceptualDistance) -> None:
    layers = [layer for layer in random.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    assert [layer.weight.shape[0] for layer in layers] == [64, 64, 128, 128, 256, 256, 256] + [512] * 6
    for layer in layers[1:]:
        assert layer.weight.std().item() == pytest.approx((2 / (9 * layer.weight.shape[0])) ** 0.5, rel=0.02)
        assert not layer.bias.any()


def test_it_grows_with_the_difference_and_is_zero_without(random: PerceptualDistance) -> None:
    images, reconstructions = pictures()
    near, far = (random(images, images + part * (reconstructions - images)) for part in (0.1, 1.0))
    assert (near > 0).all()
    assert (near < far).all()
    assert torch.equal(random(images, images), torch.zeros(2))


def test_it_stays_in_eval_mode_and_gives_the_same_number_twice_while_training(random: PerceptualDistance) -> None:
    around = nn.ModuleDict({"loss": random}).train()
    assert around.training
    assert not any(module.training for module in random.modules())
    images, reconstructions = pictures()
    assert torch.equal(random(images, reconstructions), random(images, reconstructions))


def test_it_has_nothing_to_train_and_nothing_to_save(random: PerceptualDistance) -> None:
    assert list(random.parameters()) == []
    assert random.state_dict() == {}
    random.load_state_dict({})
    assert sum(buffer.numel() for buffer in random.buffers()) > 14_000_000


def test_only_the_reconstructions_get_a_gradient(random: PerceptualDistance) -> None:
    images, reconstructions = pictures()
    distance = random(images, reconstructions.requires_grad_())
    distance.sum().backward()
    assert reconstructions.grad.abs().sum() > 0
    assert not any(buffer.requires_grad or buffer.grad is not None for buffer in random.buffers())


def test_its_gradient_is_that_of_finite_differences() -> None:
    network = PerceptualDistance(None).double()
    images, reconstructions = (each.double() for each in pictures(side=16))
    direction = torch.randn(reconstructions.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaf = reconstructions.clone().requires_grad_()
    network(images, leaf).sum().backward()
    step = 1e-7
    ahead, behind = (network(images, reconstructions + sign * step * direction).sum() for sign in (1, -1))
    torch.testing.assert_close((leaf.grad * direction).sum(), (ahead - behind) / (2 * step), rtol=1e-4, atol=0)


def test_identical_pictures_have_a_finite_gradient(random: PerceptualDistance) -> None:
    for value in (-1.0, 0.0, 1.0):
        images = torch.full((1, 3, 32, 32), value)
        made = images.clone().requires_grad_()
        random(images, made).sum().backward()
        assert made.grad.isfinite().all()


def test_pictures_of_one_channel_count_as_grey(random: PerceptualDistance) -> None:
    images, reconstructions = pictures(channels=1)
    grey = random(images.expand(-1, 3, -1, -1), reconstructions.expand(-1, 3, -1, -1))
    assert torch.equal(random(images, reconstructions), grey)


def test_it_computes_in_fp32_also_under_autocast(random: PerceptualDistance) -> None:
    images, reconstructions = pictures()
    expected = random(images, reconstructions)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(random(images, reconstructions), expected)

"""LPIPS as a loss: the package's own number, a frozen network, and gradients for the reconstructions alone."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from ldmkit.errors import CheckpointError
from ldmkit.pretrained.lpips import SMALLEST, Backbone, PerceptualDistance, find_backbone, pretrained
from ldmkit.pretrained.torchvision_operators import importing


@pytest.fixture(scope="module")
def random() -> PerceptualDistance:
    return PerceptualDistance("vgg", None)


def by_the_package(backbone: Backbone) -> nn.Module:
    """The network of the package, built as its own documentation says, with random features of its own."""
    with importing(), torch.random.fork_rng():
        import lpips

        torch.manual_seed(0)
        network: nn.Module = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
    return network


def features_of(package: nn.Module) -> dict[str, torch.Tensor]:
    """The features of the package's network by torchvision's names."""
    named = {name: value for name, value in package.state_dict().items() if name.startswith("net.")}
    return {re.sub(r"net\.slice\d\.", "features.", name): value.clone() for name, value in named.items()}


def pictures(channels: int = 3, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(0)
    images = torch.rand(2, channels, side, side, generator=numbers) * 2 - 1
    return images, (images + 0.3 * torch.randn(images.shape, generator=numbers)).clamp(-1, 1)


@pytest.mark.parametrize("backbone", ["vgg", "alex", "squeeze"])
def test_it_is_the_packages_own_distance_for_the_same_features(backbone: Backbone) -> None:
    package = by_the_package(backbone)
    images, reconstructions = pictures(side=SMALLEST[backbone])
    ours, theirs = reconstructions.clone().requires_grad_(), reconstructions.clone().requires_grad_()
    distance = PerceptualDistance(backbone, features_of(package))(images, ours)
    expected = package(images, theirs).flatten()
    assert torch.equal(distance, expected)
    distance.sum().backward()
    expected.sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_the_features_are_read_from_a_file_of_torchvisions_names(tmp_path: Path) -> None:
    features = {**features_of(by_the_package("alex")), "classifier.1.weight": torch.zeros(3)}
    file = find_backbone("alex", save(features, tmp_path), for_what="a", key="b", instead="c")
    images, reconstructions = pictures()
    expected = PerceptualDistance("alex", features)(images, reconstructions)
    assert torch.equal(pretrained("alex", file)(images, reconstructions), expected)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"features.0.weight": torch.zeros(1)}, r"is \(1,\) but expected"), ({}, "there is no 'features.0.weight'")],
)
def test_a_file_of_another_network_is_refused_by_name(change: dict, says: str, tmp_path: Path) -> None:
    features = features_of(by_the_package("alex"))
    del features["features.0.weight"]
    with pytest.raises(CheckpointError, match=f"alex.pth' does not hold the weights .*: .*{says}"):
        pretrained("alex", save({**features, **change}, tmp_path))


def save(features: dict[str, torch.Tensor], directory: Path) -> Path:
    file = directory / "alex.pth"
    torch.save(features, file)
    return file


def test_the_random_features_are_always_the_same_and_draw_nothing_global(random: PerceptualDistance) -> None:
    before = torch.get_rng_state()
    again = PerceptualDistance("vgg", None)
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
    network = PerceptualDistance("vgg", None).double()
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
